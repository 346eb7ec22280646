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

// spanVisitor is told of spans until it returns false.
type spanVisitor interface {
	visit(key, rangeEnd []byte) bool
}

// visitFunc is a function as a spanVisitor.
type visitFunc func(key, rangeEnd []byte) bool

func (f visitFunc) visit(key, rangeEnd []byte) bool { return f(key, rangeEnd) }

// visitSpans tells v of the (key, range_end) of everything that a request
// compares, reads or writes in any branch. Unlike mvcc.Footprint it allocates
// nothing.
func visitSpans(req proto.Message, v spanVisitor) bool {
	switch q := req.(type) {
	case *pb.PutRequest:
		return v.visit(q.Key, nil)
	case *pb.RangeRequest:
		return v.visit(q.Key, q.RangeEnd)
	case *pb.DeleteRangeRequest:
		return v.visit(q.Key, q.RangeEnd)
	case *pb.TxnRequest:
		for _, c := range q.Compare {
			if !v.visit(c.Key, c.RangeEnd) {
				return false
			}
		}
		return visitOps(q.Success, v) && visitOps(q.Failure, v)
	}
	return true
}

func visitOps(ops []*pb.RequestOp, v spanVisitor) bool {
	for _, op := range ops {
		ok := true
		switch o := op.Request.(type) {
		case *pb.RequestOp_RequestPut:
			ok = v.visit(o.RequestPut.Key, nil)
		case *pb.RequestOp_RequestRange:
			ok = v.visit(o.RequestRange.Key, o.RequestRange.RangeEnd)
		case *pb.RequestOp_RequestDeleteRange:
			ok = v.visit(o.RequestDeleteRange.Key, o.RequestDeleteRange.RangeEnd)
		case *pb.RequestOp_RequestTxn:
			ok = visitSpans(o.RequestTxn, v)
		}
		if !ok {
			return false
		}
	}
	return true
}

// oneRange returns the range that holds everything that a request touches; nil
// without an error if that takes several. A request that touches nothing may go
// to any range, and goes to the one of the empty key.
//
// This is the way of every put, so it allocates nothing.
func (r *Router) oneRange(req proto.Message) (*metapb.Descriptor, error) {
	if q, ok := req.(*pb.PutRequest); ok {
		return r.holder(q.Key)
	}
	s := &r.single
	*s = single{r: r}
	if !visitSpans(req, s) {
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

// single is a visitor that goes on as long as all spans lie in one range.
type single struct {
	r    *Router
	desc *metapb.Descriptor // of the spans so far; nil: there was none
	err  error
}

func (s *single) visit(key, rangeEnd []byte) bool {
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
