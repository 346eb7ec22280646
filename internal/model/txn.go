package model

import (
	"bytes"
	"cmp"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

// branch is a transaction whose compares are decided.
type branch struct {
	succeeded bool
	ops       []*pb.RequestOp
	nested    map[*pb.TxnRequest]*branch
}

// txn executes a transaction in three passes: all compares, those of nested
// transactions included, on the state before it; then all that can refuse it;
// then the operations in order.
func (d *draft) txn(r *pb.TxnRequest) (*pb.TxnResponse, error) {
	b := d.decide(r)
	if err := d.checkBranch(b); err != nil {
		return nil, err
	}
	resp, err := d.run(b)
	if err != nil {
		return nil, err
	}
	resp.Header = header(d.now())
	return resp, nil
}

func (d *draft) decide(r *pb.TxnRequest) *branch {
	b := &branch{succeeded: true, ops: r.Success, nested: make(map[*pb.TxnRequest]*branch)}
	for _, c := range r.Compare {
		if !d.compare(c) {
			b.succeeded, b.ops = false, r.Failure
			break
		}
	}
	for _, op := range b.ops {
		if t := op.GetRequestTxn(); t != nil {
			b.nested[t] = d.decide(t)
		}
	}
	return b
}

// compare holds when it holds for every key in its range. A key that is not
// there compares as zeros, but never by value.
func (d *draft) compare(c *pb.Compare) bool {
	kvs := d.Live(c.Key, c.RangeEnd, d.now())
	if len(kvs) == 0 {
		if c.Target == pb.Compare_VALUE {
			return false
		}
		kvs = []*mvccpb.KeyValue{{}}
	}
	for _, kv := range kvs {
		if !holds(c.Result, order(c, kv)) {
			return false
		}
	}
	return true
}

// order is the sign of the pair's target against the compare's value. A value
// given for another target counts as none.
func order(c *pb.Compare, kv *mvccpb.KeyValue) int {
	switch c.Target {
	case pb.Compare_VERSION:
		return cmp.Compare(kv.Version, c.GetVersion())
	case pb.Compare_CREATE:
		return cmp.Compare(kv.CreateRevision, c.GetCreateRevision())
	case pb.Compare_MOD:
		return cmp.Compare(kv.ModRevision, c.GetModRevision())
	case pb.Compare_VALUE:
		return bytes.Compare(kv.Value, c.GetValue())
	case pb.Compare_LEASE:
		return cmp.Compare(kv.Lease, c.GetLease())
	default:
		return 0
	}
}

func holds(want pb.Compare_CompareResult, sign int) bool {
	switch want {
	case pb.Compare_EQUAL:
		return sign == 0
	case pb.Compare_GREATER:
		return sign > 0
	case pb.Compare_LESS:
		return sign < 0
	case pb.Compare_NOT_EQUAL:
		return sign != 0
	default:
		return true // etcd takes an unknown result as true
	}
}

// checkBranch refuses what could fail half-way.
func (d *draft) checkBranch(b *branch) error {
	for _, op := range b.ops {
		var err error
		switch {
		case op.GetRequestPut() != nil:
			err = d.checkPut(op.GetRequestPut())
		case op.GetRequestRange() != nil:
			err = d.checkRevision(op.GetRequestRange().Revision)
		case op.GetRequestTxn() != nil:
			err = d.checkBranch(b.nested[op.GetRequestTxn()])
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// checkRevision differs from a range alone: in a transaction a negative
// revision is compared with the compacted one too.
func (d *draft) checkRevision(rev int64) error {
	switch {
	case rev == 0:
		return nil
	case rev > d.revision:
		return rpctypes.ErrGRPCFutureRev
	case rev < d.compacted:
		return rpctypes.ErrGRPCCompacted
	default:
		return nil
	}
}

// run executes a checked branch. The header of a nested transaction stays
// empty, as in etcd.
//
// One fault shows only here: a put that keeps its key's value or lease, after
// the key was deleted by the same transaction. (A span without upper bound may
// delete what the transaction puts.) etcd 3.7.3 crashes there, at every restart
// again; the model refuses the transaction.
func (d *draft) run(b *branch) (*pb.TxnResponse, error) {
	resp := &pb.TxnResponse{Header: &pb.ResponseHeader{}, Succeeded: b.succeeded}
	for _, op := range b.ops {
		out, err := d.runOp(b, op)
		if err != nil {
			return nil, err
		}
		resp.Responses = append(resp.Responses, out)
	}
	return resp, nil
}

func (d *draft) runOp(b *branch, op *pb.RequestOp) (*pb.ResponseOp, error) {
	switch r := op.Request.(type) {
	case *pb.RequestOp_RequestRange:
		resp, err := d.rangeOf(r.RequestRange)
		return &pb.ResponseOp{Response: &pb.ResponseOp_ResponseRange{ResponseRange: resp}}, err
	case *pb.RequestOp_RequestPut:
		if err := d.checkPut(r.RequestPut); err != nil {
			return nil, err
		}
		return &pb.ResponseOp{Response: &pb.ResponseOp_ResponsePut{ResponsePut: d.put(r.RequestPut)}}, nil
	case *pb.RequestOp_RequestDeleteRange:
		return &pb.ResponseOp{Response: &pb.ResponseOp_ResponseDeleteRange{ResponseDeleteRange: d.deleteRange(r.RequestDeleteRange)}}, nil
	default:
		resp, err := d.run(b.nested[op.GetRequestTxn()])
		return &pb.ResponseOp{Response: &pb.ResponseOp_ResponseTxn{ResponseTxn: resp}}, err
	}
}

// crashesEtcd reports whether a transaction passes every check and then fails
// at a put; see run.
func crashesEtcd(s *State, r *pb.TxnRequest) bool {
	if s.check(r) != nil {
		return false
	}
	d := s.begin()
	b := d.decide(r)
	if d.checkBranch(b) != nil {
		return false
	}
	_, err := d.run(b)
	return err != nil
}
