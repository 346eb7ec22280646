package ranges

import (
	"github.com/flotilladb/flotilla/mvcc"
	"github.com/flotilladb/flotilla/proto/peerpb"
)

// historyPages is how many pages a revision may take that is answered as a whole.
const historyPages = 4

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
	bytesMax := min(body.BytesMax, pageBytesMax)
	win, err := mvcc.History(s.cfg.Reader, mvcc.HistoryOptions{
		Start: body.Start, End: body.End, From: body.From, To: body.To, BytesMax: bytesMax, KeysBytesMax: historyPages * bytesMax, Prev: body.Prev,
	})
	if err != nil {
		s.reply(req.ID, nil, err)
		return
	}
	if out.Through = win.Through; win.Next != nil {
		out.Through = body.From
	}
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

// answerHash answers a Hash whose span is closed, as answerPage does a Read.
func (r *Replica) answerHash(req *peerpb.Request) {
	s, body := r.store, req.Body.(*peerpb.Hash)
	switch {
	case req.Generation != r.desc.Generation:
		s.reply(req.ID, nil, r.moved(req))
		return
	case s.compacted > body.Compacted:
		s.reply(req.ID, nil, mvcc.ErrCompacted)
		return
	}
	out := &peerpb.HashPage{}
	last := mvcc.HashRow{Revision: body.AfterRevision, Sub: body.AfterSub}
	opts := mvcc.HashOptions{Revision: body.Revision, Compacted: body.Compacted, NoneLive: body.NoneLive}
	var err error
	out.Next, err = mvcc.HashKeys(s.cfg.Reader, body.Start, body.End, opts, hashVersionsMax, func(row mvcc.HashRow) {
		if row.Revision > last.Revision || row.Revision == last.Revision && row.Sub > last.Sub {
			out.Rows = append(out.Rows, peerpb.HashRow(row))
		}
	})
	if err != nil {
		s.reply(req.ID, nil, err)
		return
	}
	s.looked(hashVersionsMax, 0)
	s.reply(req.ID, out, nil)
}

// hashVersionsMax bounds a page of a hash; the versions of one key are never cut.
const hashVersionsMax = 4096
