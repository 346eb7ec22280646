package node

import (
	"slices"
	"time"

	"github.com/flotilladb/flotilla/internal/clock"
	"github.com/flotilladb/flotilla/placement"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/peerpb"
	"github.com/flotilladb/flotilla/range"
	"github.com/flotilladb/flotilla/router"
)

// A replica that is condemned is out of service on its store, durably, and noted in
// the system range, whose planner has it replaced. Whoever knows of one, the store
// that found it, its own store, the planner, tells both until it is gone: each of
// them may end at any moment.

// corrupts are the replicas that this store knows to be corrupt.
type corrupts struct {
	corrupt    []*corrupt // by range, then replica
	corruptAt  clock.Time // when they are looked at next
	reportedBy map[uint64]*corrupt
	// found are for the next Ready.
	found []Corrupt
}

// corrupt is a replica that is condemned.
type corrupt struct {
	id        metapb.RangeID
	replica   metapb.ReplicaID
	store     metapb.StoreID
	node      metapb.NodeID
	undecided bool
	next      metapb.ReplicaID // the range's next id when it was found; 0: it was not here
	// told: its store has taken it out of service; noted: the system range knows.
	told, noted, asked bool
	at                 clock.Time
}

// Corrupt is a replica whose data was found to be corrupt.
type Corrupt struct {
	Range   metapb.RangeID
	Replica metapb.ReplicaID
	Store   metapb.StoreID
	// Undecided: replicas of the range differ, and nobody can say which are right.
	Undecided bool
	// Trusted: an operator could, and it is in service again.
	Trusted bool
}

const (
	// corruptEvery is when corrupt replicas are looked at, corruptRetry when somebody
	// is told again, corruptAgain the same of who has confirmed it: it may have
	// forgotten.
	corruptEvery = 100 * time.Millisecond
	corruptRetry = 500 * time.Millisecond
	corruptAgain = 5 * time.Second
)

// condemn takes a replica out of service, wherever it is.
func (c *Core) condemn(d *metapb.Descriptor, id metapb.ReplicaID, undecided bool) {
	for _, p := range d.Replicas {
		if p.ReplicaId == uint64(id) {
			c.noteCorrupt(corrupt{
				id: d.ID(), replica: id, store: metapb.StoreID(p.StoreId), node: metapb.NodeID(p.NodeId), undecided: undecided,
				next: metapb.ReplicaID(d.NextReplicaId),
			})
		}
	}
	c.tickCorrupts()
}

// noteCorrupt keeps that a replica is corrupt until it is gone.
func (c *Core) noteCorrupt(x corrupt) {
	i, known := slices.BinarySearchFunc(c.corrupt, x, func(a *corrupt, b corrupt) int {
		return compareReplicas(a.id, a.replica, b.id, b.replica)
	})
	switch {
	case !known:
		c.corrupt = slices.Insert(c.corrupt, i, &x)
	case c.corrupt[i].undecided && !x.undecided:
		c.forgetCorrupt(c.corrupt[i])
		c.corrupt = slices.Insert(c.corrupt, i, &x)
	default:
		return
	}
	c.corruptAt = 0
	c.found = append(c.found, Corrupt{Range: x.id, Replica: x.replica, Store: x.store, Undecided: x.undecided})
}

// forgetCorrupt forgets what was known of a replica.
func (c *Core) forgetCorrupt(x *corrupt) {
	c.corrupt = slices.DeleteFunc(c.corrupt, func(o *corrupt) bool { return o == x })
}

// loadCorrupts finds the replicas that were condemned before this start.
func (c *Core) loadCorrupts() {
	for _, id := range c.store.IDs() {
		r := c.store.Replica(id)
		if r.Condemned() {
			c.noteOwn(r)
		}
		c.condemnOthers(r)
	}
	c.found = nil // it was said
}

// noteOwn notes a replica of this store.
func (c *Core) noteOwn(r *ranges.Replica) {
	c.noteCorrupt(corrupt{
		id: r.Descriptor().ID(), replica: r.ID(), store: c.cfg.StoreID, node: c.cfg.NodeID, undecided: r.Undecided(), told: true,
	})
}

// tickCorrupts tells of corrupt replicas, and forgets those that are gone.
func (c *Core) tickCorrupts() {
	if c.now.Before(c.corruptAt) {
		return
	}
	c.corruptAt = c.now.Add(corruptEvery)
	if c.seq != nil {
		c.loadNoted()
	}
	c.corrupt = slices.DeleteFunc(c.corrupt, func(x *corrupt) bool { return !x.asked && c.isGone(x) })
	for _, x := range c.corrupt {
		if c.now.Before(x.at) {
			continue
		}
		x.at = c.now.Add(corruptRetry)
		if x.told && x.noted {
			x.at = c.now.Add(corruptAgain)
		}
		c.tellStore(x)
		c.tellSystem(x)
	}
}

// loadNoted takes in, where the planner is, what the system range knows: who found it
// may have ended before the replica's store heard of it.
func (c *Core) loadNoted() {
	for _, n := range c.system.Corrupt() {
		if n.Undecided {
			continue // it may be trusted by now; older versions noted such
		}
		_, known := slices.BinarySearchFunc(c.corrupt, n, func(a *corrupt, b placement.Corrupt) int {
			return compareReplicas(a.id, a.replica, b.Range, b.Replica)
		})
		if known || c.isGone(&corrupt{id: n.Range, replica: n.Replica}) {
			continue // the directory hears of it soon
		}
		for _, d := range c.system.Directory().Lookup(nil, metapb.Span{}) {
			if d.ID() == n.Range {
				c.condemn(d, n.Replica, false)
			}
		}
	}
}

// isGone reports whether a replica is not part of its range any more.
func (c *Core) isGone(x *corrupt) bool {
	o := operation{op: placement.Operator{ID: placement.OperatorID{Range: x.id}}}
	if !c.see(&o) || uint64(x.replica) >= o.desc.NextReplicaId {
		return false
	}
	return !slices.ContainsFunc(o.desc.Replicas, func(p *metapb.Replica) bool { return p.ReplicaId == uint64(x.replica) })
}

// isCorrupt reports whether a store's replica of a range is known to be of no use.
func (c *Core) isCorrupt(id metapb.RangeID, store metapb.StoreID) bool {
	return slices.ContainsFunc(c.corrupt, func(x *corrupt) bool { return x.id == id && x.store == store })
}

// knowsCorrupt reports whether a replica is condemned.
func (c *Core) knowsCorrupt(id metapb.RangeID, replica metapb.ReplicaID) bool {
	return slices.ContainsFunc(c.corrupt, func(x *corrupt) bool { return x.id == id && x.replica == replica })
}

// Doubtful says what is known of the data of a range with a replica here: no replica
// is in service, since nobody knows which are right; or which are known to be corrupt.
func (c *Core) Doubtful(r *ranges.Replica) (undecided bool, corrupt []uint64) {
	for _, x := range c.corrupt {
		if x.id == r.Descriptor().ID() && !x.undecided {
			corrupt = append(corrupt, uint64(x.replica))
		}
	}
	return r.Condemned() && r.Undecided(), corrupt
}

func (c *Core) tellStore(x *corrupt) {
	m := peerpb.CheckMessage{Kind: peerpb.CheckCondemns, Range: x.id, Replica: x.replica, Undecided: x.undecided, Number: uint64(x.next)}
	if x.store != c.cfg.StoreID {
		c.sayCheck(x.store, m)
		return
	}
	if r := c.store.Replica(x.id); r != nil && !outdated(r, &m) {
		c.store.Condemn(x.id, x.replica, x.undecided)
	}
	x.told = true
}

// tellSystem notes a replica in the system range.
func (c *Core) tellSystem(x *corrupt) {
	if x.noted || x.asked || c.stopping || !c.format.Has(metapb.CorruptReplicas) {
		return
	}
	c.internal++
	id := internalBit | c.internal
	if c.reportedBy == nil {
		c.reportedBy = make(map[uint64]*corrupt)
	}
	c.reportedBy[id], x.asked = x, true
	op := &placement.CorruptOp{Range: x.id, Replica: x.replica, Member: x.node, Undecided: x.undecided}
	c.router.RequestOwn(id, &router.SystemRequest{Op: op}, c.now)
}

// corruptNoted takes the system range's answer. It reports whether it was one.
func (c *Core) corruptNoted(reqID uint64, body any, err error) bool {
	x, ok := c.reportedBy[reqID]
	if !ok {
		return false
	}
	delete(c.reportedBy, reqID)
	x.asked = false
	reply, ok := body.(*placement.AlarmReply)
	x.noted = err == nil && ok && len(reply.Alarms) > 0
	return true
}

// stepCorrupt takes what a store says about a corrupt replica.
func (c *Core) stepCorrupt(from metapb.StoreID, m *peerpb.CheckMessage) {
	if m.Kind == peerpb.CheckCondemned {
		for _, x := range c.corrupt {
			if x.id == m.Range && x.replica == m.Replica && x.store == from {
				x.told = true
			}
		}
		return
	}
	r := c.store.Replica(m.Range)
	if r != nil && outdated(r, m) {
		c.sayCheck(from, peerpb.CheckMessage{Kind: peerpb.CheckTrusted, Range: m.Range, Replica: m.Replica, State: peerpb.CheckDone})
		return
	}
	if r != nil && c.store.Condemn(m.Range, m.Replica, m.Undecided) {
		c.noteOwn(r)
	}
	a := *m
	a.Kind = peerpb.CheckCondemned
	c.sayCheck(from, a)
}
