package watchfeed

import (
	"bytes"
	"cmp"
	"slices"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/mvcc"
	"github.com/flotilladb/flotilla/proto/peerpb"
)

// Scanned answers a Scan.
type Scanned struct {
	ID uint64
	// Events are all with a revision in (From, Through], in order; Bytes is what
	// they take.
	Events  []*Event
	Through Revision
	Bytes   int
	// Removed: versions at or below this revision may have gone before they were
	// read. Negative: none.
	Removed Revision
	// Err says that the engine could not be read.
	Err error
}

// Do reads what the scan asks for. removal is the revision below which versions
// may be gone. It is asked after the read, because it is raised before the
// first version goes. scratch may be used again afterwards, and may be nil.
func (s *Scan) Do(r engine.Reader, removal func() Revision, scratch *mvcc.HistoryScratch) Scanned {
	out := Scanned{ID: s.ID}
	win, err := mvcc.History(r, mvcc.HistoryOptions{
		Start: s.Start, End: s.End, From: s.From, To: s.To, BytesMax: s.BytesMax, Prev: s.Prev, Scratch: scratch,
	})
	out.Removed, out.Through = removal(), win.Through
	if out.Err = err; err == nil && out.Removed <= s.From+1 {
		out.Events, out.Bytes = packEvents(win.Versions, s.Prev)
	}
	return out
}

// Join makes the answer to a scan of those to its parts, in order.
func (s *Scan) Join(parts []Scanned) Scanned {
	out := Scanned{ID: s.ID, Through: s.To, Removed: -1}
	for i := range parts {
		p := &parts[i]
		if p.Err != nil {
			return Scanned{ID: s.ID, Removed: -1, Err: p.Err}
		}
		out.Through, out.Removed = min(out.Through, p.Through), max(out.Removed, p.Removed)
		out.Events, out.Bytes = append(out.Events, p.Events...), out.Bytes+p.Bytes
	}
	slices.SortFunc(out.Events, compareEvents)
	n, _ := slices.BinarySearchFunc(out.Events, out.Through+1, func(ev *Event, rev Revision) int { return cmp.Compare(Revision(ev.Revision), rev) })
	clear(out.Events[n:])
	out.Events = out.Events[:n]
	return out
}

// Of returns the scan of one of its parts.
func (s *Scan) Of(p *Part) Scan {
	part := *s
	part.Start, part.End, part.Parts = p.Start, p.End, nil
	return part
}

// Took makes an answer to a scan of what another store says.
func (s *Scan) Took(events []peerpb.FeedEvent, through, removed Revision) Scanned {
	out := Scanned{ID: s.ID, Through: through, Removed: removed, Events: make([]*Event, len(events))}
	all := make([]Event, len(events))
	fillEvents(all, events)
	for i := range all {
		ev := &all[i]
		out.Bytes += ev.bytesFor(true)
		out.Events[i] = ev
	}
	return out
}

// maybeReadOn queues a place for its next window as soon as clients work through this
// one, so that neither waits for the other: of two that take turns each would be idle for
// half of the time.
func (c *Core) maybeReadOn(p *place) {
	if x := p.more; len(x.windows) == 1 && len(x.catching) > 0 {
		if win := x.windows[0]; win.through < p.group.released && len(win.events) > 0 {
			c.wantScan(p)
		}
	}
}

// startScan reads from the lowest revision that a watcher of the place wants and
// no window has.
func (c *Core) startScan(p *place, src source) {
	x := p.more
	if p.group.unsure {
		return // until it is not
	}
	var low Revision
	prev, found := false, false
	for _, w := range x.catching {
		prev = prev || w.has(wantsPrev)
		next, has, covered := w.next, w.stream.room(), false
		for _, win := range x.windows {
			if win.covers(w) {
				next, has, covered = win.through+1, true, true
			}
		}
		switch {
		case covered && next < c.compacted:
			// It hears of that when it has taken the window. To read it would find nothing, at
			// every try.
		case !has:
			c.block(w)
		case !found || next < low:
			low, found = next, true
		}
	}
	// A range that was just cut off does not lead yet, and has no bound; what was
	// released is closed for good.
	to := max(c.closed(p.group), p.group.released)
	if !found || low > to {
		return
	}
	if x.stride == 0 {
		// Smaller events are rare: no time is lost with a window that ends early.
		x.stride = max(1024, Revision(c.cfg.WindowBytesMax/(2*eventOverhead)))
	}
	s := &scan{place: p, kind: forPlace, source: src}
	s.Start, s.End = p.bounds()
	s.From, s.To, s.Prev = low-1, min(to, low-1+x.stride), prev
	if s.Parts = c.partsOf(p.group, s.Start, s.End); s.Parts == nil && s.To-s.From >= halvesFrom {
		s.Middle = c.middleOf(p.group, s.Start, s.End)
	}
	x.scan = s
	c.begin(s, c.cfg.WindowBytesMax)
}

// halvesFrom is over how many revisions a scan goes that is worth being cut in two.
const halvesFrom = 8192

// middleOf returns the start of the range in the middle of those that share keys with
// [start, end), nil if it is one. What is in the ranges is not known here; they do not
// differ much in size, for long.
func (c *Core) middleOf(g *group, start, end []byte) []byte {
	var starts [][]byte
	for _, f := range c.feeds[g.lo.pos : g.hi.pos+1] {
		if bytes.Compare(f.start, start) > 0 && (len(end) == 0 || bytes.Compare(f.start, end) < 0) {
			starts = append(starts, f.start)
		}
	}
	if len(starts) == 0 {
		return nil
	}
	return starts[len(starts)/2]
}

// Halves returns the scans of the two sides of Middle. Their answers are to be joined.
func (s *Scan) Halves() (left, right Scan) {
	left, right = *s, *s
	left.End, left.Middle, left.BytesMax = s.Middle, nil, s.BytesMax/2
	right.Start, right.Middle, right.BytesMax = s.Middle, nil, s.BytesMax/2
	return left, right
}

// rescan reads what a group did not get, up to what it is closed at.
func (c *Core) rescan(g *group, to Revision) {
	if g.scan != nil {
		return
	}
	src := c.sourceOf(g)
	if c.queues[src].running[forGroup] >= c.cfg.ScansMax {
		return // the end of one lets the next begin
	}
	s := &scan{group: g, kind: forGroup, source: src}
	s.Start, s.End = g.lo.start, nil
	if next := g.hi.pos + 1; next < len(c.feeds) {
		s.End = c.feeds[next].start
	}
	s.From, s.To = g.released, to
	s.Parts = c.partsOf(g, s.Start, s.End)
	s.Prev = s.Parts != nil // it cannot be read later
	g.scan = s
	c.begin(s, c.cfg.WindowBytesMax/4)
}

func (c *Core) begin(s *scan, bytesMax int) {
	c.lastScan++
	s.ID, s.BytesMax, s.reserved, s.began = c.lastScan, bytesMax, bytesMax, c.now
	c.windowBytes += bytesMax
	q := &c.queues[s.source]
	q.running[s.kind]++
	q.reserved += bytesMax
	c.scans[s.ID] = s
	c.newScans = append(c.newScans, s.Scan)
	c.stats.Scans++
}

// dropScan says that nobody wants a scan's result any more.
func (c *Core) dropScan(s *scan) { s.place, s.group = nil, nil }

// Scanned takes the answer to a Scan.
func (c *Core) Scanned(r *Scanned) {
	s := c.scans[r.ID]
	if s == nil {
		return
	}
	delete(c.scans, r.ID)
	q := &c.queues[s.source]
	q.running[s.kind]--
	q.reserved -= s.reserved
	c.windowBytes -= s.reserved
	if r.Removed > s.From+1 {
		c.compacted = max(c.compacted, r.Removed)
	}
	switch {
	case r.Err != nil || s.void:
		c.unanswered(s)
		if s.place != nil || s.group != nil {
			c.retries = append(c.retries, s)
		}
	case s.place != nil:
		c.placeScanned(s, r)
	case s.group != nil:
		c.groupScanned(s, r)
	}
}

// again takes up a scan that the engine could not do.
func (c *Core) again(s *scan) {
	if p := s.place; p != nil {
		p.more.scan = nil
		c.poke(p)
	}
	if g := s.group; g != nil {
		g.scan = nil
		if g.active {
			c.active = append(deleteItem(c.active, g), g) // others have their turn before
		}
		c.activate(g)
	}
}

func (c *Core) placeScanned(s *scan, r *Scanned) {
	p, x := s.place, s.place.more
	x.scan = nil
	c.answered(p.group)
	if len(x.catching) == 0 {
		return // nobody wants it any more
	}
	if r.Removed <= s.From+1 {
		win := &window{id: s.ID, from: s.From, through: r.Through, events: r.Events, bytes: r.Bytes, prev: s.Prev}
		x.windows = append(x.windows, win)
		c.windows[win] = p
		c.windowBytes += r.Bytes
		switch {
		case r.Through < s.To:
			x.stride = max(1, r.Through-s.From)
		case r.Bytes < c.cfg.WindowBytesMax/2:
			x.stride = min(2*x.stride, 1<<40)
		}
	}
	c.poke(p)
}

// groupScanned releases what a group had missed.
func (c *Core) groupScanned(s *scan, r *Scanned) {
	g := s.group
	g.scan = nil
	c.answered(g)
	if r.Removed > s.From+1 {
		c.compactGroup(g)
		return
	}
	for left := r.Events; len(left) > 0; {
		chunk := cutChunk(left, c.cfg.ResponseBytesMax, s.Prev)
		left = left[len(chunk):]
		c.match(g, chunk)
		c.deliver()
	}
	g.released = max(g.released, r.Through)
	// What was read elsewhere, a range that came meanwhile may lack.
	g.unsure = g.unsure || c.closed(g) < g.released
	n := upTo(g.held, g.released)
	rest := copy(g.held, g.held[n:])
	clear(g.held[rest:])
	g.held = g.held[:rest]
	c.activate(g)
}

// compactGroup ends the watches of a group that missed what is compacted. The
// others go on from the compacted revision.
func (c *Core) compactGroup(g *group) {
	var ended []*watcher
	g.places.all(func(p *place) {
		p.watchers(func(w *watcher) {
			if !w.has(catching) && max(w.next, g.released+1) < c.compacted {
				ended = append(ended, w)
			}
		})
	})
	slices.SortFunc(ended, func(a, b *watcher) int {
		return cmp.Or(cmp.Compare(a.stream.id, b.stream.id), cmp.Compare(a.id, b.id))
	})
	for _, w := range ended {
		c.compact(w)
	}
	g.released = max(g.released, c.compacted-1)
	if g.at >= 0 {
		g.held = g.held[upTo(g.held, g.released):]
		c.activate(g)
	}
}

// dropStalled gives up windows that nobody has taken for a while, when others
// wait for their room.
func (c *Core) dropStalled() {
	if !c.waits() {
		return
	}
	var stalled []*window
	for win, p := range c.windows {
		if win.stalled != 0 && c.now.Sub(win.stalled) >= c.cfg.StallMax && p.more.windows[0] == win {
			stalled = append(stalled, win)
		}
	}
	slices.SortFunc(stalled, func(a, b *window) int { return cmp.Compare(a.id, b.id) })
	for _, win := range stalled {
		p := c.windows[win]
		c.dropWindows(p)
		c.poke(p)
	}
}

// readPrev reads what a key was before an event; false: the engine cannot.
func (c *Core) readPrev(ev *Event) bool {
	kv, err := mvcc.Get(c.cfg.Reader, ev.Key, Revision(ev.Revision)-1)
	switch {
	case err != nil:
		return false
	case kv != nil:
		ev.PrevKV = kv
		c.rings.grown(ev.update, len(kv.Key)+len(kv.Value)+eventOverhead)
	}
	ev.prevRead = true
	return true
}

// packBytes is how much of what was read is kept or given up together.
const packBytes = 128 << 10

// packEvents makes events of versions. They lie in pieces of memory in their
// own order: what is sent does not keep in memory what is not.
func packEvents(versions []mvcc.Version, prev bool) (events []*Event, total int) {
	events = make([]*Event, len(versions))
	for at := 0; at < len(versions); {
		end, size := at, 0
		for end < len(versions) && size < packBytes {
			size += len(versions[end].Key) + len(versions[end].Raw)
			end++
		}
		total += size + (end-at)*eventOverhead
		arena := make([]byte, 0, size)
		block := make([]Event, end-at)
		for i := range block {
			v, ev := &versions[at+i], &block[i]
			ev.Revision, ev.Sub, ev.Tombstone = int64(v.Revision), v.Sub, v.Tombstone
			ev.CreateRevision, ev.Version, ev.Lease = int64(v.Create), v.Version, v.Lease
			ev.Key, arena = copyInto(arena, v.Key)
			ev.Value, arena = copyInto(arena, v.Raw)
			if ev.prevRead = prev; prev && v.Prev != nil {
				ev.PrevKV = v.Prev
				total += len(v.Prev.Value) + eventOverhead
			}
			events[at+i] = ev
		}
		at = end
	}
	return events, total
}

// copyInto copies bytes into an arena that has room for them.
func copyInto(arena, b []byte) (copied, rest []byte) {
	if len(b) == 0 {
		return nil, arena
	}
	n := len(arena)
	arena = append(arena, b...)
	return arena[n:len(arena):len(arena)], arena
}
