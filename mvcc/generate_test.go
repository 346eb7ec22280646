package mvcc

import (
	"fmt"
	"math/rand"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
)

// generator makes random requests over few keys, so that they meet. Shapes are
// mostly valid; revisions are around rev.
type generator struct {
	rng *rand.Rand
	rev int64
}

func (g *generator) one(n int) bool { return g.rng.Intn(n) == 0 }

func (g *generator) key() []byte {
	names := []string{"a", "aa", "b", "b\x00", "b\x00\x00", "c", "d", "e\xff", "\xff", "\xff\xff", "\x00"}
	return []byte(names[g.rng.Intn(len(names))])
}

func (g *generator) end() []byte {
	switch g.rng.Intn(6) {
	case 0, 1, 2:
		return nil
	case 3:
		return []byte{0}
	}
	return g.key()
}

func (g *generator) near() int64 {
	switch g.rng.Intn(8) {
	case 0:
		return -int64(g.rng.Intn(3))
	case 1:
		return g.rev + int64(g.rng.Intn(3))
	}
	return max(g.rev-int64(g.rng.Intn(12)), 0)
}

func (g *generator) value() []byte {
	if g.one(6) {
		return nil
	}
	return fmt.Appendf(nil, "v%d", g.rng.Intn(5))
}

func (g *generator) put() *pb.PutRequest {
	r := &pb.PutRequest{Key: g.key(), PrevKv: g.one(3), IgnoreValue: g.one(6), IgnoreLease: g.one(6)}
	if !r.IgnoreValue {
		r.Value = g.value()
	}
	if !r.IgnoreLease && g.one(3) {
		r.Lease = int64(g.rng.Intn(4)) // 3 does not exist
	}
	return r
}

func (g *generator) del() *pb.DeleteRangeRequest {
	return &pb.DeleteRangeRequest{Key: g.key(), RangeEnd: g.end(), PrevKv: g.one(2)}
}

func (g *generator) read() *pb.RangeRequest {
	r := &pb.RangeRequest{Key: g.key(), RangeEnd: g.end(), CountOnly: g.one(6), KeysOnly: g.one(4)}
	if g.one(2) {
		r.Limit = int64(g.rng.Intn(5)) - 1
	}
	if g.one(3) {
		r.Revision = g.near()
	}
	if g.one(3) {
		r.SortOrder = pb.RangeRequest_SortOrder(g.rng.Intn(3))
		r.SortTarget = pb.RangeRequest_SortTarget(g.rng.Intn(5))
	}
	if g.one(4) {
		for _, f := range []*int64{&r.MinModRevision, &r.MaxModRevision, &r.MinCreateRevision, &r.MaxCreateRevision} {
			if g.one(3) {
				*f = g.near()
			}
		}
	}
	return r
}

func (g *generator) compare() *pb.Compare {
	c := &pb.Compare{
		Result: pb.Compare_CompareResult(g.rng.Intn(5)), // 4 is not defined
		Target: pb.Compare_CompareTarget(g.rng.Intn(5)),
		Key:    g.key(),
	}
	if g.one(3) {
		c.RangeEnd = g.end()
	}
	target := int(c.Target)
	if g.one(10) {
		target = g.rng.Intn(5) // the constant of another target
	}
	switch target {
	case 0:
		c.TargetUnion = &pb.Compare_Version{Version: int64(g.rng.Intn(3))}
	case 1:
		c.TargetUnion = &pb.Compare_CreateRevision{CreateRevision: g.near()}
	case 2:
		c.TargetUnion = &pb.Compare_ModRevision{ModRevision: g.near()}
	case 3:
		c.TargetUnion = &pb.Compare_Value{Value: g.value()}
	case 4:
		c.TargetUnion = &pb.Compare_Lease{Lease: int64(g.rng.Intn(3))}
	}
	return c
}

func (g *generator) ops(depth int) []*pb.RequestOp {
	ops := make([]*pb.RequestOp, g.rng.Intn(5))
	for i := range ops {
		switch k := g.rng.Intn(10); {
		case k < 3:
			ops[i] = &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: g.read()}}
		case k < 6:
			ops[i] = &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: g.put()}}
		case k < 8 || depth == 0:
			ops[i] = &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: g.del()}}
		case g.one(20):
			ops[i] = &pb.RequestOp{}
		default:
			ops[i] = &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: g.txn(depth - 1)}}
		}
	}
	return ops
}

func (g *generator) txn(depth int) *pb.TxnRequest {
	r := &pb.TxnRequest{Success: g.ops(depth), Failure: g.ops(depth)}
	for range g.rng.Intn(3) {
		r.Compare = append(r.Compare, g.compare())
	}
	return r
}

func (g *generator) request() proto.Message {
	switch g.rng.Intn(10) {
	case 0, 1, 2:
		return g.put()
	case 3:
		return g.del()
	case 4:
		return g.read()
	}
	return g.txn(2)
}

// write makes a request that Evaluate takes.
func (g *generator) write() proto.Message {
	switch g.rng.Intn(10) {
	case 0, 1, 2, 3, 4:
		return g.put()
	case 5:
		return g.del()
	}
	return g.txn(2)
}
