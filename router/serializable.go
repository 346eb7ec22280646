package router

import (
	"context"
	"errors"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/flotilladb/flotilla/proto/metapb"
)

// A serializable read may be old, and in return needs nobody else. How far the
// ranges here are closed is only known when it was asked for, which may be long ago:
// so it asks too, as long as there is somebody to ask, and when no answer comes it
// reads what this node is sure of.

// currentRange is current for a range request.
func (c *Client) currentRange(ctx context.Context, r *read, span *metapb.Span, req *pb.RangeRequest) (s, compacted metapb.Revision, err error) {
	if !req.Serializable || c.cfg.Local.Direct() {
		return c.current(ctx, span, req.Revision)
	}
	t := &ReadTicket{Revision: metapb.Revision(max(req.Revision, 0))}
	if span != nil {
		t.Spans = append(t.Spans, cloneSpan(*span))
	}
	return c.currentHere(ctx, r, t)
}

// currentHere is ticket for a read that may be old.
func (c *Client) currentHere(ctx context.Context, r *read, t *ReadTicket) (s, compacted metapb.Revision, err error) {
	if !c.cfg.Local.Leaderless() {
		limited, cancel := context.WithTimeout(ctx, c.cfg.SerializableWait)
		s, compacted, err = c.ticket(limited, t)
		cancel()
		if err == nil || ctx.Err() != nil || errors.Is(err, ErrStopping) {
			return s, compacted, err
		}
	}
	s, compacted = c.cfg.Local.Current()
	for _, span := range t.Spans {
		r.pieces = c.cfg.Local.Pieces(r.pieces[:0], span, 0)
		if len(r.pieces) == 0 {
			return 0, 0, ErrNoRange
		}
		for i := range r.pieces {
			s = min(s, r.pieces[i].Closed)
		}
	}
	if s < 1 || s < compacted {
		// Nothing was ever closed, or nothing of what is closed may be read: a range has lost
		// its majority, while others were compacted. It is no use to ask again.
		return 0, 0, ErrTimeout
	}
	return s, compacted, nil
}
