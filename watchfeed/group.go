package watchfeed

import (
	"cmp"
	"slices"

	"github.com/flotilladb/flotilla/internal/clock"
)

// group is the places over one run of feeds: they get every event of the run at
// the same time, when all of the run is closed at it.
type group struct {
	lo, hi *feed // the run, both ends included
	at     int   // in Core.groups
	// released: the synced watchers were given everything up to it. Never above
	// what the run is closed at. Invariant: grows.
	released Revision
	// held are updates of the run above released, by revision: all that were
	// applied, but for what lostTo says.
	held []*update
	// lostTo: what was applied up to it may be missing in held. The engine has it.
	lostTo Revision
	scan   *scan // under way for that
	// unsure: the run may not be closed at released yet, or cannot be read here up to
	// it. Nobody catches up before that.
	unsure bool
	// wanters are those of other stores that wait for released.
	wanters []wanter
	places  registry
	// active: in Core.active.
	active bool
	// reached is the highest revision that the run was closed at, at reachedAt or
	// before; kept up only while a client wants a leader.
	reached   Revision
	reachedAt clock.Time
}

// hold keeps an update until the run is closed at it.
func (g *group) hold(u *update) {
	if u.rev <= g.released {
		return
	}
	g.held = append(g.held, u)
	for i := len(g.held) - 1; i > 0 && g.held[i-1].rev > u.rev; i-- {
		g.held[i], g.held[i-1] = g.held[i-1], g.held[i]
	}
}

// closed is the highest revision at which every write of the group's run is
// applied here, was taken from elsewhere, or will never be. It does not go back, also
// when the group is divided, but where a range arrives.
func (c *Core) closed(g *group) Revision {
	if g.lo == g.hi {
		return g.lo.closed(c.current)
	}
	low := c.current
	for _, f := range c.bounded {
		if f.pos >= g.lo.pos && f.pos <= g.hi.pos {
			low = f.closed(low)
		}
	}
	return low
}

// groupOf returns the group of a run, made if need be. now was current a moment ago.
//
// A feed that nobody has followed yet begins at now, and so does a group over it:
// else it would have to read all that ever happened there.
func (c *Core) groupOf(lo, hi *feed, now Revision) *group {
	for _, g := range lo.groups {
		if g.lo == lo && g.hi == hi {
			return g
		}
	}
	g := &group{lo: lo, hi: hi}
	g.released = c.closed(g)
	for _, f := range c.feeds[lo.pos : hi.pos+1] {
		if f.absent && len(f.groups) == 0 && f.remote.id == 0 {
			c.rings.cut(&f.ring, now)
		}
		g.unsure = g.unsure || f.absent && now > g.released
	}
	if g.unsure {
		g.released = now
	}
	c.enter(g)
	for _, f := range c.feeds[lo.pos : hi.pos+1] {
		for _, u := range f.ring.from(g.released + 1) {
			g.hold(u)
		}
		if f.ring.low > g.released {
			g.lostTo = max(g.lostTo, f.ring.low)
		}
	}
	c.activate(g)
	return g
}

// enter makes a group known to its feeds.
func (c *Core) enter(g *group) {
	g.at = len(c.groups)
	g.reachedAt = c.now
	c.groups = append(c.groups, g)
	for _, f := range c.feeds[g.lo.pos : g.hi.pos+1] {
		f.groups = append(f.groups, g)
		c.follow(f)
	}
}

// maybeLeave drops a group without places.
func (c *Core) maybeLeave(g *group) {
	if g.places.n > 0 || g.at < 0 {
		return
	}
	last := len(c.groups) - 1
	c.groups[g.at] = c.groups[last]
	c.groups[g.at].at = g.at
	c.groups[last] = nil
	c.groups = c.groups[:last]
	g.at = -1
	for _, f := range c.feeds[g.lo.pos : g.hi.pos+1] {
		f.groups = slices.DeleteFunc(f.groups, func(o *group) bool { return o == g })
	}
	g.held, g.wanters = nil, nil
	if g.scan != nil {
		c.dropScan(g.scan)
		g.scan = nil
	}
}

// activate has a group looked at until it holds nothing.
func (c *Core) activate(g *group) {
	if !g.active && g.waits() {
		g.active = true
		c.active = append(c.active, g)
	}
}

func (g *group) waits() bool {
	return len(g.held) > 0 || g.lostTo > g.released || g.unsure || len(g.wanters) > 0
}

// advance releases what the run is closed at.
func (c *Core) advance(g *group) {
	if g.at < 0 {
		return
	}
	c.advanceTo(g, c.closed(g))
	if len(g.wanters) > 0 {
		c.answerWanters(g)
	}
}

// pokeAll has all places of a group looked at, in order: it decides whose scan goes first.
func (c *Core) pokeAll(g *group) {
	before := len(c.poked)
	g.places.all(c.poke)
	slices.SortFunc(c.poked[before:], (*place).compare)
}

func (c *Core) advanceTo(g *group, to Revision) {
	if g.unsure && to >= g.released {
		g.unsure = false
		c.pokeAll(g)
	}
	if to <= g.released {
		return
	}
	if g.lostTo > g.released {
		c.rescan(g, to)
		return
	}
	n := 0
	for n < len(g.held) && g.held[n].rev <= to {
		n++
	}
	if n > 0 {
		c.release(g, g.held[:n])
		rest := copy(g.held, g.held[n:])
		clear(g.held[rest:])
		g.held = g.held[:rest]
	}
	g.released = to
}

// release gives updates to the synced watchers, in responses of about
// ResponseBytesMax.
func (c *Core) release(g *group, ups []*update) {
	bytes := 0
	for len(ups) > 0 {
		if bytes > c.cfg.ResponseBytesMax {
			c.deliver()
			bytes = 0
		}
		n := 1
		for bytes += ups[0].size; n < len(ups) && ups[n].rev == ups[0].rev; n++ {
			bytes += ups[n].size
		}
		c.scratch = c.scratch[:0]
		for _, u := range ups[:n] {
			list := u.list()
			for i := range list {
				c.scratch = append(c.scratch, &list[i])
			}
		}
		if n > 1 {
			// A transaction over ranges.
			slices.SortFunc(c.scratch, compareEvents)
		}
		c.match(g, c.scratch)
		ups = ups[n:]
	}
	c.deliver()
}

func compareEvents(a, b *Event) int {
	return cmp.Or(cmp.Compare(a.Revision, b.Revision), cmp.Compare(a.Sub, b.Sub))
}

// touch is what one release has for a place.
type touch struct {
	place  *place
	events []*Event
}

// match notes which places want events. They come in order.
func (c *Core) match(g *group, events []*Event) {
	for _, ev := range events {
		g.places.at(ev.Key, func(p *place) {
			n := p.touch()
			if *n == 0 {
				c.touches = append(c.touches, touch{place: p})
				*n = uint32(len(c.touches))
			}
			t := &c.touches[*n-1]
			t.events = append(t.events, ev)
		})
	}
}

// deliver gives the synced watchers what match noted.
func (c *Core) deliver() {
	for i := range c.touches {
		t := &c.touches[i]
		p := t.place
		*p.touch() = 0
		if p.one != nil {
			if !p.one.has(catching) {
				c.give(p.one, t.events)
			}
		} else {
			g := giver{c: c, events: t.events}
			for _, w := range p.more.many {
				if !w.has(catching) {
					g.give(w)
				}
			}
		}
		*t = touch{}
	}
	c.touches = c.touches[:0]
}

// give offers events to one synced watcher.
func (c *Core) give(w *watcher, events []*Event) {
	g := giver{c: c, events: events}
	g.give(w)
}

// giver offers the same events to many watchers, and filters them once.
type giver struct {
	c        *Core
	events   []*Event
	filtered [filters + 1][]*Event
	done     [filters + 1]bool
	prevRead bool // or it was tried
	noPrev   bool // it cannot be
}

// give sends a synced watcher what it wants of the events, or lets it fall
// behind if its stream has no room.
func (g *giver) give(w *watcher) {
	events := g.events
	late := w.next > Revision(events[0].Revision)
	if late {
		if events = from(events, w.next); len(events) == 0 {
			return
		}
	}
	if !w.stream.room() {
		g.c.stats.FellBehind++
		g.c.fallBehind(w, Revision(events[0].Revision))
		return
	}
	if w.has(wantsPrev) && !g.prevRead {
		g.prevRead, g.noPrev = true, !g.c.readPrevs(g.events)
	}
	if w.has(wantsPrev) && g.noPrev {
		g.c.readLater(w, Revision(events[0].Revision))
		return
	}
	if f := w.flags & filters; late {
		events = filter(events, f)
	} else if f != 0 {
		if !g.done[f] {
			g.filtered[f], g.done[f] = filter(events, f), true
		}
		events = g.filtered[f]
	}
	if len(events) > 0 {
		g.c.sendEvents(w, events)
	}
}

// from returns the events at or above a revision.
func from(events []*Event, rev Revision) []*Event {
	i, _ := slices.BinarySearchFunc(events, int64(rev), func(ev *Event, rev int64) int { return cmp.Compare(ev.Revision, rev) })
	return events[i:]
}

// filter returns the events that a watcher with these flags wants.
func filter(events []*Event, f watcherFlags) []*Event {
	if f&filters == 0 {
		return events
	}
	var out []*Event
	for _, ev := range events {
		if ev.Tombstone && f&noDelete == 0 || !ev.Tombstone && f&noPut == 0 {
			out = append(out, ev)
		}
	}
	return out
}
