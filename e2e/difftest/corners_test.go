package difftest

import (
	"bytes"
	"fmt"
	"math"

	"github.com/flotilladb/flotilla/internal/model"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// corners are requests that chance finds late: at the ends of numbers, and far
// above the limits on size. They run in this order.
func corners() []any {
	long := func(n int) []byte { return bytes.Repeat([]byte("x"), n) }
	everything := func(change func(*pb.RangeRequest)) *pb.RangeRequest {
		r := &pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}}
		change(r)
		return r
	}
	ops := func(n int) *pb.TxnRequest {
		r := &pb.TxnRequest{}
		for i := range n {
			r.Success = append(r.Success, &pb.RequestOp{Request: &pb.RequestOp_RequestPut{
				RequestPut: &pb.PutRequest{Key: fmt.Appendf(nil, "op/%03d", i), Value: long(1000)},
			}})
		}
		return r
	}
	reqs := []any{ops(128), ops(129), &pb.TxnRequest{}}
	for _, n := range []int64{math.MaxInt64, math.MinInt64, -1, 1} {
		reqs = append(reqs,
			everything(func(r *pb.RangeRequest) { r.Limit = n }),
			model.Stream{Range: everything(func(r *pb.RangeRequest) { r.Limit = n })},
			everything(func(r *pb.RangeRequest) { r.Revision = n }),
			model.Stream{Range: everything(func(r *pb.RangeRequest) { r.Revision = n })},
			everything(func(r *pb.RangeRequest) { r.MinModRevision = n }),
			everything(func(r *pb.RangeRequest) { r.MaxCreateRevision = n }),
			&pb.CompactionRequest{Revision: n},
			&pb.PutRequest{Key: []byte("lease"), Lease: n},
		)
	}
	const most = 1536 * 1024
	return append(reqs,
		&pb.CompactionRequest{},
		&pb.PutRequest{Key: []byte("big"), Value: long(most - 200)},
		&pb.PutRequest{Key: []byte("big"), Value: long(most + 200)},
		&pb.PutRequest{Key: []byte("big"), Value: long(3 << 20)},
		&pb.PutRequest{Key: long(100_000)},
		&pb.RangeRequest{Key: long(100_000)},
		&pb.RangeRequest{Key: long(most + 200)},
		&pb.RangeRequest{Key: long(3 << 20)},
		&pb.DeleteRangeRequest{Key: long(most + 200)},
		&pb.DeleteRangeRequest{Key: []byte("op/"), RangeEnd: []byte("op0"), PrevKv: true},
		&pb.DeleteRangeRequest{Key: []byte{0}, RangeEnd: []byte{0}, PrevKv: true},
		everything(func(*pb.RangeRequest) {}),
	)
}
