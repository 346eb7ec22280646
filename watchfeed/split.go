package watchfeed

import (
	"bytes"
	"cmp"
	"maps"
	"slices"

	"github.com/flotilladb/flotilla/proto/metapb"
)

// descriptors takes in ranges that are new. Ranges tile the keyspace, so one that
// is new was cut off from the end of the one that held its first key.
func (c *Core) descriptors(descs []*metapb.Descriptor, through Revision) {
	var fresh []*feed
	for _, d := range descs {
		start, ok := userStart(d)
		if !ok {
			c.keyless(d.ID())
			continue
		}
		switch f := c.byRange[d.ID()]; {
		case f == nil && c.adopt(d.ID(), start, through):
		case f == nil:
			f = &feed{id: d.ID(), start: bytes.Clone(start), bound: NoBound}
			c.byRange[f.id] = f
			fresh = append(fresh, f)
		case f.absent:
			c.arrive(f, through)
		}
	}
	// Those that begin at the same key stay in the order in which they came: each but the
	// last gave its keys up to the next.
	slices.SortStableFunc(fresh, func(a, b *feed) int { return bytes.Compare(a.start, b.start) })
	for _, f := range fresh {
		c.addFeed(f)
		if f.pos == 0 || !c.feeds[f.pos-1].absent {
			continue
		}
		// What is followed to its left goes on with less.
		left := c.feeds[f.pos-1]
		c.unfollow(left)
		c.follow(left)
		c.arrive(f, through)
	}
	for _, d := range descs {
		if f := c.byRange[d.ID()]; f != nil {
			c.endFeed(f, d, through)
		}
	}
}

// addFeed puts a new feed into its place. Every group over the feed that it was
// cut off from goes on where it is; of those that end or begin there, some
// places lie in other runs from now on.
func (c *Core) addFeed(f *feed) {
	at := c.feedAt(f.start)
	if len(c.feeds) == 0 || bytes.Compare(c.feeds[at].start, f.start) > 0 {
		c.feeds = slices.Insert(c.feeds, 0, f)
		c.number()
		f.ring.low = c.current
		return
	}
	left := c.feeds[at]
	c.feeds = slices.Insert(c.feeds, at+1, f)
	c.number()
	c.rings.divide(&left.ring, &f.ring, f.start)
	// It is as far as it was, until its own bound comes.
	f.floor = left.closed(c.current)
	c.setBound(f, left.bound)
	f.silent = left.silent // what waits over it does so among the silent
	f.groups = slices.Clone(left.groups)
	for _, g := range slices.Clone(left.groups) {
		c.regroup(g, left, f)
	}
	if left.absent {
		// It came by itself: who waited for the whole may wait for this part alone.
		for _, g := range f.groups {
			c.pokeAll(g)
		}
	}
}

func (c *Core) number() {
	for i, f := range c.feeds {
		f.pos = i
	}
}

// regroup divides a group over a feed that was cut in two. A new group begins
// with what the old one has released and holds: its places lose nothing and get
// nothing twice.
func (c *Core) regroup(g *group, left, right *feed) {
	oldHi := g.hi
	switch {
	case g.lo != left && g.hi != left:
		return // the run goes on on both sides
	case g.hi == left && g.lo != left:
		// The old group keeps its name, [lo, left]; what reaches over the cut moves.
		right.groups = deleteItem(right.groups, g)
	case g.hi != left:
		// It keeps [left, hi]; what begins behind the cut moves.
	default:
		right.groups = deleteItem(right.groups, g)
	}
	forks := map[runKey]*group{}
	var moving []*place
	g.places.all(func(p *place) {
		if lo, hi := c.runOf(p); lo != g.lo || hi != oldHi {
			moving = append(moving, p)
			forks[runKey{lo.pos, hi.pos}] = nil
		}
	})
	for _, k := range slices.SortedFunc(maps.Keys(forks), runKey.compare) {
		forks[k] = c.fork(g, c.feeds[k.lo], c.feeds[k.hi])
	}
	for _, p := range moving {
		lo, hi := c.runOf(p)
		to := forks[runKey{lo.pos, hi.pos}]
		g.places.remove(p)
		to.places.add(p)
		p.group = to
		p.watchers(func(w *watcher) {
			c.leaveGroup(w.stream, g)
			w.stream.groups[to]++
		})
	}
	if len(g.wanters) > 0 {
		c.moveWanters(g)
	}
	c.maybeLeave(g)
}

// runKey is a run by the positions of its ends.
type runKey struct{ lo, hi int }

func (k runKey) compare(o runKey) int {
	return cmp.Or(cmp.Compare(k.lo, o.lo), cmp.Compare(k.hi, o.hi))
}

// runOf returns the run of a place.
func (c *Core) runOf(p *place) (lo, hi *feed) {
	if p.tree == nil {
		f := c.feeds[c.feedAt([]byte(p.key))]
		return f, f
	}
	return c.run([]byte(p.key), []byte(p.tree.end))
}

// fork begins a group for some places of another.
func (c *Core) fork(g *group, lo, hi *feed) *group {
	to := &group{lo: lo, hi: hi, released: g.released, lostTo: g.lostTo, unsure: g.unsure, held: slices.Clone(g.held)}
	c.enter(to)
	c.activate(to)
	return to
}
