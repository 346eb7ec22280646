package ranges

import (
	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/mvcc"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/peerpb"
)

// Bounds of a page that is read for another node. It is read between two turns of
// the store, and goes in a frame with others.
const (
	pageRowsMax  = 4096
	pageBytesMax = 256 << 10
)

// closeRead closes the span of user keys of a request at a revision, and then answers it.
func (r *Replica) closeRead(w *work, s Revision, epoch uint64, start, end []byte) {
	r.closeFor(w.req.ID, &peerpb.Close{S: s, Epoch: epoch, Spans: []metapb.Span{keys.UserSpan(start, end)}}, w.req)
}

// answerClosed answers a request that waited until its span was closed.
func (r *Replica) answerClosed(req *peerpb.Request) {
	switch req.Body.(type) {
	case *peerpb.Read:
		r.answerPage(req)
	case *peerpb.History:
		r.answerHistory(req)
	case *peerpb.Hash:
		r.answerHash(req)
	}
}

// answerPage answers a Read whose span is closed. The generation is looked at again:
// after a split the rest of the span is closed by somebody else.
func (r *Replica) answerPage(req *peerpb.Request) {
	s, body := r.store, req.Body.(*peerpb.Read)
	switch {
	case req.Generation != r.desc.Generation:
		s.reply(req.ID, nil, r.moved(req))
		return
	case body.Revision < s.compacted:
		s.reply(req.ID, nil, mvcc.ErrCompacted)
		return
	}
	opts := mvcc.PageOptions{LimitRows: pageRowsMax, BytesMax: pageBytesMax, KeysOnly: body.KeysOnly || body.CountOnly}
	if body.LimitRows > 0 {
		opts.LimitRows = min(opts.LimitRows, body.LimitRows)
	}
	if body.BytesMax > 0 {
		opts.BytesMax = min(opts.BytesMax, body.BytesMax)
	}
	page, err := mvcc.ReadPage(s.cfg.Reader, body.Start, body.End, body.Revision, opts)
	if err != nil {
		s.reply(req.ID, nil, err)
		return
	}
	s.looked(len(page.KVs), page.Bytes)
	out := &peerpb.ReadPage{Count: int64(len(page.KVs)), Next: page.Next}
	if !body.CountOnly {
		out.Rows = make([]peerpb.Row, len(page.KVs))
		for i, kv := range page.KVs {
			out.Rows[i] = peerpb.Row{
				Key: kv.Key, Value: kv.Value, CreateRevision: kv.CreateRevision, ModRevision: kv.ModRevision,
				Version: kv.Version, Lease: kv.Lease,
			}
		}
	}
	s.reply(req.ID, out, nil)
}
