package router

import (
	"bytes"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/proto/metapb"
)

// piece is the part of a span that lies in one range.
type piece struct {
	desc *metapb.Descriptor
	span metapb.Span // addresses, inside desc
}

// divide cuts a span of addresses at the borders of the ranges, in order. It
// fails with ErrNoRange if the cache has a gap in the span. An empty span has no
// pieces.
func divide(c *Cache, dst []piece, span metapb.Span) ([]piece, error) {
	for at := span.Start; len(span.End) == 0 || bytes.Compare(at, span.End) < 0; {
		d := c.Lookup(at)
		if d == nil {
			return dst, ErrNoRange
		}
		part, _ := d.Span().Intersect(metapb.Span{Start: at, End: span.End})
		dst = append(dst, piece{desc: d, span: part})
		if len(d.End) == 0 {
			break
		}
		at = d.End
	}
	return dst, nil
}

// bounds gives etcd's (key, range_end) as user keys [start, end); end is nil for
// the end of the keyspace. point says that the span is the one key start, and
// then end is not set.
func bounds(key, rangeEnd []byte) (start, end []byte, point bool) {
	switch {
	case len(rangeEnd) == 0:
		return key, nil, true
	case len(rangeEnd) == 1 && rangeEnd[0] == 0:
		return key, nil, false
	}
	return key, rangeEnd, false
}

// userSpan is the span of addresses of etcd's (key, range_end).
func userSpan(key, rangeEnd []byte) metapb.Span {
	start, end, point := bounds(key, rangeEnd)
	if point {
		return keys.UserKeySpan(start)
	}
	return keys.UserSpan(start, end)
}

// visitSpans calls fn with the (key, range_end) of everything that a request
// compares, reads or writes in any branch, until fn returns false. A span that
// can hold nothing is passed over, unless it is all that there is: every request
// has some range to go to.
func visitSpans(req proto.Message, fn func(key, rangeEnd []byte) bool) bool {
	switch q := req.(type) {
	case *pb.PutRequest:
		return fn(q.Key, nil)
	case *pb.RangeRequest:
		return fn(q.Key, q.RangeEnd)
	case *pb.DeleteRangeRequest:
		return fn(q.Key, q.RangeEnd)
	case *pb.TxnRequest:
		for _, c := range q.Compare {
			if !fn(c.Key, c.RangeEnd) {
				return false
			}
		}
		return visitOps(q.Success, fn) && visitOps(q.Failure, fn)
	}
	return true
}

func visitOps(ops []*pb.RequestOp, fn func(key, rangeEnd []byte) bool) bool {
	for _, op := range ops {
		var ok bool
		switch o := op.Request.(type) {
		case *pb.RequestOp_RequestPut:
			ok = fn(o.RequestPut.Key, nil)
		case *pb.RequestOp_RequestRange:
			ok = fn(o.RequestRange.Key, o.RequestRange.RangeEnd)
		case *pb.RequestOp_RequestDeleteRange:
			ok = fn(o.RequestDeleteRange.Key, o.RequestDeleteRange.RangeEnd)
		case *pb.RequestOp_RequestTxn:
			ok = visitSpans(o.RequestTxn, fn)
		default:
			ok = true
		}
		if !ok {
			return false
		}
	}
	return true
}

// inverted reports whether (key, range_end) holds no key at all.
func inverted(key, rangeEnd []byte) bool {
	start, end, point := bounds(key, rangeEnd)
	return !point && end != nil && bytes.Compare(start, end) >= 0
}

// oneRange returns the range that holds everything that a request touches; nil
// without an error if that takes several. A request that touches nothing may go
// to any range: it goes to the one of its first key, or of the empty key.
//
// This is the way of every put, so it allocates nothing.
func (r *Router) oneRange(req proto.Message) (*metapb.Descriptor, error) {
	if q, ok := req.(*pb.PutRequest); ok {
		return r.holder(q.Key)
	}
	s := single{r: r}
	if !s.request(req) {
		return nil, s.err
	}
	if s.desc == nil {
		return r.holder(nil)
	}
	return s.desc, nil
}

// holder returns the range that holds a user key.
func (r *Router) holder(key []byte) (*metapb.Descriptor, error) {
	r.addr = keys.AppendUser(r.addr[:0], key)
	if d := r.cache.Lookup(r.addr); d != nil {
		return d, nil
	}
	return nil, ErrNoRange
}

// single finds out whether spans lie in one range. It walks a request like
// visitSpans, without the closure.
type single struct {
	r    *Router
	desc *metapb.Descriptor
	err  error
}

func (s *single) request(req proto.Message) bool {
	switch q := req.(type) {
	case *pb.DeleteRangeRequest:
		return s.span(q.Key, q.RangeEnd)
	case *pb.TxnRequest:
		return s.txn(q)
	case *pb.RangeRequest:
		return s.span(q.Key, q.RangeEnd)
	}
	s.err = ErrBadRequest
	return false
}

func (s *single) txn(q *pb.TxnRequest) bool {
	for _, c := range q.Compare {
		if !s.span(c.Key, c.RangeEnd) {
			return false
		}
	}
	return s.ops(q.Success) && s.ops(q.Failure)
}

func (s *single) ops(ops []*pb.RequestOp) bool {
	for _, op := range ops {
		ok := true
		switch o := op.Request.(type) {
		case *pb.RequestOp_RequestPut:
			ok = s.span(o.RequestPut.Key, nil)
		case *pb.RequestOp_RequestRange:
			ok = s.span(o.RequestRange.Key, o.RequestRange.RangeEnd)
		case *pb.RequestOp_RequestDeleteRange:
			ok = s.span(o.RequestDeleteRange.Key, o.RequestDeleteRange.RangeEnd)
		case *pb.RequestOp_RequestTxn:
			ok = s.txn(o.RequestTxn)
		}
		if !ok {
			return false
		}
	}
	return true
}

// span takes in one (key, range_end); false if it is not in the range of those
// before.
func (s *single) span(key, rangeEnd []byte) bool {
	start, end, point := bounds(key, rangeEnd)
	if !point && end != nil && bytes.Compare(start, end) >= 0 {
		return true // holds nothing
	}
	r := s.r
	if s.desc == nil {
		if s.desc, s.err = r.holder(start); s.err != nil {
			return false
		}
	} else {
		r.addr = keys.AppendUser(r.addr[:0], start)
		if !s.desc.Contains(r.addr) {
			return false
		}
	}
	if point {
		return true
	}
	if end == nil {
		r.addr = append(r.addr[:0], byte(keys.KindUser)+1)
	} else {
		r.addr = keys.AppendUser(r.addr[:0], end)
	}
	return len(s.desc.End) == 0 || bytes.Compare(r.addr, s.desc.End) <= 0
}
