package watchfeed

import (
	"bytes"

	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/proto/metapb"
)

// A range may leave its store, and come back by a snapshot, perhaps smaller and
// without what was cut off from it meanwhile. While it is away nothing of it is
// closed, and nothing of it may be read from the engine: who watches there waits.
// When it is back, what happened meanwhile is read from the engine.

// gapBit is in the ids of feeds of which it is not known what range they are.
const gapBit metapb.RangeID = 1 << 63

// leave is called when a range is on this store no more.
func (c *Core) leave(id metapb.RangeID, through Revision) {
	f := c.byRange[id]
	if f == nil || f.absent {
		return
	}
	f.absent = true
	// What is held would need the engine for what was before it.
	c.lost(id, through)
	for _, s := range c.scans { // any order
		if g := s.of(); g != nil && g.lo.pos <= f.pos && f.pos <= g.hi.pos {
			s.void = true // it may have found rows gone
		}
	}
}

// of returns whose feeds a scan reads, nil if nobody's any more.
func (s *scan) of() *group {
	if s.place != nil {
		return s.place.group
	}
	return s.group
}

// arrive is called when an absent range is there again.
func (c *Core) arrive(f *feed, through Revision) {
	f.absent, f.wanted = false, 0
	c.lost(f.id, through)
	for _, g := range f.groups {
		g.places.all(c.poke)
	}
}

// adopt gives a range the feed that is absent where it begins; false if there is none.
func (c *Core) adopt(id metapb.RangeID, start []byte, through Revision) bool {
	f := c.feeds[c.feedAt(start)]
	if f.id&gapBit == 0 || !bytes.Equal(f.start, start) {
		return false
	}
	delete(c.byRange, f.id)
	f.id = id
	c.byRange[id] = f
	c.arrive(f, through)
	return true
}

// endFeed puts an absent feed behind one that ends before the next begins.
func (c *Core) endFeed(f *feed, d *metapb.Descriptor) {
	_, end, ok := keys.UserBounds(d.Span())
	if next := f.pos + 1; !ok || len(end) == 0 || next < len(c.feeds) && bytes.Compare(c.feeds[next].start, end) <= 0 {
		return
	}
	c.addGap(end)
}

// addGap puts an absent feed at a key.
func (c *Core) addGap(start []byte) {
	c.gaps++
	gap := &feed{id: gapBit | c.gaps, start: bytes.Clone(start), bound: NoBound}
	c.byRange[gap.id] = gap
	c.addFeed(gap)
	c.setBound(gap, gap.floor+1)
	c.leave(gap.id, c.current)
}

// here reports whether all of a group's run is on this store.
func (c *Core) here(g *group) bool {
	for _, f := range c.feeds[g.lo.pos : g.hi.pos+1] {
		if f.absent {
			return false
		}
	}
	return true
}
