package watchfeed

import (
	"bytes"

	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/proto/metapb"
)

// A range may leave its store, and come back by a snapshot, perhaps smaller and
// without what was cut off from it meanwhile. While it is away nothing of it may be
// read from the engine, and it is followed elsewhere. Both when it goes and when it
// is back, what was not released yet is read as history.

// gapBit is in the ids of feeds of which it is not known what range they are.
const gapBit metapb.RangeID = 1 << 63

// leave is called when a range is on this store no more.
func (c *Core) leave(id metapb.RangeID, through Revision) {
	f := c.byRange[id]
	if f == nil || f.absent {
		return
	}
	c.endFollowed(f)
	c.setBound(f, f.closed(c.current)+1) // it was known for what was current, not for what will be
	f.absent, f.overhang, f.wanted, f.remote = true, false, 0, remote{}
	c.absents = true
	// What is held would need the engine for what was before it.
	c.lost(id, through)
	for _, s := range c.scans { // any order
		if g := s.of(); g != nil && g.lo.pos <= f.pos && f.pos <= g.hi.pos {
			s.void = true // it may have found rows gone
		}
	}
	c.follow(f)
}

// of returns whose feeds a scan reads, nil if nobody's any more.
func (s *scan) of() *group {
	if s.place != nil {
		return s.place.group
	}
	return s.group
}

// arrive is called when an absent range is there again. How far it was closed
// elsewhere says nothing of its replica here.
func (c *Core) arrive(f *feed, through Revision) {
	c.unfollow(f)
	f.absent, f.wanted, f.floor, f.remote = false, 0, 0, remote{}
	c.heardOf(f)
	c.setBound(f, 1)
	c.lost(f.id, through)
	for _, g := range f.groups {
		g.unsure = true
		c.activate(g)
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

// keyless is called when a range is here that has no client keys. If it had some when
// it left, they were cut off from it since: how far it is closed says nothing about
// them any more.
func (c *Core) keyless(id metapb.RangeID) {
	if f := c.byRange[id]; f != nil && f.absent {
		c.gaps++
		delete(c.byRange, id)
		f.id = gapBit | c.gaps
		c.byRange[f.id] = f
	}
}

// endFeed puts an absent feed behind one that ends before the next begins, and in the
// place of one that has no client keys any more where nobody here has them: the right
// side of the split that took them is on its way.
func (c *Core) endFeed(f *feed, d *metapb.Descriptor, through Revision) {
	_, end, ok := keys.UserBounds(d.Span())
	if !ok {
		if next := c.endOf(f); next == nil || bytes.Compare(f.start, next) < 0 {
			c.leave(f.id, through)
			c.keyless(f.id)
		}
		return
	}
	if next := c.endOf(f); next != nil {
		past := bytes.Compare(next, end)
		if f.overhang = len(end) == 0 || past < 0; f.overhang || past == 0 {
			return
		}
	} else if f.overhang = false; len(end) == 0 {
		return
	}
	c.addGap(end, through)
}

// addGap puts an absent feed at a key. What was applied there is not above through.
func (c *Core) addGap(start []byte, through Revision) {
	c.gaps++
	gap := &feed{id: gapBit | c.gaps, start: bytes.Clone(start), bound: NoBound}
	c.byRange[gap.id] = gap
	c.addFeed(gap)
	c.setBound(gap, gap.floor+1)
	c.leave(gap.id, through)
}

// partsOf cuts [start, end), an empty end being the end of the keyspace, where some of
// it is here and some is not; nil: all of it is here.
func (c *Core) partsOf(g *group, start, end []byte) (parts []Part) {
	all := true
	for _, f := range c.feeds[g.lo.pos : g.hi.pos+1] {
		all = all && !f.absent
	}
	if all {
		return nil
	}
	for _, f := range c.feeds[g.lo.pos : g.hi.pos+1] {
		p := Part{Start: f.start, End: c.endOf(f), Here: !f.absent}
		if bytes.Compare(p.Start, start) < 0 {
			p.Start = start
		}
		if len(end) > 0 && (p.End == nil || bytes.Compare(p.End, end) > 0) {
			p.End = end
		}
		if n := len(parts); n > 0 && parts[n-1].Here == p.Here {
			parts[n-1].End = p.End
		} else {
			parts = append(parts, p)
		}
	}
	return parts
}
