package node

import (
	"fmt"
	"time"

	"github.com/flotilladb/flotilla/internal/clock"
	"github.com/flotilladb/flotilla/internal/frame"
	"github.com/flotilladb/flotilla/placement"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/range"
	"github.com/flotilladb/flotilla/router"
)

// Nothing is written that some member does not read. Stores tell each other what they
// read when they say who is there. The node that gives out revisions raises the cluster's
// format, a row of the system range, when every member is there and reads more; from
// there it spreads by the same way to stores without that range. It is never lowered: a
// node of an older version does not start on it.

// formats is what this node knows of the cluster's format.
type formats struct {
	format metapb.Format // what all members read. Invariant: grows.
	// raising is our request that raises it, 0: none; raiseAt when it may be asked again.
	raising uint64
	raiseAt clock.Time
	// halted are for the next Ready.
	halted []ranges.Halted
}

// raiseEvery is how often the members' formats are looked at.
const raiseEvery = 500 * time.Millisecond

// Format is what all members read, as far as this node knows.
func (c *Core) Format() metapb.Format { return c.format }

// Reads returns the highest format that a store reads, 0: it has not said so since it, or
// this node, started.
func (c *Core) Reads(store metapb.StoreID) metapb.Format {
	if store == c.cfg.StoreID {
		return c.cfg.Reads
	}
	if l := c.links[store]; l != nil {
		return l.peerFormats.Reads
	}
	return 0
}

// knowFormat takes in what is known of the cluster's format.
func (c *Core) knowFormat() {
	f := max(c.format, c.system.Format())
	for _, to := range c.order {
		f = max(f, c.links[to].peerFormats.Cluster)
	}
	if f > c.cfg.Reads {
		// It joined in the moment in which the format was raised, and nobody who let it in
		// had heard of that.
		c.fail(oldVersion(f, c.cfg.Reads))
	}
	f = min(f, c.cfg.Reads)
	for _, to := range c.order {
		c.links[to].formats = frame.Formats{Reads: c.cfg.Reads, Cluster: f}
	}
	if f != c.format {
		c.format = f
		c.store.SetFormat(f)
	}
}

// oldVersion says that a node does not read what the cluster writes.
func oldVersion(writes, reads metapb.Format) error {
	return fmt.Errorf("%w: the cluster writes format %d, this version reads up to %d", ErrOldVersion, writes, reads)
}

// tickFormat raises the cluster's format if that is due.
func (c *Core) tickFormat() {
	c.knowFormat()
	if c.seq == nil || c.stopping || c.raising != 0 || c.now.Before(c.raiseAt) {
		return
	}
	c.raiseAt = c.now.Add(raiseEvery)
	to, ok := c.lowestRead()
	if !ok || to <= c.system.Format() {
		return
	}
	c.internal++
	c.raising = internalBit | c.internal
	c.router.RequestOwn(c.raising, &router.SystemRequest{Op: &placement.FormatOp{Format: to}}, c.now)
}

// lowestRead returns what all members read; false if one is away, or is about to stop: it
// may come back with the version of before.
func (c *Core) lowestRead() (metapb.Format, bool) {
	lowest := c.cfg.Reads
	for _, m := range c.system.Members() {
		if m.Joined() {
			lowest = min(lowest, c.readsAndStays(m.Store))
		}
	}
	return lowest, lowest > 0
}

// readsAndStays is Reads of a store that is there and not about to stop, 0 of any other.
func (c *Core) readsAndStays(store metapb.StoreID) metapb.Format {
	if l := c.links[store]; !c.reaches(store) || l != nil && l.peerLeaves && !l.peerFull {
		return 0
	}
	return c.Reads(store)
}

// formatRaised takes the system range's answer. It reports whether it was that. What did
// not get there is tried again.
func (c *Core) formatRaised(reqID uint64) bool {
	if reqID != c.raising {
		return false
	}
	c.raising = 0
	return true
}
