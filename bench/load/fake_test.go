package load

import (
	"bytes"
	"context"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	mvccpb "go.etcd.io/etcd/api/v3/mvccpb"

	"google.golang.org/grpc"
)

// fake is a server of as much of the API as the loads need, with one fault.
type fake struct {
	pb.UnimplementedKVServer
	pb.UnimplementedWatchServer
	pb.UnimplementedLeaseServer

	// deliver is called with each response to a watcher; it returns what is sent
	// instead. Called under the lock.
	deliver func(resp *pb.WatchResponse) []*pb.WatchResponse
	// renew returns the answer to a keepalive.
	renew func(resp *pb.LeaseKeepAliveResponse) *pb.LeaseKeepAliveResponse
	// expire returns in what parts the keys of a lease are deleted, each at a
	// revision of its own.
	expire func(keys []string) [][]string
	ttl    time.Duration // what a lease really lives, if not 0

	mu      sync.Mutex
	rev     int64
	kvs     map[string]*mvccpb.KeyValue
	history []*mvccpb.Event
	watches []*fakeWatch
	ends    map[int64]*time.Timer
	granted time.Duration
}

type fakeWatch struct {
	req *pb.WatchCreateRequest
	id  int64
	out chan *pb.WatchResponse
}

// serveFake runs a fake and returns where.
func serveFake(t *testing.T, f *fake) Target {
	f.rev, f.kvs, f.ends = 1, map[string]*mvccpb.KeyValue{}, map[int64]*time.Timer{}
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := grpc.NewServer()
	pb.RegisterKVServer(srv, f)
	pb.RegisterWatchServer(srv, f)
	pb.RegisterLeaseServer(srv, f)
	served := make(chan struct{})
	go func() { defer close(served); _ = srv.Serve(lis) }()
	t.Cleanup(func() { srv.Stop(); <-served })
	return Target{Endpoints: []string{lis.Addr().String()}, Conns: 1}
}

func (f *fake) Put(_ context.Context, r *pb.PutRequest) (*pb.PutResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rev++
	f.publish([]*mvccpb.Event{f.put(r)})
	return &pb.PutResponse{Header: &pb.ResponseHeader{Revision: f.rev}}, nil
}

func (f *fake) Txn(_ context.Context, r *pb.TxnRequest) (*pb.TxnResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rev++
	var events []*mvccpb.Event
	for _, op := range r.Success {
		events = append(events, f.put(op.GetRequestPut()))
	}
	f.publish(events)
	return &pb.TxnResponse{Header: &pb.ResponseHeader{Revision: f.rev}}, nil
}

func (f *fake) put(r *pb.PutRequest) *mvccpb.Event {
	prev := f.kvs[string(r.Key)]
	kv := &mvccpb.KeyValue{Key: r.Key, Value: r.Value, ModRevision: f.rev, Version: prev.GetVersion() + 1, Lease: r.Lease}
	f.kvs[string(r.Key)] = kv
	return &mvccpb.Event{Kv: kv, PrevKv: prev}
}

func (f *fake) Range(_ context.Context, r *pb.RangeRequest) (*pb.RangeResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	resp := &pb.RangeResponse{Header: &pb.ResponseHeader{Revision: f.rev}}
	for key := range f.kvs {
		if in([]byte(key), r.Key, r.RangeEnd) {
			resp.Count++
		}
	}
	return resp, nil
}

func in(key, start, end []byte) bool {
	switch {
	case len(end) == 0:
		return bytes.Equal(key, start)
	case len(end) == 1 && end[0] == 0:
		return bytes.Compare(key, start) >= 0
	}
	return bytes.Compare(key, start) >= 0 && bytes.Compare(key, end) < 0
}

func (f *fake) publish(events []*mvccpb.Event) {
	f.history = append(f.history, events...)
	for _, w := range f.watches {
		f.send(w, events)
	}
}

// send gives a watcher those of the events that it wants, which have one
// revision.
func (f *fake) send(w *fakeWatch, events []*mvccpb.Event) {
	resp := &pb.WatchResponse{WatchId: w.id}
	for _, ev := range events {
		if !in(ev.Kv.Key, w.req.Key, w.req.RangeEnd) || ev.Type == mvccpb.Event_PUT && len(w.req.Filters) > 0 {
			continue
		}
		if ev = (&mvccpb.Event{Type: ev.Type, Kv: ev.Kv, PrevKv: ev.PrevKv}); !w.req.PrevKv {
			ev.PrevKv = nil
		}
		resp.Events = append(resp.Events, ev)
	}
	if len(resp.Events) == 0 {
		return
	}
	resp.Header = &pb.ResponseHeader{Revision: resp.Events[0].Kv.ModRevision}
	f.out(w.out, resp)
}

func (f *fake) out(c chan *pb.WatchResponse, resp *pb.WatchResponse) {
	all := []*pb.WatchResponse{resp}
	if f.deliver != nil {
		all = f.deliver(resp)
	}
	for _, r := range all {
		c <- r
	}
}

func (f *fake) Watch(s pb.Watch_WatchServer) error {
	out := make(chan *pb.WatchResponse, 1<<16)
	go func() {
		for {
			r, err := s.Recv()
			if err != nil {
				return
			}
			f.mu.Lock()
			if c := r.GetCreateRequest(); c != nil {
				f.create(c, out)
			} else {
				f.out(out, &pb.WatchResponse{WatchId: -1, Header: &pb.ResponseHeader{Revision: f.rev}})
			}
			f.mu.Unlock()
		}
	}()
	for {
		select {
		case r := <-out:
			if err := s.Send(r); err != nil {
				return err
			}
		case <-s.Context().Done():
			return nil
		}
	}
}

func (f *fake) create(c *pb.WatchCreateRequest, out chan *pb.WatchResponse) {
	w := &fakeWatch{req: c, id: c.WatchId, out: out}
	f.watches = append(f.watches, w)
	out <- &pb.WatchResponse{WatchId: w.id, Created: true, Header: &pb.ResponseHeader{Revision: f.rev}}
	if c.StartRevision == 0 {
		return
	}
	for i := 0; i < len(f.history); {
		j := i
		for j < len(f.history) && f.history[j].Kv.ModRevision == f.history[i].Kv.ModRevision {
			j++
		}
		if f.history[i].Kv.ModRevision >= c.StartRevision {
			f.send(w, f.history[i:j])
		}
		i = j
	}
}

func (f *fake) LeaseGrant(_ context.Context, r *pb.LeaseGrantRequest) (*pb.LeaseGrantResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.granted = time.Duration(r.TTL) * time.Second // the same for all
	f.arm(r.ID, f.granted)
	return &pb.LeaseGrantResponse{ID: r.ID, TTL: r.TTL}, nil
}

func (f *fake) arm(id int64, ttl time.Duration) {
	if f.ttl != 0 {
		ttl = f.ttl
	}
	if old := f.ends[id]; old != nil {
		old.Stop()
	}
	f.ends[id] = time.AfterFunc(ttl, func() { f.end(id) })
}

func (f *fake) end(id int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var keys []string
	for key, kv := range f.kvs {
		if kv.Lease == id {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	parts := [][]string{keys}
	if f.expire != nil {
		parts = f.expire(keys)
	}
	for _, part := range parts {
		f.rev++
		var events []*mvccpb.Event
		for _, key := range part {
			delete(f.kvs, key)
			events = append(events, &mvccpb.Event{Type: mvccpb.Event_DELETE, Kv: &mvccpb.KeyValue{Key: []byte(key), ModRevision: f.rev}})
		}
		f.publish(events)
	}
}

func (f *fake) LeaseKeepAlive(s pb.Lease_LeaseKeepAliveServer) error {
	for {
		r, err := s.Recv()
		if err != nil {
			return nil
		}
		f.mu.Lock()
		if f.ends[r.ID] != nil {
			f.arm(r.ID, f.granted)
		}
		resp := &pb.LeaseKeepAliveResponse{ID: r.ID, TTL: 1}
		if f.renew != nil {
			resp = f.renew(resp)
		}
		f.mu.Unlock()
		if resp != nil {
			if err := s.Send(resp); err != nil {
				return nil
			}
		}
	}
}
