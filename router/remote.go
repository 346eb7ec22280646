package router

import (
	"bytes"
	"context"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/mvcc"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/peerpb"
)

// What lies in ranges that have no replica on this node is read from their leaders,
// page by page, all pages at one revision: the leader closes the page's span there
// before it reads. So such pages need no second look, unlike what is read here.

// Here reports whether the piece is of a range that can be read on this node.
func (p *Piece) Here() bool { return p.Range != 0 }

// elsewhere reports whether one of the pieces is not on this node.
func elsewhere(pieces []Piece) bool {
	for i := range pieces {
		if !pieces[i].Here() {
			return true
		}
	}
	return false
}

// remotePage reads the next page of [start, end) from the range that holds start.
func (c *Client) remotePage(ctx context.Context, start, end []byte, rev metapb.Revision, opts mvcc.PageOptions) (mvcc.Page, error) {
	req := &PageRequest{Read: peerpb.Read{
		Revision: rev, Start: bytes.Clone(start), End: bytes.Clone(end), BytesMax: opts.BytesMax, KeysOnly: opts.KeysOnly,
	}}
	if opts.Keep == nil {
		req.Read.LimitRows = opts.LimitRows
	}
	got, err := do[*peerpb.ReadPage](c, ctx, req)
	if err != nil {
		return mvcc.Page{}, err
	}
	page := mvcc.Page{Next: orNil(got.Next)}
	for i := range got.Rows {
		row := &got.Rows[i]
		kv := &mvccpb.KeyValue{
			Key: row.Key, Value: row.Value, CreateRevision: row.CreateRevision, ModRevision: row.ModRevision,
			Version: row.Version, Lease: row.Lease,
		}
		if opts.Keep != nil && !opts.Keep(kv) {
			continue
		}
		if opts.Keep != nil && opts.LimitRows > 0 && int64(len(page.KVs)) >= opts.LimitRows {
			page.Next = kv.Key
			break
		}
		page.KVs = append(page.KVs, kv)
		page.Bytes += len(kv.Key) + len(kv.Value)
	}
	return page, nil
}

func orNil(b []byte) []byte {
	if len(b) == 0 {
		return nil
	}
	return b
}

// page reads a page of a piece, wherever it is.
func (c *Client) page(ctx context.Context, p *Piece, start, end []byte, rev metapb.Revision, opts mvcc.PageOptions) (mvcc.Page, error) {
	if p.Here() {
		return mvcc.ReadPage(c.cfg.Local.Reader(), start, end, rev, opts)
	}
	return c.remotePage(ctx, start, end, rev, opts)
}

// get reads one key, wherever it is.
func (c *Client) get(ctx context.Context, pieces []Piece, key []byte, rev metapb.Revision) (*mvccpb.KeyValue, error) {
	if !elsewhere(pieces) {
		return mvcc.Get(c.cfg.Local.Reader(), key, rev)
	}
	page, err := c.remotePage(ctx, key, append(bytes.Clone(key), 0), rev, mvcc.PageOptions{})
	if err != nil || len(page.KVs) == 0 {
		return nil, err
	}
	return page.KVs[0], nil
}

// count counts the live keys of [start, end), an empty end being the end of the
// keyspace, in the pieces.
func (c *Client) count(ctx context.Context, pieces []Piece, start, end []byte, rev metapb.Revision) (n int64, err error) {
	if !elsewhere(pieces) {
		return c.cfg.Local.Count(start, end, rev)
	}
	for i := range pieces {
		from, to, ok := keys.UserBounds(pieces[i].Span)
		if !ok {
			continue
		}
		if bytes.Compare(from, start) < 0 {
			from = start
		}
		if len(to) > 0 && bytes.Compare(from, to) >= 0 {
			continue
		}
		k := int64(0)
		if pieces[i].Here() {
			k, err = c.cfg.Local.Count(from, to, rev)
		} else {
			k, err = c.remoteCount(ctx, from, to, rev)
		}
		if err != nil {
			return 0, err
		}
		n += k
	}
	return n, nil
}

func (c *Client) remoteCount(ctx context.Context, start, end []byte, rev metapb.Revision) (n int64, err error) {
	for start != nil {
		req := &PageRequest{Read: peerpb.Read{Revision: rev, Start: bytes.Clone(start), End: bytes.Clone(end), CountOnly: true}}
		page, err := do[*peerpb.ReadPage](c, ctx, req)
		if err != nil {
			return 0, err
		}
		n += page.Count
		start = orNil(page.Next)
	}
	return n, nil
}

// History reads what happened to the user keys of a span with a revision in (From, To],
// range by range, from their leaders. Where they have more than is read at a time it
// ends with an earlier revision.
func (c *Client) History(ctx context.Context, req peerpb.History) (*peerpb.HistoryPage, error) {
	out := &peerpb.HistoryPage{Through: req.To, Removed: -1}
	for start := append([]byte{}, req.Start...); start != nil; {
		part := req
		part.To = out.Through
		reply, err := do[*SpanReply](c, ctx, &SpanRequest{Start: start, End: bytes.Clone(req.End), Body: func(start, end []byte) peerpb.Body {
			body := part
			body.Start, body.End = start, end
			return &body
		}})
		if err != nil {
			return nil, err
		}
		page, ok := reply.Body.(*peerpb.HistoryPage)
		if !ok {
			return nil, ErrBadRequest
		}
		if start = out.Add(page, req.From); start == nil {
			start = orNil(reply.Next)
		}
	}
	return out, nil
}
