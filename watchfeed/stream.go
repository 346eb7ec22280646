package watchfeed

import (
	"container/heap"
	"slices"

	"github.com/flotilladb/flotilla/internal/invariant"
	"github.com/flotilladb/flotilla/proto/metapb"
)

// StreamID names a stream of a Core.
type StreamID uint64

// stream is what the core knows of one client's stream.
type stream struct {
	id      StreamID
	cfg     StreamConfig
	watches idTable
	closed  bool
	dirty   bool // in Core.dirty

	// out is for the next Ready; spare is what the last one handed out.
	out, spare []Response
	// queued and queuedBytes are what the client has not taken, as far as is
	// known; out is in them.
	queued, queuedBytes int
	// blocked are watchers that wait for room here, each once; some may be gone.
	blocked []*watcher

	// behind counts the watchers that are catching up or whose start is ahead:
	// progress of the stream waits for them.
	behind int
	groups map[*group]int // of its watchers, with their number
	// asked is the revision at the first unanswered request for progress, latest
	// at the last; 0: none.
	asked, latest Revision
	// said is the highest revision of an event or of progress that its client was
	// told: what is told of the stream does not go back behind that.
	said     Revision
	noLeader bool // its client was told
	// peer is the store whose hub the client is, 0: it is a client.
	peer metapb.StoreID
}

// room reports whether the stream takes another response with events.
func (s *stream) room() bool {
	return s.queued < s.cfg.QueueResponsesMax && s.queuedBytes < s.cfg.QueueBytesMax
}

// Open begins a stream.
func (c *Core) Open(cfg StreamConfig) (StreamID, error) {
	if len(c.streams) >= c.cfg.StreamsMax {
		return 0, ErrTooManyStreams
	}
	cfg.setDefaults()
	c.last++
	s := &stream{id: c.last, cfg: cfg, groups: make(map[*group]int)}
	c.streams[s.id] = s
	if cfg.RequireLeader {
		c.wantsLeader()
	}
	return s.id, nil
}

// Close ends a stream with all its watches.
func (c *Core) Close(id StreamID) {
	s := c.streams[id]
	if s == nil {
		return
	}
	s.closed = true
	delete(c.streams, id)
	if s.cfg.RequireLeader {
		c.leaderStreams--
	}
	for _, w := range s.watches.all() {
		c.drop(w)
	}
	s.out, s.spare, s.blocked = nil, nil, nil
	s.asked, s.latest = 0, 0
}

// Create begins a watch. now is what was current when the request came: events
// up to it are not for a watch that begins now.
func (c *Core) Create(id StreamID, req *CreateRequest, now Revision) {
	s := c.streams[id]
	if s == nil {
		return
	}
	if s.watches.get(req.ID) != nil {
		invariant.Check(false, "watch %d is there already", req.ID)
		return
	}
	now = max(now, c.current)
	w := &watcher{id: req.ID, next: Revision(req.Start), stream: s, flags: flagsOf(req)}
	if req.Start == 0 {
		w.next = now + 1
	}
	c.push(s, Response{Kind: Created, ID: w.id, Revision: int64(now)})
	if w.next < c.compacted {
		c.push(s, Response{Kind: Compacted, ID: w.id, CompactRevision: int64(c.compacted)})
		return
	}
	s.watches.add(w)
	c.stats.Watches++
	if s.asked != 0 {
		// The answer is for the new watch too, and must not be below its beginning.
		s.asked, s.latest = now, now
	}
	c.join(w, req.Key, req.End, now)
	if w.has(wantsProgress) {
		c.idle.push(progressDue{at: c.now.Add(c.cfg.ProgressInterval), w: w})
	}
	if w.next > now+1 {
		w.flags |= ahead
		s.behind++
		heap.Push(&c.ahead, w)
	}
}

// join enters a new watcher at its place, synced or not.
func (c *Core) join(w *watcher, key, end []byte, now Revision) {
	lo, hi := c.run(key, end)
	g := c.groupOf(lo, hi, now)
	p := g.places.get(key, end)
	if p == nil {
		p = &place{key: string(key), group: g}
		if end != nil {
			p.tree = &treeNode{end: string(end)}
		}
		g.places.add(p)
	}
	p.add(w)
	w.stream.groups[g]++
	if w.next > g.released {
		return
	}
	c.startCatching(w)
	c.poke(p)
}

// Cancel ends a watch, if there is one of that id.
func (c *Core) Cancel(id StreamID, watch int64) {
	s := c.streams[id]
	if s == nil {
		return
	}
	if w := s.watches.get(watch); w != nil {
		c.drop(w)
		c.push(s, Response{Kind: Canceled, ID: watch, Revision: int64(c.current)})
	}
}

// compact ends a watch that wants what is compacted.
func (c *Core) compact(w *watcher) {
	c.drop(w)
	c.push(w.stream, Response{Kind: Compacted, ID: w.id, CompactRevision: int64(c.compacted)})
}

// drop forgets a watcher.
func (c *Core) drop(w *watcher) {
	s, p := w.stream, w.place
	if w.has(catching) {
		p.caught(w)
		c.synced(w)
		if c.poke(p); len(p.more.catching) == 0 {
			c.dropWindows(p)
		}
	}
	if w.has(ahead) {
		w.flags &^= ahead
		s.behind--
		c.ahead.gone++
	}
	if w.has(wantsProgress) {
		c.idleGone++
	}
	w.flags |= gone
	s.watches.remove(w.id)
	c.stats.Watches--
	c.leaveGroup(s, p.group)
	p.remove(w)
	if p.empty() {
		c.dropPlace(p)
	}
	c.tidy()
}

func (c *Core) leaveGroup(s *stream, g *group) {
	if s.groups[g]--; s.groups[g] == 0 {
		delete(s.groups, g)
	}
}

// dropPlace forgets a place without watchers.
func (c *Core) dropPlace(p *place) {
	if x := p.more; x != nil {
		if x.scan != nil {
			c.dropScan(x.scan)
			x.scan = nil
		}
		c.dropWindows(p)
		if x.queued {
			x.queued = false
			c.queues[x.in].gone++
		}
	}
	p.group.places.remove(p)
	c.maybeLeave(p.group)
}

// push queues a response.
func (c *Core) push(s *stream, r Response) {
	if s.closed {
		return
	}
	s.out = append(s.out, r)
	s.queued++
	c.touchStream(s)
}

func (c *Core) touchStream(s *stream) {
	if !s.dirty {
		s.dirty = true
		c.dirty = append(c.dirty, s)
	}
}

// sendEvents queues events for a watcher.
func (c *Core) sendEvents(w *watcher, events []*Event) {
	if w.has(wantsPrev) && Revision(events[0].Revision) <= c.compacted {
		events = hideCompacted(events, c.compacted)
	}
	s := w.stream
	for _, ev := range events {
		s.queuedBytes += ev.bytesFor(w.has(wantsPrev))
	}
	w.flags |= sent
	s.said = max(s.said, Revision(events[len(events)-1].Revision))
	c.stats.Delivered += uint64(len(events))
	c.push(s, Response{
		Kind: Events, ID: w.id, Revision: events[len(events)-1].Revision, Events: events,
		PrevKV: w.has(wantsPrev), Fragment: w.has(fragment),
	})
}

// hideCompacted returns the events without those pairs before that are compacted.
// They may be known still: read for another watch, or not removed yet.
func hideCompacted(events []*Event, compacted Revision) []*Event {
	events = slices.Clone(events) // which others share, as they do each event
	for i, ev := range events {
		if ev.PrevKV != nil && Revision(ev.Revision) <= compacted {
			bare := *ev
			bare.PrevKV = nil
			events[i] = &bare
		}
	}
	return events
}

// Drained says how much a stream's client has not taken of what Ready handed
// out.
func (c *Core) Drained(id StreamID, responses, bytes int) {
	s := c.streams[id]
	if s == nil {
		return
	}
	for i := range s.out {
		bytes += responseBytes(&s.out[i])
	}
	c.drained(s, responses+len(s.out), bytes)
}

// drained takes what is queued in a stream, and lets go who waits for room.
func (c *Core) drained(s *stream, responses, bytes int) {
	s.queued, s.queuedBytes = responses, bytes
	if len(s.blocked) == 0 || s.queued > s.cfg.QueueResponsesMax/2 || s.queuedBytes > s.cfg.QueueBytesMax/2 {
		return
	}
	blocked := s.blocked
	s.blocked = nil
	for _, w := range blocked {
		w.flags &^= waiting
		if w.has(catching) {
			c.poke(w.place)
		}
	}
}

// responseBytes is what a response takes of QueueBytesMax.
func responseBytes(r *Response) int {
	n := 0
	for _, ev := range r.Events {
		n += ev.bytesFor(r.PrevKV)
	}
	return n
}
