package node

import (
	"slices"
	"time"

	"github.com/flotilladb/flotilla/internal/clock"
	"github.com/flotilladb/flotilla/proto/metapb"
)

// A store whose node was removed from the cluster goes on until it has given its replicas
// away. When nothing here has to do with it any more, and it is not heard, it is not
// talked to either. If it is heard again it is answered: it has to learn what it is.

// leavers is what a core knows of stores whose nodes were removed.
type leavers struct {
	left   map[metapb.StoreID]bool
	leftAt clock.Time // when they are looked at again
	// forgotten are for the next Ready.
	forgotten []metapb.StoreID
}

const (
	// leftLook is how often stores that were removed are looked at.
	leftLook = time.Second
	// forgetAfter is how long such a store has to be silent to be forgotten.
	forgetAfter = 5 * time.Second
)

// Left tells which stores that were heard of are of nodes that are members no more.
func (c *Core) Left(ids []metapb.StoreID) {
	c.left = make(map[metapb.StoreID]bool)
	for _, id := range ids {
		c.left[id] = true
	}
}

// Talks returns the stores that this one talks to.
func (c *Core) Talks() []metapb.StoreID { return slices.Clone(c.order) }

// tickLeft forgets stores that were removed.
func (c *Core) tickLeft() {
	if len(c.left) == 0 || c.now.Before(c.leftAt) {
		return
	}
	c.leftAt = c.now.Add(leftLook)
	for _, to := range slices.Clone(c.order) {
		if c.left[to] && c.now.Sub(c.links[to].heardAt) >= forgetAfter && !c.sharesRange(to) {
			c.forget(to)
		}
	}
}

// sharesRange reports whether a range with a replica here has one on another store.
func (c *Core) sharesRange(to metapb.StoreID) bool {
	return slices.ContainsFunc(c.store.IDs(), func(id metapb.RangeID) bool {
		return c.store.Replica(id).Descriptor().ReplicaOn(to) != nil
	})
}

// forget talks no more to a store. Its link stays, for the number of its session.
func (c *Core) forget(to metapb.StoreID) {
	l := c.links[to]
	l.reset()
	l.down, l.forgotten = true, true
	c.lostLink(to)
	c.order = slices.DeleteFunc(c.order, func(id metapb.StoreID) bool { return id == to })
	c.store.DropPeer(to)
	c.forgotten = append(c.forgotten, to)
}
