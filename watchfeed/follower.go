package watchfeed

import (
	"cmp"
	"slices"

	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/peerpb"
)

// A hub of another store that follows feeds here has one stream, and a watch for each
// feed, as a client has. Room in the stream is given back as the other hub takes what
// it was sent: if it is slow its watches fall behind, and catch up, as a client's do.

// feedBytesMax bounds what another store was sent and has not taken.
const feedBytesMax = 4 << 20

// wanter waits until a watch of another store's stream was given everything up to a
// revision.
type wanter struct {
	w   *watcher
	rev Revision
}

// takeAsk takes what another store's hub asks.
func (c *Core) takeAsk(from metapb.StoreID, a *peerpb.FeedAsk) {
	s := c.followers[from]
	if s == nil && len(a.Begin) > 0 {
		if s = c.openFollower(from); s == nil {
			return // it asks elsewhere when it has no answer
		}
	}
	if s == nil {
		return
	}
	for i := range a.Begin {
		c.beginFollowed(s, &a.Begin[i])
	}
	for _, id := range a.End {
		if w := s.watches.get(int64(id)); w != nil {
			c.drop(w)
		}
	}
	for _, want := range a.Wants {
		if w := s.watches.get(int64(want.Feed)); w != nil {
			g := w.place.group
			g.wanters = append(g.wanters, wanter{w, want.Revision})
			c.want(g, want.Revision)
			c.activate(g)
		}
	}
	if a.TakenCount+a.TakenBytes > 0 {
		c.drained(s, max(s.queued-a.TakenCount, len(s.out)), max(s.queuedBytes-a.TakenBytes, 0))
	}
}

func (c *Core) openFollower(from metapb.StoreID) *stream {
	id, err := c.Open(StreamConfig{QueueBytesMax: c.cfg.FeedBytesMax})
	if err != nil {
		return nil
	}
	s := c.streams[id]
	s.peer = from
	c.followers[from] = s
	return s
}

// beginFollowed begins a watch of another store.
func (c *Core) beginFollowed(s *stream, b *peerpb.FeedBegin) {
	id := int64(b.Feed)
	if s.watches.get(id) != nil {
		return
	}
	end := b.End
	if end == nil {
		end = []byte{}
	}
	lo, hi := c.run(b.Start, end)
	for _, f := range c.feeds[lo.pos : hi.pos+1] {
		if f.absent {
			c.push(s, Response{Kind: left, ID: id})
			return
		}
	}
	w := &watcher{id: id, next: b.After + 1, stream: s, flags: wantsPrev | followed}
	if w.next < c.compacted {
		c.push(s, Response{Kind: Compacted, ID: id, CompactRevision: int64(c.compacted)})
		return
	}
	s.watches.add(w)
	c.stats.Watches++
	c.join(w, b.Start, end, max(b.After, c.current))
}

// endFollowed ends the watches of other stores over a feed that leaves.
func (c *Core) endFollowed(f *feed) {
	if len(c.followers) == 0 {
		return
	}
	var ended []*watcher
	for _, g := range f.groups {
		g.places.all(func(p *place) {
			p.watchers(func(w *watcher) {
				if w.has(followed) {
					ended = append(ended, w)
				}
			})
		})
	}
	slices.SortFunc(ended, func(a, b *watcher) int {
		return cmp.Or(cmp.Compare(a.stream.id, b.stream.id), cmp.Compare(a.id, b.id))
	})
	for _, w := range ended {
		c.drop(w)
		c.push(w.stream, Response{Kind: left, ID: w.id})
	}
}

// answerWanters tells other stores how far the watches are that they asked for.
func (c *Core) answerWanters(g *group) {
	waiting := g.wanters[:0]
	for _, x := range g.wanters {
		switch {
		case x.w.has(gone):
		case x.w.has(catching) || g.released < x.rev:
			waiting = append(waiting, x)
		default:
			c.sayProgress(x.w)
		}
	}
	clear(g.wanters[len(waiting):])
	g.wanters = waiting
}

// moveWanters gives the wanters of a group to those that its watchers are in now.
func (c *Core) moveWanters(g *group) {
	all := g.wanters
	g.wanters = nil
	for _, x := range all {
		if !x.w.has(gone) {
			to := x.w.place.group
			to.wanters = append(to.wanters, x)
			c.activate(to)
		}
	}
}

// news makes what is to be said to another store of responses, in pieces of about bytesMax:
// the link between the stores does not carry more at once, and a revision may be larger.
func news(out []Response, bytesMax int) []*peerpb.FeedNews {
	n := &peerpb.FeedNews{}
	all := []*peerpb.FeedNews{n}
	for i := range out {
		r := &out[i]
		ch := peerpb.FeedChange{Feed: uint64(r.ID), Through: Revision(r.Revision)}
		switch r.Kind {
		case Events:
			for rest := r.Events; len(rest) > 0; {
				if n.Bytes >= bytesMax {
					n = &peerpb.FeedNews{}
					all = append(all, n)
				}
				count, size := piece(rest, bytesMax-n.Bytes)
				ch.Events, n.Bytes = feedEvents(rest[:count]), n.Bytes+size
				last := rest[count-1].Revision
				if rest = rest[count:]; len(rest) > 0 {
					more := ch // it is not above that of which the rest is to come
					more.Through = Revision(min(last, rest[0].Revision-1))
					n.Changes = append(n.Changes, more)
				}
			}
		case Compacted:
			ch.Over, ch.Compacted = true, Revision(r.CompactRevision)
		case left:
			ch.Over = true
		}
		n.Changes = append(n.Changes, ch)
		n.Count++
	}
	return all
}

// piece returns how many of the events make about bytesMax, one at least, and their size.
func piece(events []*Event, bytesMax int) (n, size int) {
	for n < len(events) && (n == 0 || size < bytesMax) {
		size += events[n].bytesFor(true)
		n++
	}
	return n, size
}

func feedEvents(events []*Event) []peerpb.FeedEvent {
	out := make([]peerpb.FeedEvent, len(events))
	for i, ev := range events {
		out[i] = peerpb.FeedEvent{
			Row: peerpb.Row{
				Key: ev.Key, Value: ev.Value, CreateRevision: ev.CreateRevision, ModRevision: ev.Revision, Version: ev.Version, Lease: ev.Lease,
			},
			Sub: ev.Sub, Tombstone: ev.Tombstone,
		}
		if p := ev.PrevKV; p != nil {
			out[i].Prev = &peerpb.Row{
				Key: p.Key, Value: p.Value, CreateRevision: p.CreateRevision, ModRevision: p.ModRevision, Version: p.Version, Lease: p.Lease,
			}
		}
	}
	return out
}
