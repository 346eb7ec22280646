package watchfeed

import (
	"maps"
	"slices"
)

// wantsLeader notes that a stream's client wants a leader. If it is the only one,
// nobody has looked for a while.
func (c *Core) wantsLeader() {
	if c.leaderStreams++; c.leaderStreams > 1 {
		return
	}
	for _, g := range c.groups {
		g.reachedAt = c.now
	}
}

// stuckTick ends the streams whose clients want a leader, when something that
// they watch has not been closed any further for long.
func (c *Core) stuckTick() {
	if c.leaderStreams == 0 {
		return
	}
	stuck := false
	for _, g := range c.groups {
		c.want(g, c.current)
		if to := c.closed(g); to > g.reached || to >= c.current {
			g.reached, g.reachedAt = to, c.now
		} else {
			stuck = stuck || c.isStuck(g)
		}
	}
	if !stuck {
		return
	}
	for _, id := range slices.Sorted(maps.Keys(c.streams)) {
		s := c.streams[id]
		if !s.cfg.RequireLeader || s.noLeader {
			continue
		}
		for g := range s.groups {
			if c.isStuck(g) {
				s.noLeader = true
			}
		}
		if s.noLeader {
			c.push(s, Response{Kind: NoLeader, ID: -1})
		}
	}
}

func (c *Core) isStuck(g *group) bool {
	return g.reached < c.current && c.now.Sub(g.reachedAt) >= c.cfg.NoLeaderAfter
}
