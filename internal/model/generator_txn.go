package model

import (
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
)

// depthMax bounds the nesting of drawn transactions.
const depthMax = 3

// txn draws a transaction. Most have a handful of operations; a few have just
// as many as are allowed, or one more.
func (g *Generator) txn(s *State, depth int) *pb.TxnRequest {
	r := &pb.TxnRequest{}
	for range g.rng.IntN(3) {
		r.Compare = append(r.Compare, g.compare(s))
	}
	readOnly := g.oneIn(4)
	r.Success = g.ops(s, depth, readOnly)
	r.Failure = g.ops(s, depth, readOnly)
	if g.oneIn(200) {
		for range g.cfg.Limits.TxnOpsMax - len(r.Success) + g.rng.IntN(2) {
			r.Success = append(r.Success, &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: g.key()}}})
		}
	}
	return r
}

func (g *Generator) ops(s *State, depth int, readOnly bool) []*pb.RequestOp {
	var ops []*pb.RequestOp
	for range g.rng.IntN(5) {
		ops = append(ops, g.op(s, depth, readOnly))
	}
	return ops
}

func (g *Generator) op(s *State, depth int, readOnly bool) *pb.RequestOp {
	if g.invalid() && g.oneIn(8) {
		return &pb.RequestOp{}
	}
	n := g.rng.IntN(20)
	switch {
	case readOnly || n < 6:
		return &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: g.rangeRequest(s)}}
	case n < 14:
		return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: g.coldPut(s)}}
	case n < 18 || depth == depthMax:
		return &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: g.deleteRange()}}
	default:
		return &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: g.txn(s, depth+1)}}
	}
}

// coldPut mostly avoids the hot keys, on which most transactions would fail as
// duplicates.
func (g *Generator) coldPut(s *State) *pb.PutRequest {
	r := g.put(s)
	if len(r.Key) > 0 && !g.oneIn(5) {
		r.Key = g.keys[g.rng.IntN(len(g.keys))]
	}
	return r
}

// compare draws a condition on a key or span. Half of them name what the key
// holds, so that about half of the transactions succeed.
func (g *Generator) compare(s *State) *pb.Compare {
	c := &pb.Compare{
		Result: pb.Compare_CompareResult(g.rng.IntN(4)),
		Target: pb.Compare_CompareTarget(g.rng.IntN(5)),
		Key:    g.maybeKey(),
	}
	if g.oneIn(4) {
		c.Key, c.RangeEnd = g.span()
	}
	kv := &mvccpb.KeyValue{ModRevision: g.revision(s), CreateRevision: g.revision(s), Version: g.rng.Int64N(4), Value: g.value()}
	if found := g.present(s); found != nil && g.oneIn(2) {
		kv = found
		c.Key = kv.Key
	}
	g.fillTarget(c, kv)
	if g.invalid() {
		g.breakCompare(c)
	}
	return c
}

func (g *Generator) fillTarget(c *pb.Compare, kv *mvccpb.KeyValue) {
	switch c.Target {
	case pb.Compare_VERSION:
		c.TargetUnion = &pb.Compare_Version{Version: kv.Version}
	case pb.Compare_CREATE:
		c.TargetUnion = &pb.Compare_CreateRevision{CreateRevision: kv.CreateRevision}
	case pb.Compare_MOD:
		c.TargetUnion = &pb.Compare_ModRevision{ModRevision: kv.ModRevision}
	case pb.Compare_VALUE:
		c.TargetUnion = &pb.Compare_Value{Value: kv.Value}
	case pb.Compare_LEASE:
		c.TargetUnion = &pb.Compare_Lease{Lease: g.rng.Int64N(2)}
		if kv.Lease != 0 {
			c.TargetUnion = &pb.Compare_Lease{Lease: kv.Lease}
		}
	}
}

// breakCompare makes what no client library sends: values for another target
// and numbers outside the enums.
func (g *Generator) breakCompare(c *pb.Compare) {
	switch g.rng.IntN(4) {
	case 0:
		c.TargetUnion = nil
	case 1:
		c.TargetUnion = &pb.Compare_Version{Version: 1}
	case 2:
		c.Result = 9
	case 3:
		c.Target = 9
	}
}
