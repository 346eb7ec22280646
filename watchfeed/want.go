package watchfeed

import (
	"cmp"
	"slices"

	"github.com/flotilladb/flotilla/proto/metapb"
)

// Want says that somebody waits until a range is closed at a revision.
type Want struct {
	Range    metapb.RangeID
	Revision Revision
}

// want asks for a group's run to be closed at a revision, where it is not. On one
// store nobody is asked: that is known, or comes by itself.
func (c *Core) want(g *group, rev Revision) {
	if !c.asks {
		return
	}
	for _, f := range c.feeds[g.lo.pos : g.hi.pos+1] {
		if f.wanted >= rev || f.closed(c.current) >= rev {
			continue
		}
		if f.wanted = rev; f.absent {
			c.askFollowed(f)
		} else {
			c.wants = append(c.wants, Want{f.id, rev})
		}
	}
}

// wantHeld asks for what a group holds to be let go, all at once.
func (c *Core) wantHeld(g *group) {
	rev := g.lostTo
	if n := len(g.held); n > 0 {
		rev = max(rev, g.held[n-1].rev)
	}
	if g.unsure {
		rev = max(rev, g.released)
	}
	for _, x := range g.wanters {
		rev = max(rev, x.rev)
	}
	c.want(g, rev)
}

// wantProgress asks for what streams wait for that want to know how far they are.
func (c *Core) wantProgress() {
	for _, s := range c.asking {
		for g := range s.groups {
			// What is told of all must not be below what one of them was told.
			c.want(g, max(s.latest, s.said))
		}
	}
}

// takeWants returns what is wanted since the last call, by range.
func (c *Core) takeWants() []Want {
	wants := c.wants
	c.wants = nil
	slices.SortFunc(wants, func(a, b Want) int {
		return cmp.Or(cmp.Compare(a.Range, b.Range), cmp.Compare(a.Revision, b.Revision))
	})
	return wants
}
