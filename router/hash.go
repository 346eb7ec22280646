package router

import (
	"bytes"
	"context"
	"errors"

	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/mvcc"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/peerpb"
)

// hashRowsMax is how many rows of a hash are in memory at a time. Where there are more,
// all is read again for each further page.
const hashRowsMax = 1 << 20

// HashKV is etcd's hash of all client keys at a revision, 0 being what is current, with
// the revision and what was compacted then. Below 0 there is nothing, which has a hash too.
func (c *Client) HashKV(ctx context.Context, asked int64) (sum uint32, rev, compacted metapb.Revision, err error) {
	r := c.getRead()
	defer c.putRead(r)
	r.span = keys.UserSpan(nil, nil)
	for range c.cfg.ReadTriesMax {
		s, compacted, err := c.current(ctx, &r.span, asked)
		if err != nil {
			return 0, 0, 0, err
		}
		rev, again, err := revisionOf(asked, s, compacted)
		if err != nil {
			return 0, 0, 0, err
		}
		if again {
			continue
		}
		if asked < 0 {
			return mvcc.NewKVHash().Sum(), metapb.Revision(asked), compacted, nil
		}
		if err := c.prepare(ctx, r, rev); err != nil {
			return 0, 0, 0, err
		}
		sum, err := c.hashAt(ctx, r.pieces, mvcc.HashOptions{Revision: rev, Compacted: compacted})
		if _, now := c.cfg.Local.Current(); now <= compacted && c.valid(r.pieces, rev) && !errors.Is(err, mvcc.ErrCompacted) {
			return sum, rev, compacted, err
		}
		if err := ctx.Err(); err != nil {
			return 0, 0, 0, err
		}
	}
	return 0, 0, 0, ErrRangesMoved
}

// hashAt hashes what the pieces hold.
func (c *Client) hashAt(ctx context.Context, pieces []Piece, opts mvcc.HashOptions) (uint32, error) {
	live, err := c.count(ctx, pieces, nil, nil, opts.Revision)
	if err != nil {
		return 0, err
	}
	opts.NoneLive = live == 0
	h, rows := mvcc.NewKVHash(), mvcc.NewHashRows(hashRowsMax)
	for {
		for i := range pieces {
			if err := c.hashPiece(ctx, &pieces[i], opts, rows); err != nil {
				return 0, err
			}
		}
		page, done := rows.Page()
		for _, row := range page {
			h.Add(row)
		}
		if done {
			return h.Sum(), nil
		}
	}
}

// hashPiece adds the rows of a piece, wherever it is.
func (c *Client) hashPiece(ctx context.Context, p *Piece, opts mvcc.HashOptions, rows *mvcc.HashRows) error {
	start, end, ok := keys.UserBounds(p.Span)
	switch {
	case !ok:
		return nil
	case p.Here():
		_, err := mvcc.HashKeys(c.cfg.Local.Reader(), start, end, opts, 0, rows.Add)
		return err
	}
	after := rows.After()
	for start = append([]byte{}, start...); start != nil; {
		reply, err := do[*SpanReply](c, ctx, &SpanRequest{Start: start, End: bytes.Clone(end), Body: func(start, end []byte) peerpb.Body {
			return &peerpb.Hash{
				Start: start, End: end, Revision: opts.Revision, Compacted: opts.Compacted, NoneLive: opts.NoneLive,
				AfterRevision: after.Revision, AfterSub: after.Sub,
			}
		}})
		if err != nil {
			return err
		}
		page, ok := reply.Body.(*peerpb.HashPage)
		if !ok {
			return ErrBadRequest
		}
		for _, row := range page.Rows {
			rows.Add(mvcc.HashRow(row))
		}
		if start = orNil(page.Next); start == nil {
			start = orNil(reply.Next)
		}
	}
	return nil
}
