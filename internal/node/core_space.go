package node

import (
	"time"

	"github.com/flotilladb/flotilla/internal/clock"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/peerpb"
)

// A store whose disk gets full gives its leaders to stores that have room, and goes on
// as a follower. Where it cannot, and where too few of a range's stores have room, the
// leader refuses what needs space.

// space is which disks have room.
type space struct {
	full   bool // this store's has not
	fullAt clock.Time
	lookAt clock.Time // when leaders are looked for again that can go
	// tight: this store's disk is full, or some other's.
	tight bool
}

const (
	// fullGrace is how long what needs space may wait for a leader to leave a store that
	// is full.
	fullGrace = 5 * time.Second
	// fullLook is how often a store that is full looks for leaders that can go.
	fullLook = time.Second
)

// SetFull says whether the store's disk takes writes that need space.
func (c *Core) SetFull(full bool) {
	if full && !c.full {
		c.fullAt, c.lookAt = c.now, c.now
	}
	c.full = full
	if !c.many {
		c.store.SetFull(full)
		return
	}
	for _, to := range c.order {
		c.links[to].full = full
		c.links[to].helloAt = 0 // it is told at once
	}
	c.tickFull()
	c.advanceMoves()
}

// tickFull looks whose disks are full.
func (c *Core) tickFull() {
	tight := c.full
	for _, to := range c.order {
		tight = tight || c.links[to].peerFull
		c.links[to].full = c.full
	}
	if tight || c.tight {
		c.tight = tight
		c.store.SetFull(false)
		if tight {
			c.store.SetRefusal(c.refusal)
		}
	}
	if c.full && !c.now.Before(c.lookAt) {
		c.looked, c.lookAt = false, c.now.Add(fullLook)
	}
}

// refusal says why the leader of a range here takes nothing that needs space: it is
// about to leave, or the disks of a quorum are full.
func (c *Core) refusal(id metapb.RangeID) error {
	if c.full && c.now.Sub(c.fullAt) < fullGrace && c.heir(id) != 0 {
		return peerpb.ErrRefused // it is asked again
	}
	r := c.store.Replica(id)
	if c.full || r == nil {
		return peerpb.ErrDiskFull
	}
	voters, room := 0, 0
	for _, p := range r.Descriptor().Replicas {
		if p.Kind != metapb.ReplicaKind_VOTER && p.Kind != metapb.ReplicaKind_INCOMING {
			continue
		}
		voters++
		if l := c.links[metapb.StoreID(p.StoreId)]; l == nil || !l.peerFull {
			room++
		}
	}
	if room <= voters/2 {
		return peerpb.ErrDiskFull
	}
	return nil
}

// NoneTakes reports whether too few stores have room for a range to be written. A store
// that is not heard of may have some, one that was removed takes nothing.
func (c *Core) NoneTakes() bool {
	if !c.full {
		return false
	}
	stores, room := 1, 0
	for _, to := range c.order {
		if c.left[to] {
			continue
		}
		stores++
		if !c.links[to].peerFull {
			room++
		}
	}
	return room <= min(stores, 3)/2
}
