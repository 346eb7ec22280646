package sim

import (
	"time"

	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/peerpb"
	"github.com/flotilladb/flotilla/router"
	"github.com/flotilladb/flotilla/watchfeed"
)

// scanParts reads for the hub what is partly elsewhere, one part after the other.
func (h *simHub) scanParts(sc watchfeed.Scan, done []watchfeed.Scanned, end func(watchfeed.Scanned)) {
	if len(done) == len(sc.Parts) {
		end(sc.Join(done))
		return
	}
	part := &sc.Parts[len(done)]
	one := sc.Of(part)
	next := func(res watchfeed.Scanned) { h.scanParts(sc, append(done, res), end) }
	if !part.Here {
		h.n.s.stats.WatchHistories++
		h.history(one, &peerpb.HistoryPage{Through: one.To, Removed: -1}, next)
		return
	}
	h.n.s.after(h.n.s.lateness(h.n.s.cfg.ScanMax), h.n.planned(func() {
		next(one.Do(h.n.eng, func() metapb.Revision { return h.n.pub.Removal() }, nil))
	}))
}

// history reads what happened to ranges that are not here, as router.Client does.
func (h *simHub) history(sc watchfeed.Scan, got *peerpb.HistoryPage, end func(watchfeed.Scanned)) {
	req := &router.SpanRequest{Start: sc.Start, End: sc.End, Body: func(start, end []byte) peerpb.Body {
		return &peerpb.History{Start: start, End: end, From: sc.From, To: got.Through, BytesMax: sc.BytesMax, Prev: sc.Prev}
	}}
	call := &router.Call{Req: req, Done: make(chan struct{}, 1)}
	over := false
	once := func(res watchfeed.Scanned) {
		if !over {
			over = true
			end(res)
		}
	}
	h.n.s.after(historyTimeout, h.n.planned(func() {
		once(watchfeed.Scanned{ID: sc.ID, Removed: -1, Err: router.ErrTimeout})
	}))
	h.n.submit(call, func() {
		if call.Err != nil {
			once(watchfeed.Scanned{ID: sc.ID, Removed: -1, Err: call.Err})
			return
		}
		if over {
			return
		}
		reply := call.Resp.(*router.SpanReply)
		page := reply.Body.(*peerpb.HistoryPage)
		next := got.Add(page, sc.From)
		if next == nil {
			next = reply.Next
		}
		if len(next) == 0 {
			once(sc.Took(got.Events, got.Through, got.Removed))
			return
		}
		over = true
		rest := sc
		rest.Start = next
		h.history(rest, got, end)
	})
}

const historyTimeout = 3 * time.Second

// follows counts what came from another node.
func (s *Stats) follows(news *peerpb.FeedNews) {
	for i := range news.Changes {
		s.FollowedEvents += len(news.Changes[i].Events)
	}
}
