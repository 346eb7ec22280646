package watchfeed

import (
	"cmp"
	"slices"

	"github.com/flotilladb/flotilla/internal/clock"
)

// window is everything in a place with a revision in (from, through].
type window struct {
	id            uint64 // of the scan
	from, through Revision
	events        []*Event
	bytes         int
	prev          bool // the events have what was before them
	// stalled is since when every watcher that wants the window has no room; 0:
	// it is not so.
	stalled clock.Time
}

// covers reports whether the window has what a watcher wants next.
func (win *window) covers(w *watcher) bool {
	return w.next > win.from && w.next <= win.through && (win.prev || !w.has(wantsPrev))
}

// scan is a read of the engine under way, for a place or a group. Both are nil
// if nobody wants it any more.
type scan struct {
	Scan
	place    *place
	group    *group
	kind     int
	source   source
	began    clock.Time
	reserved int  // of Core.windowBytes
	void     bool // what it read does not count
}

// What a scan is for; an index of queue.running.
const (
	forPlace = iota
	forGroup
)

func (c *Core) startCatching(w *watcher) {
	w.flags |= catching
	w.stream.behind++
	c.stats.Catching++
	x := w.place.extra()
	w.behind = uint32(len(x.catching))
	x.catching = append(x.catching, w)
}

// synced notes that a watcher no longer catches up. Its place knows.
func (c *Core) synced(w *watcher) {
	w.flags &^= catching
	w.stream.behind--
	c.stats.Catching--
}

// fallBehind takes a synced watcher out of its group, because its stream has no
// room for what comes at next.
func (c *Core) fallBehind(w *watcher, next Revision) {
	w.next = next
	c.startCatching(w)
	c.block(w)
}

// readLater takes a synced watcher out of its group, because what was before the events
// at next cannot be read from the engine.
func (c *Core) readLater(w *watcher, next Revision) {
	w.next = next
	c.startCatching(w)
	c.poke(w.place)
}

// block has a watcher wait until its stream has room.
func (c *Core) block(w *watcher) {
	if !w.has(waiting) {
		w.flags |= waiting
		w.stream.blocked = append(w.stream.blocked, w)
		c.touchStream(w.stream) // its Output says Full
	}
}

// catchUp brings the watchers of a place forward, by one window from the rings
// at most: others have their turn before the next.
func (c *Core) catchUp(p *place) {
	g, x := p.group, p.more
	if g.at < 0 || len(x.catching) == 0 {
		return
	}
	c.advance(g)
	c.feedWindows(p)
	c.joinGroup(p)
	if g.unsure {
		return // until it is not
	}
	low, prev, ok := c.lowest(p)
	switch {
	case len(x.catching) == 0:
		c.dropWindows(p)
	case !ok:
		c.maybeReadOn(p)
	case c.ringsCover(g, low):
		win := c.ringWindow(p, low, prev)
		if win == nil {
			c.wantScan(p) // and again, until the engine can, or the range is read elsewhere
			return
		}
		c.feedWindow(p, win)
		c.joinGroup(p)
		c.poke(p)
	case low < c.compacted:
		c.compactBelow(p)
		c.poke(p)
	default:
		c.wantScan(p)
	}
}

// joinGroup makes synced who was given everything that the group has released.
func (c *Core) joinGroup(p *place) {
	x := p.more
	left := x.catching[:0]
	for _, w := range x.catching {
		if w.next > p.group.released {
			c.synced(w)
		} else {
			w.behind = uint32(len(left))
			left = append(left, w)
		}
	}
	clear(x.catching[len(left):])
	x.catching = left
	if len(p.group.wanters) > 0 {
		c.answerWanters(p.group)
	}
}

// lowest returns the lowest revision wanted by a watcher whose stream has room
// and that no window has, and whether one of those wants what was before; ok is
// false if there is none.
func (c *Core) lowest(p *place) (low Revision, prev, ok bool) {
	for _, w := range p.more.catching {
		if !w.stream.room() {
			c.block(w)
			continue
		}
		prev = prev || w.has(wantsPrev)
		if !ok || w.next < low {
			low, ok = w.next, true
		}
	}
	return low, prev, ok
}

// compactBelow ends the watches that want what is compacted.
func (c *Core) compactBelow(p *place) {
	for _, w := range slices.Clone(p.more.catching) {
		if w.next < c.compacted {
			c.compact(w)
		}
	}
}

// feedWindows gives the watchers of a place what windows have for them, and
// drops the windows that nobody wants: not those behind one that is wanted.
func (c *Core) feedWindows(p *place) {
	x := p.more
	wanted := false
	for i := 0; i < len(x.windows); i++ {
		win := x.windows[i]
		if c.feedWindow(p, win) {
			wanted = true
			if win.stalled == 0 {
				win.stalled = max(c.now, 1)
			}
		}
		if !wanted {
			c.dropFirstWindow(p)
			i--
		}
	}
}

// feedWindow gives the watchers of a place what a window has for them. It
// reports whether one had no room for all.
func (c *Core) feedWindow(p *place, win *window) (blocked bool) {
	for _, w := range p.more.catching {
		for win.covers(w) {
			if !w.stream.room() {
				c.block(w)
				blocked = true
				break
			}
			win.stalled = 0
			chunk := cutChunk(from(win.events, w.next), min(c.cfg.ResponseBytesMax, w.stream.cfg.QueueBytesMax-w.stream.queuedBytes), w.has(wantsPrev))
			if len(chunk) == 0 {
				w.next = win.through + 1
				break
			}
			w.next = Revision(chunk[len(chunk)-1].Revision) + 1
			if wanted := filter(chunk, w.flags); len(wanted) > 0 {
				c.sendEvents(w, wanted)
			}
		}
	}
	return blocked
}

// cutChunk returns the first events that make about bytesMax, with what was before them or
// without, whole revisions.
func cutChunk(events []*Event, bytesMax int, prev bool) []*Event {
	bytes := 0
	for i, ev := range events {
		if bytes >= bytesMax && ev.Revision != events[i-1].Revision {
			return events[:i]
		}
		bytes += ev.bytesFor(prev)
	}
	return events
}

func (c *Core) dropFirstWindow(p *place) {
	win := p.more.windows[0]
	p.more.windows = slices.Delete(p.more.windows, 0, 1)
	c.windowBytes -= win.bytes
	delete(c.windows, win)
}

func (c *Core) dropWindows(p *place) {
	for len(p.more.windows) > 0 {
		c.dropFirstWindow(p)
	}
}

// ringsCover reports whether all updates of a group's run at or above a revision
// are in the rings.
func (c *Core) ringsCover(g *group, low Revision) bool {
	for _, f := range c.feeds[g.lo.pos : g.hi.pos+1] {
		if f.ring.low >= low {
			return false
		}
	}
	return true
}

// ringUpdatesMax bounds a window from the rings, ringPrevsMax one for which the
// engine is asked what was before each event.
const (
	ringUpdatesMax = 4096
	ringPrevsMax   = 256
)

// ringWindow merges what the rings have for a place from a revision on, up to
// what its group has released; nil: the engine cannot read what was before.
func (c *Core) ringWindow(p *place, low Revision, prev bool) *window {
	g := p.group
	win := &window{from: low - 1, through: g.released, prev: prev}
	most := ringUpdatesMax
	if prev {
		most = ringPrevsMax
	}
	var ups []*update
	for _, f := range c.feeds[g.lo.pos : g.hi.pos+1] {
		list := f.ring.from(low)
		if n := upTo(list, win.through); len(list) > n {
			list = list[:n]
		}
		// More of one ring than fit in all is not needed; the window ends there.
		if len(list) > most {
			// Of one revision it may be, which then comes as a whole.
			win.through = max(low, list[most].rev-1)
			list = list[:upTo(list, win.through)]
		}
		ups = append(ups, list...)
	}
	slices.SortStableFunc(ups, func(a, b *update) int { return cmp.Compare(a.rev, b.rev) })
	if len(ups) > most {
		win.through = min(win.through, ups[most].rev-1)
	}
	if win.through < low { // one revision, of very many updates
		win.through = low
	}
	ups = ups[:upTo(ups, win.through)]
	for _, u := range ups {
		list := u.list()
		for i := range list {
			if p.contains(list[i].Key) {
				win.events = append(win.events, &list[i])
			}
		}
	}
	slices.SortFunc(win.events, compareEvents)
	if prev && !c.readPrevs(win.events) {
		return nil
	}
	return win
}

// upTo returns how many of the updates, which are in order, are not above a
// revision.
func upTo(ups []*update, through Revision) int {
	n, _ := slices.BinarySearchFunc(ups, through+1, func(u *update, rev Revision) int { return cmp.Compare(u.rev, rev) })
	return n
}
