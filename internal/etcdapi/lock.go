package etcdapi

import (
	"context"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3lock/v3lockpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// errLockExpired is etcd's answer when the lease ended while its key waited.
var errLockExpired = status.Error(codes.Unknown, "mutex: session is expired")

// lockServer is the Lock service: a lock is held by the oldest key of a queue.
// It is advisory; who depends on it compares the create revision of its key.
type lockServer struct {
	v3lockpb.UnsafeLockServer

	*queue
}

// Lock returns when the lock is held, with the key that holds it. If it cannot
// be had, the key is taken away again.
func (s *lockServer) Lock(ctx context.Context, r *v3lockpb.LockRequest) (*v3lockpb.LockResponse, error) {
	if err := checkCaller(ctx, s.id); err != nil {
		return nil, err
	}
	lease, err := s.session(ctx, r.Lease)
	if err != nil {
		return nil, asClient(err)
	}
	prefix := prefixOf(r.Name)
	key := keyOf(prefix, lease)
	txn, err := s.kv.Txn(ctx, &pb.TxnRequest{
		Compare: []*pb.Compare{compareCreated(key, 0)},
		Success: []*pb.RequestOp{opPut(key, nil, lease), opRange(oldest(prefix))},
		Failure: []*pb.RequestOp{opRange(&pb.RangeRequest{Key: key}), opRange(oldest(prefix))},
	})
	if err != nil {
		return nil, asClient(err)
	}
	created := txn.Header.Revision
	if !txn.Succeeded {
		created = txn.Responses[0].GetResponseRange().Kvs[0].CreateRevision
	}
	if kvs := txn.Responses[1].GetResponseRange().Kvs; len(kvs) == 0 || kvs[0].CreateRevision == created {
		return &v3lockpb.LockResponse{Header: txn.Header, Key: key}, nil
	}
	header, err := s.wait(ctx, prefix, key, created)
	if err != nil {
		return nil, asClient(err)
	}
	return &v3lockpb.LockResponse{Header: header, Key: key}, nil
}

// wait waits until a key is the oldest, and looks whether it still is there.
func (s *lockServer) wait(ctx context.Context, prefix, key []byte, created int64) (*pb.ResponseHeader, error) {
	var got *pb.RangeResponse
	err := s.waitTurn(ctx, prefix, created-1)
	if err == nil {
		got, err = s.kv.Range(ctx, &pb.RangeRequest{Key: key})
	}
	if err != nil {
		ctx, cancel := s.cleanup(ctx)
		defer cancel()
		_, _ = s.kv.DeleteRange(ctx, &pb.DeleteRangeRequest{Key: key}) // its lease ends it otherwise
		return nil, err
	}
	if len(got.Kvs) == 0 {
		return nil, errLockExpired
	}
	return got.Header, nil
}

// Unlock deletes the key that holds a lock.
func (s *lockServer) Unlock(ctx context.Context, r *v3lockpb.UnlockRequest) (*v3lockpb.UnlockResponse, error) {
	if err := checkCaller(ctx, s.id); err != nil {
		return nil, err
	}
	resp, err := s.kv.DeleteRange(ctx, &pb.DeleteRangeRequest{Key: r.Key})
	if err != nil {
		return nil, asClient(err)
	}
	return &v3lockpb.UnlockResponse{Header: resp.Header}, nil
}
