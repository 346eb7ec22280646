package mvcc

import (
	"bytes"
	"cmp"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
)

// txnRun is the evaluation of one transaction. As in etcd it has three passes
// over the operations: choose the branch of every (nested) transaction on the
// state before, check the chosen operations on the state before, execute. So
// nothing can fail half way.
type txnRun struct {
	base State
	env  *Env
	path []bool // branches chosen, in the order in which the passes meet them
	done effects
	over txnState
}

func evaluateTxn(st State, env *Env, r *pb.TxnRequest) (Result, error) {
	t := &txnRun{base: st, env: env}
	if err := t.choose(r); err != nil {
		return Result{}, err
	}
	at := 0
	if err := t.check(r, &at); err != nil {
		return Result{}, err
	}
	at = 0
	resp, err := t.execute(r, &at)
	if err != nil {
		return Result{}, err
	}
	changed := t.done.sub != 0
	resp.Header.Revision = headerAt(env, changed).Revision
	return Result{Mutations: t.done.muts, Deletes: t.done.deletes, Response: resp, Changed: changed,
		Named: t.done.keys, NamedBytes: t.done.bytes}, nil
}

// branch returns the operations that run, and moves on in the path.
func (t *txnRun) branch(r *pb.TxnRequest, at *int) (ops []*pb.RequestOp, succeeded bool) {
	succeeded = t.path[*at]
	*at++
	if succeeded {
		return r.Success, true
	}
	return r.Failure, false
}

// choose appends the branch of r and of the transactions in it to the path.
func (t *txnRun) choose(r *pb.TxnRequest) error {
	at := len(t.path)
	succeeded := true
	for _, c := range r.Compare {
		ok, err := applyCompare(t.base, t.env, c)
		if err != nil {
			return err
		}
		if !ok {
			succeeded = false
			break
		}
	}
	t.path = append(t.path, succeeded)
	ops, _ := t.branch(r, &at)
	for _, op := range ops {
		if nested := op.GetRequestTxn(); nested != nil {
			if err := t.choose(nested); err != nil {
				return err
			}
		}
	}
	return nil
}

// check finds what would make an operation fail, in order.
func (t *txnRun) check(r *pb.TxnRequest, at *int) error {
	ops, _ := t.branch(r, at)
	for _, op := range ops {
		var err error
		switch o := op.Request.(type) {
		case *pb.RequestOp_RequestRange:
			err = checkRevision(t.env, o.RequestRange)
		case *pb.RequestOp_RequestPut:
			err = t.checkPut(o.RequestPut)
		case *pb.RequestOp_RequestTxn:
			err = t.check(o.RequestTxn, at)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (t *txnRun) checkPut(r *pb.PutRequest) error {
	if err := checkLease(t.env, r); err != nil {
		return err
	}
	if !r.IgnoreValue && !r.IgnoreLease {
		return nil
	}
	_, ok, err := t.base.Get(r.Key, Latest)
	if err == nil && !ok {
		err = ErrKeyNotFound
	}
	return err
}

// checkRevision finds out whether a range inside a transaction may read at the
// revision that it names. Unlike a range outside of one, a negative revision is
// not "the newest" here unless nothing was ever compacted: etcd's oddity.
func checkRevision(env *Env, r *pb.RangeRequest) error {
	switch rev := Revision(r.Revision); {
	case rev == 0:
		return nil
	case IsOpen(env.Revision) && rev > env.Known && rev < OpenRevision-1:
		return ErrWait
	case rev > env.Revision-1 || rev >= OpenRevision-1:
		return ErrFutureRevision
	case rev < env.Compacted:
		return ErrCompacted
	case env.Stale:
		return ErrWait
	}
	return nil
}

// execute runs the chosen operations in order. The header of the response has
// no revision: only the outermost transaction's has one.
func (t *txnRun) execute(r *pb.TxnRequest, at *int) (*pb.TxnResponse, error) {
	ops, succeeded := t.branch(r, at)
	resp := &pb.TxnResponse{
		Header:    &pb.ResponseHeader{},
		Succeeded: succeeded,
		Responses: make([]*pb.ResponseOp, len(ops)),
	}
	for i, op := range ops {
		out := &pb.ResponseOp{}
		resp.Responses[i] = out
		switch o := op.Request.(type) {
		case *pb.RequestOp_RequestRange:
			rr, err := t.rangeOp(o.RequestRange)
			if err != nil {
				return nil, err
			}
			out.Response = &pb.ResponseOp_ResponseRange{ResponseRange: rr}
		case *pb.RequestOp_RequestPut:
			b := &putBlock{}
			if err := put(t.state(), t.env, o.RequestPut, b, t.done.sub); err != nil {
				return nil, err
			}
			t.done.muts = append(t.done.muts, &b.mut)
			t.done.sub++
			out.Response = &pb.ResponseOp_ResponsePut{ResponsePut: &b.resp}
		case *pb.RequestOp_RequestDeleteRange:
			dr, err := t.done.deleteRange(t.state(), t.env, o.RequestDeleteRange)
			if err != nil {
				return nil, err
			}
			dr.Header = headerAt(t.env, t.done.sub != 0)
			out.Response = &pb.ResponseOp_ResponseDeleteRange{ResponseDeleteRange: dr}
		case *pb.RequestOp_RequestTxn:
			tr, err := t.execute(o.RequestTxn, at)
			if err != nil {
				return nil, err
			}
			out.Response = &pb.ResponseOp_ResponseTxn{ResponseTxn: tr}
		}
	}
	return resp, nil
}

// rangeOp runs a range inside the transaction.
func (t *txnRun) rangeOp(r *pb.RangeRequest) (*pb.RangeResponse, error) {
	at := Latest
	if r.Revision > 0 {
		at = Revision(r.Revision)
	}
	plan := PlanRange(r)
	var kvs []*mvccpb.KeyValue
	var count int64
	wait := false
	err := scanOp(t.state(), r.Key, r.RangeEnd, at, func(row *Row) bool {
		count++
		if plan.CountOnly || (plan.Limit > 0 && int64(len(kvs)) >= plan.Limit) {
			return true
		}
		wait = wait || filterWaits(t.env, r, row)
		if plan.KeysOnly {
			bare := *row
			bare.Value, bare.Lease = nil, 0
			row = &bare
		}
		kvs = append(kvs, rowKV(row))
		return true
	})
	if err != nil {
		return nil, err
	}
	if wait {
		return nil, ErrWait
	}
	return FinishRange(r, kvs, count, Revision(headerAt(t.env, t.done.sub != 0).Revision)), nil
}

// filterWaits reports whether a revision filter cannot be decided for a row.
func filterWaits(env *Env, r *pb.RangeRequest, row *Row) bool {
	known := int64(env.Known)
	return IsOpen(Revision(row.ModRevision)) && (r.MinModRevision > known || r.MaxModRevision > known) ||
		IsOpen(Revision(row.CreateRevision)) && (r.MinCreateRevision > known || r.MaxCreateRevision > known)
}

// applyCompare decides a compare on a state.
func applyCompare(st State, env *Env, c *pb.Compare) (ok bool, err error) {
	ok = true
	found := false
	var waits error
	err = scanOp(st, c.Key, c.RangeEnd, Latest, func(row *Row) bool {
		found = true
		ok, waits = compareRow(env, c, row)
		return ok && waits == nil
	})
	if err == nil {
		err = waits
	}
	if err != nil {
		return false, err
	}
	if !found {
		// A missing value cannot be named, so nothing is true of it; all else
		// of a missing key is 0.
		if c.Target == pb.Compare_VALUE {
			return false, nil
		}
		return compareRow(env, c, &Row{})
	}
	return ok, nil
}

// compareRow decides a compare for one key. A target or relation outside the
// enum is what etcd makes of it: equal, and true.
func compareRow(env *Env, c *pb.Compare, row *Row) (bool, error) {
	order := 0
	switch c.Target {
	case pb.Compare_VALUE:
		order = bytes.Compare(row.Value, c.GetValue())
	case pb.Compare_VERSION:
		order = cmp.Compare(row.Version, c.GetVersion())
	case pb.Compare_LEASE:
		order = cmp.Compare(row.Lease, c.GetLease())
	case pb.Compare_CREATE:
		if IsOpen(Revision(row.CreateRevision)) && c.GetCreateRevision() > int64(env.Known) {
			return false, ErrWait
		}
		order = cmp.Compare(row.CreateRevision, c.GetCreateRevision())
	case pb.Compare_MOD:
		if IsOpen(Revision(row.ModRevision)) && c.GetModRevision() > int64(env.Known) {
			return false, ErrWait
		}
		order = cmp.Compare(row.ModRevision, c.GetModRevision())
	}
	switch c.Result {
	case pb.Compare_EQUAL:
		return order == 0, nil
	case pb.Compare_NOT_EQUAL:
		return order != 0, nil
	case pb.Compare_GREATER:
		return order > 0, nil
	case pb.Compare_LESS:
		return order < 0, nil
	}
	return true, nil
}
