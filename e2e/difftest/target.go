package difftest

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/flotilladb/flotilla/internal/model"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
)

// target answers one request.
type target interface {
	do(ctx context.Context, req any) (proto.Message, error)
}

// remote is a server behind a connection.
type remote struct {
	kv    pb.KVClient
	lease pb.LeaseClient
	watch pb.WatchClient
}

func newRemote(conn grpc.ClientConnInterface) *remote {
	return &remote{kv: pb.NewKVClient(conn), lease: pb.NewLeaseClient(conn), watch: pb.NewWatchClient(conn)}
}

func (r *remote) do(ctx context.Context, req any) (proto.Message, error) {
	switch req := req.(type) {
	case *pb.RangeRequest:
		return r.kv.Range(ctx, req)
	case model.Stream:
		return r.stream(ctx, req.Range)
	case *pb.PutRequest:
		return r.kv.Put(ctx, req)
	case *pb.DeleteRangeRequest:
		return r.kv.DeleteRange(ctx, req)
	case *pb.TxnRequest:
		return r.kv.Txn(ctx, req)
	case *pb.CompactionRequest:
		return r.kv.Compact(ctx, req)
	case *pb.LeaseGrantRequest:
		return grant(ctx, r, func() (*pb.LeaseGrantResponse, error) { return r.lease.LeaseGrant(ctx, req) }, req)
	case *pb.LeaseRevokeRequest:
		return r.lease.LeaseRevoke(ctx, req)
	case *pb.LeaseKeepAliveRequest:
		return r.keepAlive(ctx, req)
	case *pb.LeaseTimeToLiveRequest:
		return r.lease.LeaseTimeToLive(ctx, req)
	case *pb.LeaseLeasesRequest:
		return r.lease.LeaseLeases(ctx, req)
	default:
		return nil, fmt.Errorf("no RPC for %T", req)
	}
}

// stream merges the chunks; where they are cut is the server's own affair.
func (r *remote) stream(ctx context.Context, req *pb.RangeRequest) (proto.Message, error) {
	s, err := r.kv.RangeStream(ctx, req)
	if err != nil {
		return nil, err
	}
	merged := &pb.RangeResponse{}
	for {
		chunk, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return merged, nil
		}
		if err != nil {
			return nil, err
		}
		proto.Merge(merged, chunk.RangeResponse)
	}
}

// grant ends a lease again whose id the server chose: another server chooses
// another, and then nothing about it could be compared.
func grant(ctx context.Context, t target, do func() (*pb.LeaseGrantResponse, error), req *pb.LeaseGrantRequest) (proto.Message, error) {
	chosen := req.ID == 0 // etcd writes into the request
	resp, err := do()
	if err != nil {
		return nil, err
	}
	if chosen {
		_, err = t.do(ctx, &pb.LeaseRevokeRequest{ID: resp.ID})
	}
	return resp, err
}

// keepAlive makes one exchange on a stream of its own.
func (r *remote) keepAlive(ctx context.Context, req *pb.LeaseKeepAliveRequest) (proto.Message, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s, err := r.lease.LeaseKeepAlive(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.Send(req); err != nil {
		return nil, err
	}
	return s.Recv()
}

// oracle answers from the model.
type oracle struct {
	state *model.State
}

func newOracle() (*oracle, error) {
	s, err := model.New(model.DefaultLimits())
	return &oracle{state: s}, err
}

func (o *oracle) do(ctx context.Context, req any) (proto.Message, error) {
	if r, ok := req.(*pb.LeaseGrantRequest); ok {
		return grant(ctx, o, func() (*pb.LeaseGrantResponse, error) {
			resp, err := o.step(r)
			if err != nil {
				return nil, err
			}
			return resp.(*pb.LeaseGrantResponse), nil
		}, r)
	}
	return o.step(req)
}

func (o *oracle) step(req any) (proto.Message, error) {
	next, resp, err := model.Step(o.state, req)
	o.state = next
	return resp, err
}
