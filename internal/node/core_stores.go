package node

import (
	"errors"
	"slices"
	"time"

	"github.com/flotilladb/flotilla/internal/clock"
	"github.com/flotilladb/flotilla/internal/frame"
	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/placement"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/peerpb"
	"github.com/flotilladb/flotilla/range"
	"github.com/flotilladb/flotilla/router"
)

// A node may have no replica of the system range, or none at all: it joined a
// moment ago. What such a node does not know it asks any other store, which says
// who knows.

// stores is what a core knows of the stores and ranges that it shares nothing with.
type stores struct {
	// guess turns who is asked for what nobody is known for.
	guess int
	// misses is how often the router did not know a range when the directory was
	// asked last; lookupAt is when it may be asked again.
	misses    uint64
	stale     bool // a range is not where the router looked
	lookingUp bool
	lookup    placement.LookupOp
	lookupAt  clock.Time
	leavers
}

// lookupDelay is how long the directory is left alone after it was read, and
// lookupPage how many ranges are read at once.
const (
	lookupDelay = 200 * time.Millisecond
	lookupPage  = 1000
)

// Meet tells of stores of the cluster.
func (c *Core) Meet(ids []metapb.StoreID) {
	for _, id := range ids {
		c.meetStore(id)
	}
}

// meetStore makes the link to a store.
func (c *Core) meetStore(to metapb.StoreID) {
	l := c.links[to]
	switch {
	case to == 0 || to == c.cfg.StoreID || l != nil && !l.forgotten:
		return
	case l != nil:
		l.forgotten = false
		c.addLink(to)
		return
	}
	c.links[to] = &link{self: c.cfg.StoreID, peer: to, selfStart: c.cfg.StoreStart, formats: frame.Formats{Reads: c.cfg.Reads, Cluster: c.format}}
	c.waits[to] = make(map[uint64]metapb.RangeID)
	c.addLink(to)
}

func (c *Core) addLink(to metapb.StoreID) {
	// Who is met late is told too: it would give leaders to this store, or wait for it.
	l := c.links[to]
	if l.leaves = c.draining; c.said {
		l.end()
	}
	c.order = append(c.order, to)
	slices.Sort(c.order)
}

// knowSystem has the router know the system range before it has heard of it. If
// this is an old picture of it, whoever is asked sends the one that is right.
func (c *Core) knowSystem() {
	if c.store.Replica(metapb.SystemRange) == nil {
		c.router.Descriptors([]*metapb.Descriptor{{
			RangeId: uint64(metapb.SystemRange), End: []byte{byte(keys.KindLease)}, Generation: 1, NextReplicaId: 1,
		}})
	}
}

// askable returns the store to ask for a range's leader: who is said to lead it if
// that one can be asked, else, where no replica here can tell, somebody who may
// know. Whom a replica knows that is adrift does not.
func (c *Core) askable(id metapb.RangeID) (metapb.StoreID, bool) {
	hint, ok := c.leaderOf(id)
	if ok && c.reaches(hint.store) {
		return hint.store, true
	}
	r := c.store.Replica(id)
	if r != nil && (!r.Adrift() || r.Undecided()) {
		return 0, false
	}
	if d := c.knownSince(id, r); d != nil {
		for i := range d.Replicas {
			r := d.Replicas[(i+c.guess)%len(d.Replicas)]
			if to := metapb.StoreID(r.StoreId); to != hint.store && c.canAsk(to) {
				return to, true
			}
		}
	}
	for i := range c.order {
		if to := c.order[(i+c.guess)%len(c.order)]; to != hint.store && c.canAsk(to) {
			return to, true
		}
	}
	return 0, false
}

// knownSince returns what the router knows of a range that its replica here, which may be
// nil, does not; nil: nothing.
func (c *Core) knownSince(id metapb.RangeID, r *ranges.Replica) *metapb.Descriptor {
	if d := c.router.Find(id); d != nil && (r == nil || d.Generation > r.Descriptor().Generation) {
		return d
	}
	return nil
}

// askAround asks, for replicas that are adrift, also the stores that have their ranges by now
// whether they are part of them. Those that the replica knows may have none any more, and
// cannot say. If the router does not know these stores it is to find out: a change of
// nothing, which whoever leads refuses, brings it there.
func (c *Core) askAround(present []ranges.Gone) {
	for i, g := range present {
		r := c.store.Replica(g.Range)
		if r == nil || !r.Adrift() || i > 0 && present[i-1].Range == g.Range {
			continue
		}
		if d := c.knownSince(g.Range, r); d != nil {
			for _, p := range d.Replicas {
				if to := metapb.StoreID(p.StoreId); to != c.cfg.StoreID && r.Descriptor().ReplicaOn(to) == nil {
					f := c.goneTo(to)
					f.Present = append(f.Present, peerpb.Gone{Range: g.Range, Replica: g.Replica})
				}
			}
		}
		c.internal++
		c.router.RequestOwn(internalBit|c.internal, &router.AddressRequest{Address: r.Descriptor().Start, Body: &peerpb.ChangeReplicas{}}, c.now)
	}
}

// canAsk reports whether a store was heard of lately. A link alone does not tell, as
// long as nothing is sent.
func (c *Core) canAsk(to metapb.StoreID) bool {
	l := c.links[to]
	return l != nil && l.ready() && c.now.Sub(l.heardAt) < awayAfter
}

// reaches reports whether a store was heard of lately, or is this one.
func (c *Core) reaches(store metapb.StoreID) bool { return store == c.cfg.StoreID || c.canAsk(store) }

// misled notes that a store that was asked for a range's leader does not know it,
// or has nothing of the range.
func (c *Core) misled(from metapb.StoreID, id metapb.RangeID, err error) {
	var not *peerpb.NotLeaderError
	lacks := errors.Is(err, peerpb.ErrRangeNotFound)
	if !lacks && !errors.As(err, &not) {
		return
	}
	// Also in favour of whom it names in the same term: that of a hint may be a guess.
	if hint := c.leaders[id]; hint.store == from && (lacks || not.Leader == 0 || not.Term >= hint.term) {
		delete(c.leaders, id)
	}
	if !lacks && not.Leader != 0 {
		return
	}
	c.guess++
	c.stale = c.stale || lacks
}

// mayLookUp reports whether the directory is to be read.
func (c *Core) mayLookUp() bool {
	return c.many && !c.lookingUp && !c.stopping && (c.stale || c.router.Misses() != c.misses) && !c.now.Before(c.lookupAt)
}

// lookUp reads the directory, since the router does not know all ranges.
func (c *Core) lookUp() {
	c.lookingUp, c.stale = true, false
	c.misses = c.router.Misses()
	c.lookup = placement.LookupOp{Max: lookupPage}
	c.router.RequestOwn(lookupID, &router.SystemRequest{Op: &c.lookup}, c.now)
}

// lookedUp takes a page of the directory.
func (c *Core) lookedUp(resp any, err error) {
	page, ok := resp.(*placement.LookupReply)
	if err == nil && ok {
		c.router.Descriptors(page.Descriptors)
		if next := page.Next(lookupPage); next != nil {
			c.lookup = *next
			c.router.RequestOwn(lookupID, &router.SystemRequest{Op: &c.lookup}, c.now)
			return
		}
	}
	c.lookingUp = false
	c.lookupAt = c.now.Add(lookupDelay)
}

// sawSequencer notes who leads the system range, where no replica here can tell:
// who gives out revisions does, in the term that is its epoch.
func (c *Core) sawSequencer(from metapb.StoreID, a *placement.Answer) {
	if a.Err == nil && a.Epoch > c.leaders[metapb.SystemRange].term && c.store.Replica(metapb.SystemRange) == nil {
		c.leaders[metapb.SystemRange] = leaderHint{from, a.Epoch}
	}
}
