package mvcc

import (
	"bytes"
	"cmp"
	"math"
	"sort"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
)

// RangePlan says how the rows of a RangeRequest are read.
type RangePlan struct {
	// Limit is how many rows are wanted, in key order, one more than the client
	// asked for to know whether there are more; 0 is all of them.
	Limit int64
	// KeysOnly says that neither values nor leases are wanted. etcd 3.7 answers
	// lease 0 then.
	KeysOnly bool
	// CountOnly says that no rows are wanted.
	CountOnly bool
}

// PlanRange says how to read for a request. With a sort order or a revision
// filter all rows are read, for the limit comes after them.
func PlanRange(r *pb.RangeRequest) RangePlan {
	p := RangePlan{
		KeysOnly:  r.KeysOnly && r.SortTarget != pb.RangeRequest_VALUE,
		CountOnly: r.CountOnly,
	}
	if r.Limit > 0 && isKeyOrder(r) && !hasFilters(r) {
		p.Limit = r.Limit
		if p.Limit < math.MaxInt64 {
			p.Limit++
		}
	}
	return p
}

// isKeyOrder reports whether the request asks for no order, or the one that
// rows are in. No order with a target other than the key counts as well, though
// FinishRange sorts it afterwards: etcd cuts it in key order first.
func isKeyOrder(r *pb.RangeRequest) bool {
	return r.SortOrder == pb.RangeRequest_NONE ||
		(r.SortTarget == pb.RangeRequest_KEY && r.SortOrder == pb.RangeRequest_ASCEND)
}

func hasFilters(r *pb.RangeRequest) bool {
	return r.MinModRevision != 0 || r.MaxModRevision != 0 || r.MinCreateRevision != 0 || r.MaxCreateRevision != 0
}

// MatchesFilters reports whether a row passes the request's revision filters, so
// that a long read can drop rows early.
func MatchesFilters(r *pb.RangeRequest, kv *mvccpb.KeyValue) bool {
	return (r.MaxModRevision == 0 || kv.ModRevision <= r.MaxModRevision) &&
		(r.MinModRevision == 0 || kv.ModRevision >= r.MinModRevision) &&
		(r.MaxCreateRevision == 0 || kv.CreateRevision <= r.MaxCreateRevision) &&
		(r.MinCreateRevision == 0 || kv.CreateRevision >= r.MinCreateRevision)
}

// FinishRange makes the response out of rows in key order that were read as
// PlanRange says: filters, sort, limit, more. count is of all live keys of the
// span, whatever the limit and the filters. kvs is used up.
func FinishRange(r *pb.RangeRequest, kvs []*mvccpb.KeyValue, count int64, rev Revision) *pb.RangeResponse {
	resp := &pb.RangeResponse{Header: &pb.ResponseHeader{Revision: int64(rev)}, Count: count}
	if r.CountOnly {
		return resp
	}
	if hasFilters(r) {
		kept := kvs[:0]
		for _, kv := range kvs {
			if MatchesFilters(r, kv) {
				kept = append(kept, kv)
			}
		}
		kvs = kept
	}
	sortRange(r, kvs)
	if r.Limit > 0 && int64(len(kvs)) > r.Limit {
		kvs = kvs[:r.Limit]
		resp.More = true
	}
	if r.KeysOnly {
		for _, kv := range kvs {
			kv.Value = nil
		}
	}
	resp.Kvs = kvs
	return resp
}

// sortRange sorts rows as a request wants them. Ties come in the order that
// the standard library's sort leaves them in: not promised by etcd, but the
// same as etcd's.
func sortRange(r *pb.RangeRequest, kvs []*mvccpb.KeyValue) {
	if r.SortTarget == pb.RangeRequest_KEY && r.SortOrder != pb.RangeRequest_DESCEND {
		return
	}
	rows := &rowSort{kvs: kvs}
	switch r.SortTarget {
	case pb.RangeRequest_KEY:
		rows.order = func(a, b *mvccpb.KeyValue) int { return bytes.Compare(a.Key, b.Key) }
	case pb.RangeRequest_VERSION:
		rows.order = func(a, b *mvccpb.KeyValue) int { return cmp.Compare(a.Version, b.Version) }
	case pb.RangeRequest_CREATE:
		rows.order = func(a, b *mvccpb.KeyValue) int { return cmp.Compare(a.CreateRevision, b.CreateRevision) }
	case pb.RangeRequest_MOD:
		rows.order = func(a, b *mvccpb.KeyValue) int { return cmp.Compare(a.ModRevision, b.ModRevision) }
	case pb.RangeRequest_VALUE:
		rows.order = func(a, b *mvccpb.KeyValue) int { return bytes.Compare(a.Value, b.Value) }
	default:
		return
	}
	if r.SortOrder == pb.RangeRequest_DESCEND {
		sort.Sort(sort.Reverse(rows))
	} else {
		sort.Sort(rows)
	}
}

type rowSort struct {
	kvs   []*mvccpb.KeyValue
	order func(a, b *mvccpb.KeyValue) int
}

func (s *rowSort) Len() int           { return len(s.kvs) }
func (s *rowSort) Swap(i, j int)      { s.kvs[i], s.kvs[j] = s.kvs[j], s.kvs[i] }
func (s *rowSort) Less(i, j int) bool { return s.order(s.kvs[i], s.kvs[j]) < 0 }
