package etcdapi

import (
	"context"
	"fmt"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/flotilladb/flotilla/watchfeed"
)

// sessionTTL is that of leases that locks and elections make for callers who
// bring none, in seconds.
const sessionTTL = 60

// queue is what locks and elections are made of: keys under a prefix, one for
// each lease, whose order is that of their creation. The oldest holds the lock,
// or leads. The keys are those of etcd's client library, so that both may be used
// on one lock.
//
// It calls the services of this process, so that headers and checks are those of
// any client.
type queue struct {
	kv       pb.KVServer
	lease    pb.LeaseServer
	open     func(watchfeed.StreamConfig) (WatchStream, error)
	id       Identity
	config   watchfeed.StreamConfig
	timeout  time.Duration // of cleaning up
	draining context.Context
}

// session returns a lease for keys: the caller's, or a new one.
func (q *queue) session(ctx context.Context, lease int64) (int64, error) {
	if lease != 0 {
		return lease, nil
	}
	resp, err := q.lease.LeaseGrant(ctx, &pb.LeaseGrantRequest{TTL: sessionTTL})
	if err != nil {
		return 0, err
	}
	return resp.ID, nil
}

// prefixOf is where the keys of a lock or an election are.
func prefixOf(name []byte) []byte { return append(append([]byte(nil), name...), '/') }

// prefixEnd is the end of the span of a prefix, whose last byte is '/'.
func prefixEnd(prefix []byte) []byte {
	end := append([]byte(nil), prefix...)
	end[len(end)-1]++
	return end
}

// keyOf is the key of a lease.
func keyOf(prefix []byte, lease int64) []byte {
	return fmt.Appendf(append([]byte(nil), prefix...), "%x", lease)
}

func compareCreated(key []byte, revision int64) *pb.Compare {
	return &pb.Compare{
		Target: pb.Compare_CREATE, Result: pb.Compare_EQUAL, Key: key,
		TargetUnion: &pb.Compare_CreateRevision{CreateRevision: revision},
	}
}

func opPut(key, value []byte, lease int64) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: key, Value: value, Lease: lease}}}
}

func opRange(r *pb.RangeRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: r}}
}

// oldest asks for the key that holds.
func oldest(prefix []byte) *pb.RangeRequest {
	return &pb.RangeRequest{
		Key: prefix, RangeEnd: prefixEnd(prefix), Limit: 1,
		SortTarget: pb.RangeRequest_CREATE, SortOrder: pb.RangeRequest_ASCEND,
	}
}

// waitTurn waits until no key under a prefix is as old as a revision or older.
// It watches the youngest of them: each waits for the one before it, so that the
// end of one wakes one.
func (q *queue) waitTurn(ctx context.Context, prefix []byte, revision int64) error {
	for {
		resp, err := q.kv.Range(ctx, &pb.RangeRequest{
			Key: prefix, RangeEnd: prefixEnd(prefix), Limit: 1, MaxCreateRevision: revision,
			SortTarget: pb.RangeRequest_CREATE, SortOrder: pb.RangeRequest_DESCEND,
		})
		if err != nil || len(resp.Kvs) == 0 {
			return err
		}
		// Compaction is no reason to give up: it is looked at again.
		err = q.watch(ctx, watchfeed.CreateRequest{Key: resp.Kvs[0].Key, Start: resp.Header.Revision + 1, NoPut: true},
			func(*pb.ResponseHeader, *mvccpb.Event) (bool, error) { return false, nil })
		if err != nil {
			return err
		}
	}
}

// watch calls next with each event until it returns false, or until the watch
// cannot go on because its next revision is compacted.
func (q *queue) watch(
	ctx context.Context, req watchfeed.CreateRequest, next func(*pb.ResponseHeader, *mvccpb.Event) (bool, error),
) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(q.draining, func() { cancel(rpctypes.ErrGRPCStopped) })()
	stream, err := q.open(q.config)
	if err != nil {
		return toGRPC(err)
	}
	defer stream.Close()
	if err := stream.Create(req); err != nil {
		return toGRPC(err)
	}
	var buf []watchfeed.Response
	for {
		if buf, err = stream.Recv(ctx, buf[:0]); err != nil {
			if ctx.Err() != nil {
				err = context.Cause(ctx)
			}
			return toGRPC(err)
		}
		for i := range buf {
			switch r := &buf[i]; r.Kind {
			case watchfeed.Compacted:
				return nil
			case watchfeed.NoLeader, watchfeed.Canceled:
				return rpctypes.ErrGRPCNoLeader
			case watchfeed.Events:
				if more, err := q.events(r, next); err != nil || !more {
					return err
				}
			case watchfeed.Created, watchfeed.Progress, watchfeed.StreamProgress:
			}
		}
	}
}

func (q *queue) events(r *watchfeed.Response, next func(*pb.ResponseHeader, *mvccpb.Event) (bool, error)) (bool, error) {
	header := &pb.ResponseHeader{Revision: r.Revision}
	fillHeaderAt(q.id, &header)
	for _, e := range r.Events {
		ev := &mvccpb.Event{Kv: &mvccpb.KeyValue{
			Key: e.Key, Value: e.Value, CreateRevision: e.CreateRevision, ModRevision: e.Revision,
			Version: e.Version, Lease: e.Lease,
		}}
		if e.Tombstone {
			ev.Type = mvccpb.Event_DELETE
		}
		if more, err := next(header, ev); err != nil || !more {
			return false, err
		}
	}
	return true, nil
}

// cleanup is a context for what must be done though the caller has gone.
func (q *queue) cleanup(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), q.timeout)
}

// asClient turns an error of a service into what etcd's Lock and Election answer.
// There they are clients, and what a client makes of an error has its text but
// lost its code.
func asClient(err error) error {
	if known, ok := rpctypes.Error(err).(rpctypes.EtcdError); ok {
		return status.Error(codes.Unknown, known.Error())
	}
	return err
}
