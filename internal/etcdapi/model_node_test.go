package etcdapi

import (
	"bytes"
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"

	"github.com/flotilladb/flotilla/internal/clock"
	"github.com/flotilladb/flotilla/internal/model"
	"github.com/flotilladb/flotilla/lease"
	"github.com/flotilladb/flotilla/watchfeed"
)

// modelNode is a node made of the model: a KV with history, leases that never
// expire by themselves, and watches that are always up to date.
type modelNode struct {
	*fakeNode

	mu      sync.Mutex
	state   *model.State
	leases  map[int64]int64  // TTL by id
	leased  map[string]int64 // lease by key
	nextID  int64
	streams []*modelStream
	// renewedAt is the time of a renewal that said when it had arrived.
	renewedAt atomic.Int64
}

func newModelNode(t testing.TB) *modelNode {
	s, err := model.New(model.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	return &modelNode{
		fakeNode: newFakeNode(), state: s, nextID: 100,
		leases: make(map[int64]int64), leased: make(map[string]int64),
	}
}

func (n *modelNode) config(t testing.TB) Config {
	cfg := testConfig(t, n.fakeNode)
	cfg.KV, cfg.Identity, cfg.Leases, cfg.OpenWatches = n, n, n, n.open
	return cfg
}

func (n *modelNode) Revision() int64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.state.Revision()
}

// takeLease notes and takes out the lease of a put, which the model knows not.
func (n *modelNode) takeLease(r *pb.PutRequest) error {
	if _, ok := n.leases[r.Lease]; r.Lease != 0 && !ok {
		return lease.ErrNotFound
	}
	delete(n.leased, string(r.Key))
	if r.Lease != 0 {
		n.leased[string(r.Key)] = r.Lease
	}
	r.Lease = 0
	return nil
}

func step[R proto.Message](n *modelNode, req proto.Message) (none R, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := n.err; err != nil {
		return none, err
	}
	req = proto.Clone(req)
	switch r := req.(type) {
	case *pb.PutRequest:
		err = n.takeLease(r)
	case *pb.TxnRequest:
		for _, op := range r.Success {
			if put := op.GetRequestPut(); put != nil && err == nil {
				err = n.takeLease(put)
			}
		}
	}
	if err != nil {
		return none, err
	}
	next, resp, err := model.Step(n.state, req)
	if err != nil {
		return none, err
	}
	n.state = next
	n.pumpLocked()
	return proto.Clone(resp).(R), nil
}

func (n *modelNode) Range(_ context.Context, r *pb.RangeRequest) (*pb.RangeResponse, error) {
	return step[*pb.RangeResponse](n, r)
}

func (n *modelNode) Put(_ context.Context, r *pb.PutRequest) (*pb.PutResponse, error) {
	return step[*pb.PutResponse](n, r)
}

func (n *modelNode) DeleteRange(_ context.Context, r *pb.DeleteRangeRequest) (*pb.DeleteRangeResponse, error) {
	return step[*pb.DeleteRangeResponse](n, r)
}

func (n *modelNode) Txn(_ context.Context, r *pb.TxnRequest) (*pb.TxnResponse, error) {
	return step[*pb.TxnResponse](n, r)
}

func (n *modelNode) Compact(_ context.Context, r *pb.CompactionRequest) (*pb.CompactionResponse, error) {
	return step[*pb.CompactionResponse](n, r)
}

func (n *modelNode) LeaseGrant(_ context.Context, r *pb.LeaseGrantRequest) (*pb.LeaseGrantResponse, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	id, ttl := r.ID, max(r.TTL, 2)
	if id == 0 {
		n.nextID++
		id = n.nextID
	}
	if r.TTL > 9_000_000_000 {
		return nil, lease.ErrTTLTooLarge
	}
	if _, ok := n.leases[id]; ok {
		return nil, lease.ErrExists
	}
	n.leases[id] = ttl
	return &pb.LeaseGrantResponse{ID: id, TTL: ttl}, nil
}

func (n *modelNode) keysOf(id int64) (keys [][]byte) {
	for key, l := range n.leased {
		if l == id && len(n.state.Live([]byte(key), nil, n.state.Revision())) > 0 {
			keys = append(keys, []byte(key))
		}
	}
	slices.SortFunc(keys, bytes.Compare)
	return keys
}

func (n *modelNode) LeaseRevoke(_ context.Context, r *pb.LeaseRevokeRequest) (*pb.LeaseRevokeResponse, error) {
	n.mu.Lock()
	if _, ok := n.leases[r.ID]; !ok {
		n.mu.Unlock()
		return nil, lease.ErrNotFound
	}
	txn := &pb.TxnRequest{}
	for _, key := range n.keysOf(r.ID) {
		txn.Success = append(txn.Success, &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{
			RequestDeleteRange: &pb.DeleteRangeRequest{Key: key},
		}})
	}
	delete(n.leases, r.ID)
	n.mu.Unlock()
	_, err := step[*pb.TxnResponse](n, txn)
	return &pb.LeaseRevokeResponse{}, err
}

func (n *modelNode) LeaseRenew(_ context.Context, id int64, at clock.Time) (int64, error) {
	if at != 0 {
		n.renewedAt.Store(int64(at))
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	ttl, ok := n.leases[id]
	if !ok {
		return 0, lease.ErrNotFound
	}
	return ttl, n.err
}

func (n *modelNode) LeaseTimeToLive(_ context.Context, r *pb.LeaseTimeToLiveRequest) (*pb.LeaseTimeToLiveResponse, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	ttl, ok := n.leases[r.ID]
	if !ok {
		return nil, lease.ErrNotFound
	}
	resp := &pb.LeaseTimeToLiveResponse{ID: r.ID, TTL: ttl - 1, GrantedTTL: ttl}
	if r.Keys {
		resp.Keys = n.keysOf(r.ID)
	}
	return resp, n.err
}

func (n *modelNode) LeaseLeases(context.Context, *pb.LeaseLeasesRequest) (*pb.LeaseLeasesResponse, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	resp := &pb.LeaseLeasesResponse{}
	for id := range n.leases {
		resp.Leases = append(resp.Leases, &pb.LeaseStatus{ID: id})
	}
	slices.SortFunc(resp.Leases, func(a, b *pb.LeaseStatus) int { return int(a.ID - b.ID) })
	return resp, n.err
}

// modelStream is a fakeHub that is told of what happens.
type modelStream struct {
	*fakeHub
	node    *modelNode
	watches []*modelWatch
}

type modelWatch struct {
	watchfeed.CreateRequest
	next int64
}

func (n *modelNode) open(watchfeed.StreamConfig) (WatchStream, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	s := &modelStream{fakeHub: newFakeHub(), node: n}
	n.streams = append(n.streams, s)
	return s, nil
}

func (s *modelStream) Create(r watchfeed.CreateRequest) error {
	n := s.node
	n.mu.Lock()
	defer n.mu.Unlock()
	w := &modelWatch{CreateRequest: r, next: r.Start}
	if r.Start == 0 {
		w.next = n.state.Revision() + 1
	}
	s.push(watchfeed.Response{Kind: watchfeed.Created, ID: r.ID, Revision: n.state.Revision()})
	if w.next < n.state.Compacted() {
		s.push(watchfeed.Response{Kind: watchfeed.Compacted, ID: r.ID, CompactRevision: n.state.Compacted()})
		return nil
	}
	s.watches = append(s.watches, w)
	n.pumpLocked()
	return nil
}

func (s *modelStream) Cancel(id int64) {
	s.node.mu.Lock()
	defer s.node.mu.Unlock()
	before := len(s.watches)
	s.watches = slices.DeleteFunc(s.watches, func(w *modelWatch) bool { return w.ID == id })
	if len(s.watches) < before {
		s.push(watchfeed.Response{Kind: watchfeed.Canceled, ID: id, Revision: s.node.state.Revision()})
	}
}

func (s *modelStream) RequestProgress() {
	s.push(watchfeed.Response{Kind: watchfeed.StreamProgress, Revision: s.node.Revision()})
}

func (s *modelStream) Close() {
	s.node.mu.Lock()
	defer s.node.mu.Unlock()
	s.watches = nil
	s.node.streams = slices.DeleteFunc(s.node.streams, func(o *modelStream) bool { return o == s })
}

// pumpLocked tells all watches what they have not heard of.
func (n *modelNode) pumpLocked() {
	for _, s := range n.streams {
		for _, w := range s.watches {
			n.tellLocked(s, w)
		}
	}
}

func (n *modelNode) tellLocked(s *modelStream, w *modelWatch) {
	now := n.state.Revision()
	if w.next > now {
		return
	}
	var r watchfeed.Response
	flush := func() {
		if len(r.Events) > 0 {
			s.push(r)
		}
	}
	for _, e := range n.state.Events(w.next-1, now) {
		in := bytes.Equal(e.Key, w.Key)
		if w.End != nil {
			in = bytes.Compare(e.Key, w.Key) >= 0 && (len(w.End) == 0 || bytes.Compare(e.Key, w.End) < 0)
		}
		if !in || e.KV == nil && w.NoDelete || e.KV != nil && w.NoPut {
			continue
		}
		ev := &mvccpb.Event{Kv: e.KV}
		if e.KV == nil {
			ev = &mvccpb.Event{Type: mvccpb.Event_DELETE, Kv: &mvccpb.KeyValue{Key: e.Key, ModRevision: e.Main}}
		}
		if old := n.state.Live(e.Key, nil, e.Main-1); len(old) > 0 {
			ev.PrevKv = old[0]
		}
		if e.Main != r.Revision {
			flush()
			r = watchfeed.Response{
				Kind: watchfeed.Events, ID: w.ID, Revision: e.Main, PrevKV: w.PrevKV, Fragment: w.Fragment,
			}
		}
		r.Events = append(r.Events, testEvent(ev))
	}
	flush()
	w.next = now + 1
}
