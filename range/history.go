package ranges

import (
	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/mvcc"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/peerpb"
)

// readHistory closes the span of a History at its last revision, and then answers it.
func (r *Replica) readHistory(w *work, body *peerpb.History) {
	r.closeFor(w.req.ID, &peerpb.Close{
		S: body.To, Epoch: body.Epoch, Spans: []metapb.Span{keys.UserSpan(body.Start, body.End)},
	}, w.req)
}

// answerHistory answers a History whose span is closed, as answerPage does a Read.
func (r *Replica) answerHistory(req *peerpb.Request) {
	s, body := r.store, req.Body.(*peerpb.History)
	if req.Generation != r.desc.Generation {
		s.reply(req.ID, nil, r.moved(req))
		return
	}
	out := &peerpb.HistoryPage{Through: body.To, Removed: s.compacted}
	if s.compacted > body.From+1 {
		s.reply(req.ID, out, nil)
		return
	}
	win, err := mvcc.History(s.cfg.Reader, mvcc.HistoryOptions{
		Start: body.Start, End: body.End, From: body.From, To: body.To, BytesMax: min(body.BytesMax, pageBytesMax), Prev: body.Prev,
	})
	if err != nil {
		s.reply(req.ID, nil, err)
		return
	}
	out.Through = win.Through
	out.Events = make([]peerpb.FeedEvent, len(win.Versions))
	bytes := 0
	for i := range win.Versions {
		bytes += feedEvent(&out.Events[i], &win.Versions[i])
	}
	s.looked(len(out.Events), bytes)
	s.reply(req.ID, out, nil)
}

// feedEvent makes an event of a version, and returns about how much it is.
func feedEvent(e *peerpb.FeedEvent, v *mvcc.Version) (bytes int) {
	e.Sub, e.Tombstone = v.Sub, v.Tombstone
	e.Row = peerpb.Row{
		Key: v.Key, Value: v.Raw, CreateRevision: int64(v.Create), ModRevision: int64(v.Revision), Version: v.Value.Version, Lease: v.Lease,
	}
	bytes = len(v.Key) + len(v.Raw)
	if p := v.Prev; p != nil {
		e.Prev = &peerpb.Row{
			Key: p.Key, Value: p.Value, CreateRevision: p.CreateRevision, ModRevision: p.ModRevision, Version: p.Version, Lease: p.Lease,
		}
		bytes += len(p.Value)
	}
	return bytes
}
