package mvcc

import (
	"bytes"
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"github.com/flotilladb/flotilla/proto/peerpb"
)

// Access is a span of user keys that a request may touch.
type Access = peerpb.Access

// Footprint lists what a request may touch, in the order of the request: its
// compares and the operations of both branches, nested ones too. It is what a
// request is routed by, what a cross-range transaction locks, and what
// CollectRows reads for it. It shares keys with the request.
func Footprint(req proto.Message) []Access {
	switch r := req.(type) {
	case *pb.PutRequest:
		return []Access{putAccess(r)}
	case *pb.DeleteRangeRequest:
		return []Access{deleteAccess(r)}
	case *pb.RangeRequest:
		return []Access{rangeAccess(r)}
	case *pb.TxnRequest:
		return txnAccesses(r, make([]Access, 0, len(r.Compare)+len(r.Success)+len(r.Failure)))
	}
	return nil
}

func access(key, rangeEnd []byte) Access {
	start, end := opSpan(key, rangeEnd)
	return Access{Start: start, End: end}
}

func putAccess(r *pb.PutRequest) Access {
	a := access(r.Key, nil)
	a.Write, a.NeedValues = true, r.PrevKv || r.IgnoreValue
	return a
}

func deleteAccess(r *pb.DeleteRangeRequest) Access {
	a := access(r.Key, r.RangeEnd)
	a.Write, a.NeedValues = true, r.PrevKv
	return a
}

func rangeAccess(r *pb.RangeRequest) Access {
	a := access(r.Key, r.RangeEnd)
	plan := PlanRange(r)
	a.NeedValues = !plan.KeysOnly && !plan.CountOnly
	a.Revision = max(Revision(r.Revision), 0)
	return a
}

func compareAccess(c *pb.Compare) Access {
	a := access(c.Key, c.RangeEnd)
	a.NeedValues = c.Target == pb.Compare_VALUE
	return a
}

func txnAccesses(r *pb.TxnRequest, dst []Access) []Access {
	for _, c := range r.Compare {
		dst = append(dst, compareAccess(c))
	}
	for _, branch := range [][]*pb.RequestOp{r.Success, r.Failure} {
		for _, op := range branch {
			switch o := op.Request.(type) {
			case *pb.RequestOp_RequestRange:
				dst = append(dst, rangeAccess(o.RequestRange))
			case *pb.RequestOp_RequestPut:
				dst = append(dst, putAccess(o.RequestPut))
			case *pb.RequestOp_RequestDeleteRange:
				dst = append(dst, deleteAccess(o.RequestDeleteRange))
			case *pb.RequestOp_RequestTxn:
				dst = txnAccesses(o.RequestTxn, dst)
			}
		}
	}
	return dst
}

// LeaseUse is a key that a request may attach to a lease.
type LeaseUse = peerpb.LeaseUse

// Leases lists what a request may attach to leases, in any branch, in the order
// of the request. It shares keys with the request. For the many requests without
// a lease it allocates nothing.
func Leases(req proto.Message) []LeaseUse {
	switch r := req.(type) {
	case *pb.PutRequest:
		if r.Lease != 0 {
			return []LeaseUse{{Lease: r.Lease, Key: r.Key}}
		}
	case *pb.TxnRequest:
		return txnLeases(r, nil)
	}
	return nil
}

func txnLeases(r *pb.TxnRequest, dst []LeaseUse) []LeaseUse {
	for _, branch := range [2][]*pb.RequestOp{r.Success, r.Failure} {
		for _, op := range branch {
			switch o := op.Request.(type) {
			case *pb.RequestOp_RequestPut:
				if p := o.RequestPut; p.Lease != 0 {
					dst = append(dst, LeaseUse{Lease: p.Lease, Key: p.Key})
				}
			case *pb.RequestOp_RequestTxn:
				dst = txnLeases(o.RequestTxn, dst)
			}
		}
	}
	return dst
}

// TxnFootprint is Footprint for a request that is run as a transaction: it says
// of which deletes of spans the number of keys is enough to know. That is so
// where nothing else of the request writes: then no other operation changes what
// the delete finds, and the keys need not be named before they are deleted.
func TxnFootprint(req proto.Message) []Access {
	accesses := Footprint(req)
	var writes []*Access
	for i := range accesses {
		if a := &accesses[i]; a.Write && !emptySpan(a.Start, a.End) {
			writes = append(writes, a)
			a.Deletes = !isPoint(a) // puts are points
		}
	}
	slices.SortStableFunc(writes, func(a, b *Access) int { return bytes.Compare(a.Start, b.Start) })
	// last is the one of those before that ends last: who overlaps any of them
	// overlaps it, and they overlap each other.
	var last *Access
	for _, a := range writes {
		if last != nil && (len(last.End) == 0 || bytes.Compare(a.Start, last.End) < 0) {
			a.Deletes, last.Deletes = false, false
		}
		if last == nil || len(last.End) != 0 && (len(a.End) == 0 || bytes.Compare(a.End, last.End) > 0) {
			last = a
		}
	}
	return accesses
}

// isPoint reports whether an access is of one key.
func isPoint(a *Access) bool {
	n := len(a.Start)
	return len(a.End) == n+1 && a.End[n] == 0 && bytes.HasPrefix(a.End, a.Start)
}

// IsReadOnly reports whether a transaction has no put or delete in any branch:
// then it is a read at one revision. (etcd counts a nested transaction as a
// write here; what a client sees is the same.)
func IsReadOnly(r *pb.TxnRequest) bool {
	for _, branch := range [][]*pb.RequestOp{r.Success, r.Failure} {
		for _, op := range branch {
			switch o := op.Request.(type) {
			case *pb.RequestOp_RequestRange:
			case *pb.RequestOp_RequestTxn:
				if !IsReadOnly(o.RequestTxn) {
					return false
				}
			default:
				return false
			}
		}
	}
	return true
}

// IsSerializable reports whether a read-only transaction may be answered from a
// state that is not the newest: whether all its operations say so. One with a
// nested transaction may not.
func IsSerializable(r *pb.TxnRequest) bool {
	for _, branch := range [][]*pb.RequestOp{r.Success, r.Failure} {
		for _, op := range branch {
			if rr := op.GetRequestRange(); rr == nil || !rr.Serializable {
				return false
			}
		}
	}
	return true
}
