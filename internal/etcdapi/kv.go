package etcdapi

import (
	"context"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/flotilladb/flotilla/mvcc"
)

// kvServer is the KV service. A request with several faults gets the answer to
// the first in etcd's order: caller, quota, shape, size, then what KV finds.
type kvServer struct {
	pb.UnsafeKVServer // a method that etcd adds is an error at compile time

	kv              KV
	id              Identity
	quota           Quota
	maxTxnOps       int
	maxRequestBytes int
}

// fits asks the quota; a cost of 0 always fits.
func (s *kvServer) fits(costBytes int64) error {
	if s.quota == nil || costBytes == 0 || s.quota.Available(costBytes) {
		return nil
	}
	return rpctypes.ErrGRPCNoSpace
}

// Range reads a key or a span of keys at one revision.
func (s *kvServer) Range(ctx context.Context, r *pb.RangeRequest) (*pb.RangeResponse, error) {
	if err := checkCaller(ctx, s.id); err != nil {
		return nil, err
	}
	if err := mvcc.ValidateRange(r); err != nil {
		return nil, toGRPC(err)
	}
	resp, err := s.kv.Range(ctx, r)
	if err != nil {
		return nil, toGRPC(err)
	}
	fillHeader(s.id, &resp.Header)
	return resp, nil
}

// RangeStream is Range whose answer comes in pieces.
func (s *kvServer) RangeStream(r *pb.RangeRequest, stream pb.KV_RangeStreamServer) error {
	if err := checkCaller(stream.Context(), s.id); err != nil {
		return err
	}
	if err := mvcc.ValidateRangeStream(r); err != nil {
		return toGRPC(err)
	}
	err := s.kv.RangeStream(stream.Context(), r, func(piece *pb.RangeResponse) error {
		if piece.Header != nil {
			fillHeaderAt(s.id, &piece.Header) // the revision is the one that was read at
		}
		return stream.Send(&pb.RangeStreamResponse{RangeResponse: piece})
	})
	return toGRPC(err)
}

// Put writes one key.
func (s *kvServer) Put(ctx context.Context, r *pb.PutRequest) (*pb.PutResponse, error) {
	if err := checkCaller(ctx, s.id); err != nil {
		return nil, err
	}
	if err := s.fits(putCost(r)); err != nil {
		return nil, err
	}
	if err := mvcc.ValidatePut(r); err != nil {
		return nil, toGRPC(err)
	}
	if tooLarge(r, aboutPut(r), s.maxRequestBytes) {
		return nil, rpctypes.ErrGRPCRequestTooLarge
	}
	resp, err := s.kv.Put(ctx, r)
	if err != nil {
		return nil, toGRPC(err)
	}
	fillHeader(s.id, &resp.Header)
	return resp, nil
}

// DeleteRange deletes a key or a span of keys at one revision.
func (s *kvServer) DeleteRange(ctx context.Context, r *pb.DeleteRangeRequest) (*pb.DeleteRangeResponse, error) {
	if err := checkCaller(ctx, s.id); err != nil {
		return nil, err
	}
	if err := mvcc.ValidateDelete(r); err != nil {
		return nil, toGRPC(err)
	}
	if tooLarge(r, aboutDelete(r), s.maxRequestBytes) {
		return nil, rpctypes.ErrGRPCRequestTooLarge
	}
	resp, err := s.kv.DeleteRange(ctx, r)
	if err != nil {
		return nil, toGRPC(err)
	}
	fillHeader(s.id, &resp.Header)
	return resp, nil
}

// Txn compares and then does the one or the other list of operations, all at
// one revision.
func (s *kvServer) Txn(ctx context.Context, r *pb.TxnRequest) (*pb.TxnResponse, error) {
	if err := checkCaller(ctx, s.id); err != nil {
		return nil, err
	}
	if s.quota != nil {
		if err := s.fits(txnCost(r)); err != nil {
			return nil, err
		}
	}
	if err := mvcc.ValidateTxn(r, s.maxTxnOps); err != nil {
		return nil, toGRPC(err)
	}
	if !readOnly(r) && tooLarge(r, aboutTxn(r), s.maxRequestBytes) {
		return nil, rpctypes.ErrGRPCRequestTooLarge
	}
	resp, err := s.kv.Txn(ctx, r)
	if err != nil {
		return nil, toGRPC(err)
	}
	fillHeader(s.id, &resp.Header)
	return resp, nil
}

// Compact gives up the history before a revision.
func (s *kvServer) Compact(ctx context.Context, r *pb.CompactionRequest) (*pb.CompactionResponse, error) {
	if err := checkCaller(ctx, s.id); err != nil {
		return nil, err
	}
	resp, err := s.kv.Compact(ctx, r)
	if err != nil {
		return nil, toGRPC(err)
	}
	fillHeader(s.id, &resp.Header)
	return resp, nil
}
