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
	kv pb.KVClient
}

func newRemote(conn grpc.ClientConnInterface) *remote { return &remote{kv: pb.NewKVClient(conn)} }

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

// oracle answers from the model.
type oracle struct {
	state *model.State
}

func newOracle() (*oracle, error) {
	s, err := model.New(model.DefaultLimits())
	return &oracle{state: s}, err
}

func (o *oracle) do(_ context.Context, req any) (proto.Message, error) {
	next, resp, err := model.Step(o.state, req)
	o.state = next
	return resp, err
}
