package router

import (
	"bytes"
	"context"
	"errors"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/mvcc"
	"github.com/flotilladb/flotilla/proto/metapb"
)

// A read takes four steps: S := Current; every range of its span is closed at
// the revision read; the rows are read; the ranges are still what they were and
// nothing of the revision was removed. When the last step fails the read begins
// anew, since what it has may be half of two states.

// read is the memory of one read, used again.
type read struct {
	addrs  []byte // the addresses of the span
	span   metapb.Span
	pieces []Piece
}

func (c *Client) getRead() *read {
	if r, ok := c.reads.Get().(*read); ok {
		return r
	}
	return &read{}
}

func (c *Client) putRead(r *read) {
	r.pieces = r.pieces[:0]
	c.reads.Put(r)
}

// setSpan sets the span to etcd's (key, range_end). It is false if that holds
// nothing.
func (r *read) setSpan(key, rangeEnd []byte) bool {
	start, end, point := bounds(key, rangeEnd)
	if !point && end != nil && bytes.Compare(start, end) >= 0 {
		return false
	}
	b := keys.AppendUser(r.addrs[:0], start)
	n := len(b)
	switch {
	case point:
		b = append(keys.AppendUser(b, start), 0)
	case end == nil:
		b = append(b, byte(keys.KindUser)+1)
	default:
		b = keys.AppendUser(b, end)
	}
	r.addrs = b
	r.span = metapb.Span{Start: b[:n:n], End: b[n:]}
	return true
}

// current returns the S of a read, and what is compacted. Where the node has to
// ask, it has the span closed as well (nil: none), for a read at asked, 0: at S.
func (c *Client) current(ctx context.Context, span *metapb.Span, asked int64) (s, compacted metapb.Revision, err error) {
	if c.cfg.Local.Direct() {
		s, compacted = c.cfg.Local.Current()
		if c.cfg.Local.Direct() { // and not only before others could give out more
			return s, compacted, nil
		}
	}
	t := &ReadTicket{Revision: metapb.Revision(max(asked, 0))}
	if span != nil {
		t.Spans = append(t.Spans, cloneSpan(*span))
	}
	return c.ticket(ctx, t)
}

// Revision is the revision at which a linearizable read that begins now reads.
func (c *Client) Revision(ctx context.Context) (metapb.Revision, error) {
	s, _, err := c.current(ctx, nil, 0)
	return s, err
}

func (c *Client) ticket(ctx context.Context, t *ReadTicket) (s, compacted metapb.Revision, err error) {
	reply, err := do[*ReadReply](c, ctx, t)
	if err != nil {
		return 0, 0, err
	}
	return reply.S, reply.Compacted, nil
}

// cloneSpan copies a span out of memory that is used again.
func cloneSpan(s metapb.Span) metapb.Span {
	return metapb.Span{Start: append([]byte(nil), s.Start...), End: append([]byte(nil), s.End...)}
}

// prepare has the span closed at a revision and looks up its pieces.
func (c *Client) prepare(ctx context.Context, r *read, rev metapb.Revision) error {
	l := c.cfg.Local
	r.pieces = l.Pieces(r.pieces[:0], r.span, rev)
	for range c.cfg.ReadTriesMax {
		if ready(r.pieces) {
			return nil
		}
		if err := c.Closed(ctx, rev, r.span); err != nil {
			return err
		}
		r.pieces = l.Pieces(r.pieces[:0], r.span, rev)
		switch {
		case len(r.pieces) == 0:
			return ErrNoRange
		case l.Direct():
			// Closed stays closed, through splits too: readiness, which is that of whole
			// ranges, needs no second look.
			return nil
		}
		// Among several nodes a range may have come here since it was asked for.
	}
	return ErrRangesMoved
}

func ready(pieces []Piece) bool {
	for i := range pieces {
		if pieces[i].Here() && !pieces[i].Ready {
			return false
		}
	}
	return len(pieces) > 0
}

// valid reports whether what was read from the pieces may be used.
func (c *Client) valid(pieces []Piece, rev metapb.Revision) bool {
	for i := range pieces {
		if pieces[i].Here() && !c.cfg.Local.Valid(pieces[i], rev) {
			return false
		}
	}
	return true
}

// revisionOf returns the revision that a range reads at, in etcd's order of
// checks. again says that S itself is compacted: the next S will not be.
func revisionOf(asked int64, s, compacted metapb.Revision) (rev metapb.Revision, again bool, err error) {
	rev = metapb.Revision(asked)
	switch {
	case rev > s:
		return 0, false, mvcc.ErrFutureRevision
	case rev <= 0:
		return s, s < compacted, nil
	case rev < compacted:
		return 0, false, mvcc.ErrCompacted
	}
	return rev, false, nil
}

// Range reads keys at one revision. The header has the revision at which the
// read took place, also if the request named an older one to read at.
func (c *Client) Range(ctx context.Context, req *pb.RangeRequest) (*pb.RangeResponse, error) {
	r := c.getRead()
	defer c.putRead(r)
	span := &r.span
	if !r.setSpan(req.Key, req.RangeEnd) {
		span = nil
	}
	for range c.cfg.ReadTriesMax {
		s, compacted, err := c.currentRange(ctx, r, span, req)
		if err != nil {
			return nil, err
		}
		rev, again, err := revisionOf(req.Revision, s, compacted)
		if err != nil {
			return nil, err
		}
		if again {
			continue
		}
		if span == nil {
			return mvcc.FinishRange(req, nil, 0, s), nil
		}
		if err := c.prepare(ctx, r, rev); err != nil {
			return nil, err
		}
		resp, err := c.rangeAt(ctx, r, req, rev, s)
		if req.Revision <= 0 && errors.Is(err, mvcc.ErrCompacted) {
			continue // S was compacted meanwhile, as another node says that reads for this one
		}
		// An error of what is not valid may come of its not being valid.
		if c.valid(r.pieces, rev) {
			return resp, err
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
	}
	return nil, ErrRangesMoved
}

// rangeAt reads a request's rows and makes the response.
func (c *Client) rangeAt(ctx context.Context, r *read, req *pb.RangeRequest, rev, s metapb.Revision) (*pb.RangeResponse, error) {
	if len(req.RangeEnd) == 0 && !req.CountOnly {
		return c.pointAt(ctx, r.pieces, req, rev, s)
	}
	start, end, point := bounds(req.Key, req.RangeEnd)
	if point {
		end = append(bytes.Clone(start), 0)
	}
	plan := mvcc.PlanRange(req)
	if plan.CountOnly {
		n, err := c.count(ctx, r.pieces, start, end, rev)
		if err != nil {
			return nil, err
		}
		return mvcc.FinishRange(req, nil, n, s), nil
	}
	opts := mvcc.PageOptions{LimitRows: plan.Limit, KeysOnly: plan.KeysOnly}
	if hasFilters(req) {
		opts.Keep = func(kv *mvccpb.KeyValue) bool { return mvcc.MatchesFilters(req, kv) }
	}
	kvs, _, err := c.rows(ctx, r.pieces, start, rev, opts)
	if err != nil {
		return nil, err
	}
	// The rows tell the count, unless some were left out or not reached.
	count := int64(len(kvs))
	switch {
	case opts.Keep != nil:
		count, err = c.count(ctx, r.pieces, start, end, rev)
	case plan.Limit > 0 && count >= plan.Limit:
		var rest int64
		rest, err = c.count(ctx, r.pieces, append(bytes.Clone(kvs[count-1].Key), 0), end, rev)
		count += rest
	}
	if err != nil {
		return nil, err
	}
	return mvcc.FinishRange(req, kvs, count, s), nil
}

func hasFilters(r *pb.RangeRequest) bool {
	return r.MinModRevision != 0 || r.MaxModRevision != 0 || r.MinCreateRevision != 0 || r.MaxCreateRevision != 0
}

// pointBlock is the answer to a read of one key, in one allocation.
type pointBlock struct {
	resp   pb.RangeResponse
	header pb.ResponseHeader
	kvs    [1]*mvccpb.KeyValue
}

// pointAt reads one key, the most frequent of all reads.
func (c *Client) pointAt(ctx context.Context, pieces []Piece, req *pb.RangeRequest, rev, s metapb.Revision) (*pb.RangeResponse, error) {
	kv, err := c.get(ctx, pieces, req.Key, rev)
	if err != nil {
		return nil, err
	}
	b := &pointBlock{}
	b.header.Revision = int64(s)
	b.resp.Header = &b.header
	if kv == nil {
		return &b.resp, nil
	}
	b.resp.Count = 1
	if !mvcc.MatchesFilters(req, kv) {
		return &b.resp, nil
	}
	if req.KeysOnly {
		kv.Value = nil
		if mvcc.PlanRange(req).KeysOnly {
			kv.Lease = 0
		}
	}
	b.kvs[0] = kv
	b.resp.Kvs = b.kvs[:]
	return &b.resp, nil
}

// rows reads the rows of the pieces from the user key start on, until
// opts.LimitRows or opts.BytesMax; cut says that it stopped for the latter.
func (c *Client) rows(ctx context.Context, pieces []Piece, start []byte, rev metapb.Revision,
	opts mvcc.PageOptions) (kvs []*mvccpb.KeyValue, cut bool, err error) {
	limit, bytesLeft := opts.LimitRows, opts.BytesMax
	for _, p := range pieces {
		from, end, ok := keys.UserBounds(p.Span)
		if !ok {
			continue
		}
		if bytes.Compare(from, start) < 0 {
			from = start
		}
		for from != nil {
			if err := ctx.Err(); err != nil {
				return nil, false, err
			}
			opts.BytesMax = c.cfg.PageBytesMax
			if bytesLeft > 0 {
				opts.BytesMax = min(opts.BytesMax, bytesLeft)
			}
			if limit > 0 {
				opts.LimitRows = limit - int64(len(kvs))
			}
			page, err := c.page(ctx, &p, from, end, rev, opts)
			if err != nil {
				return nil, false, err
			}
			kvs = appendRows(kvs, page.KVs)
			if limit > 0 && int64(len(kvs)) >= limit {
				return kvs, false, nil
			}
			if bytesLeft > 0 {
				if bytesLeft -= page.Bytes; bytesLeft <= 0 {
					return kvs, true, nil
				}
			}
			from = page.Next
		}
	}
	return kvs, false, nil
}

func appendRows(kvs, more []*mvccpb.KeyValue) []*mvccpb.KeyValue {
	if kvs == nil {
		return more // most reads are one page
	}
	return append(kvs, more...)
}

// readTxn runs a transaction that cannot write, at one S: no locks, no log.
func (c *Client) readTxn(ctx context.Context, req *pb.TxnRequest) (*pb.TxnResponse, error) {
	r := c.getRead()
	defer c.putRead(r)
	for range c.cfg.ReadTriesMax {
		s, compacted, err := c.currentTxn(ctx, r, req)
		if err != nil {
			return nil, err
		}
		if s < compacted {
			continue
		}
		pieces, err := c.prepareTxn(ctx, r, req, s)
		if err != nil {
			return nil, err
		}
		if elsewhere(pieces) {
			return do[*pb.TxnResponse](c, ctx, req) // one that locks reads anywhere
		}
		resp, err := c.txnAt(req, s, compacted)
		if c.valid(pieces, oldestRevision(req, s, compacted)) {
			return resp, err
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
	}
	return nil, ErrRangesMoved
}

// currentTxn is current for everything that a transaction reads.
func (c *Client) currentTxn(ctx context.Context, r *read, req *pb.TxnRequest) (s, compacted metapb.Revision, err error) {
	if c.cfg.Local.Direct() {
		return c.current(ctx, nil, 0)
	}
	t := &ReadTicket{}
	visitSpans(req, visitFunc(func(key, rangeEnd []byte) bool {
		var r read
		if r.setSpan(key, rangeEnd) {
			t.Spans = append(t.Spans, r.span)
		}
		return true
	}))
	if mvcc.IsSerializable(req) {
		return c.currentHere(ctx, r, t)
	}
	return c.ticket(ctx, t)
}

// prepareTxn has everything that a transaction reads closed at a revision.
func (c *Client) prepareTxn(ctx context.Context, r *read, req *pb.TxnRequest, s metapb.Revision) (pieces []Piece, err error) {
	visitSpans(req, visitFunc(func(key, rangeEnd []byte) bool {
		r.addrs = nil // pieces of the spans before still name theirs
		if r.setSpan(key, rangeEnd) {
			if err = c.prepare(ctx, r, s); err == nil {
				pieces = append(pieces, r.pieces...)
			}
		}
		return err == nil
	}))
	return pieces, err
}

func (c *Client) txnAt(req *pb.TxnRequest, s, compacted metapb.Revision) (*pb.TxnResponse, error) {
	st := mvcc.NewEngineStateAt(c.cfg.Local.Reader(), nil, nil, s)
	res, err := mvcc.Evaluate(st, mvcc.Env{Revision: s + 1, Known: s, Compacted: compacted}, req)
	if e := st.Close(); err == nil {
		err = e
	}
	if err != nil {
		return nil, err
	}
	return res.Response.(*pb.TxnResponse), nil
}

// oldestRevision is the lowest revision that a transaction reads at. What asks
// for a compacted one reads nothing: it is refused, or its branch is not taken.
func oldestRevision(req *pb.TxnRequest, s, compacted metapb.Revision) metapb.Revision {
	for _, a := range mvcc.Footprint(req) {
		if a.Revision > 0 && a.Revision >= compacted {
			s = min(s, a.Revision)
		}
	}
	return s
}
