package node

import (
	"iter"
	"maps"
	"slices"
	"time"

	"github.com/flotilladb/flotilla/internal/clock"
	"github.com/flotilladb/flotilla/internal/invariant"
	"github.com/flotilladb/flotilla/placement"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/peerpb"
	"github.com/flotilladb/flotilla/router"
)

// planning is the planner's driver: on the node that gives out revisions it makes a
// picture of the cluster, plans, and hands what is planned to the operations. When it
// moves to another node that one begins with a new look; what was under way is in the
// ranges' descriptors.
type planning struct {
	planAt    clock.Time
	planEpoch uint64 // of the sequencer beside which heard was filled
	// heard is when each store could last be reached.
	heard map[metapb.StoreID]clock.Time
	// leaderTurn is whose turn it is to be asked who leads it.
	leaderTurn int
	// pictured is the last picture of ranges, elsewhere are those of them that have no replica
	// here, and seen is what their descriptors were taken from.
	pictured  []placement.RangeState
	elsewhere []int
	seen      seen
	// storesThen and corruptThen are what the last picture had of stores and of corrupt replicas.
	// Before pictureAt there is no other unless they change, or, from changedAt on, descriptors do.
	storesThen           []placement.StoreState
	corruptThen          []placement.Corrupt
	pictureAt, changedAt clock.Time
	// transfers are planned and not begun: the next look plans them anew.
	transfers []placement.Operator
	// asksLeave is our request that removes a member that leaves, 0: none. The last one was for
	// askedLeave.
	asksLeave  uint64
	askedLeave metapb.NodeID
}

// seen counts what there was to know of descriptors: while it is the same, so are they.
type seen struct {
	directory          *placement.Directory
	changes            uint64 // of the directory
	learned, ownLearnt uint64 // by the router, and of the replicas here
}

const (
	// planInterval is how often the planner looks.
	planInterval = 500 * time.Millisecond
	// planQuietRanges is for how many ranges each the next look at all of them is later by
	// an interval, when there was nothing to do and the stores are as they were: it costs
	// more than anything else that an idle node does.
	planQuietRanges = 250
	// planChangeRanges is the same while only leaders are moved for balance, or when there was
	// nothing to do and descriptors have changed since: a range that was split is led where it
	// was. All transfers are planned by one look; until they are begun there is no other.
	planChangeRanges = 2500
	// transfersAtOnce are begun in an interval.
	transfersAtOnce = 128
	// awayAfter is how long a store may be silent until it gets nothing new.
	awayAfter = 2 * time.Second
	// leadersMax bounds the ranges that a look asks who leads them.
	leadersMax = 32
)

// tickPlan plans if it is time to.
func (c *Core) tickPlan() {
	if c.cfg.Planner == nil || c.seq == nil || c.stopping || c.now.Before(c.planAt) {
		return
	}
	c.planAt = c.now.Add(planInterval)
	if c.heard == nil || c.planEpoch != c.epoch {
		c.heard, c.planEpoch = make(map[metapb.StoreID]clock.Time), c.epoch
		c.pictureAt = 0
	}
	limits := *c.cfg.Planner
	if limits.Validate() != nil {
		return
	}
	c.endLeaving()
	stores := c.storeStates(limits.LostAfter)
	if c.mayWait(stores) {
		c.beginTransfers()
		return
	}
	c.storesThen, c.corruptThen, c.pictureAt = stores, c.system.Corrupt(), 0
	pic := c.picture(stores)
	c.askLeaders(pic)
	c.endHopeless(stores)
	plan := placement.Plan(pic, limits)
	c.transfers = nil
	for _, op := range plan {
		if op.TransferTo != 0 {
			c.transfers = append(c.transfers, op)
			continue
		}
		c.operate(op)
	}
	c.beginTransfers()
	later := func(intervals int) clock.Time { return c.now.Add(planInterval * time.Duration(intervals)) }
	quiet, change := len(pic.Ranges)/planQuietRanges, len(pic.Ranges)/planChangeRanges
	switch {
	case len(plan)+len(c.operations.at) == 0:
		c.pictureAt, c.changedAt = later(quiet), later(change)
	case c.onlyBalancesLeaders(stores):
		c.pictureAt = later(min(max(change, 1+len(c.transfers)/transfersAtOnce), quiet))
		c.changedAt = c.pictureAt
	}
}

// mayWait reports whether the next look at all ranges is not due yet.
func (c *Core) mayWait(stores []placement.StoreState) bool {
	return c.now.Before(c.pictureAt) && slices.Equal(stores, c.storesThen) && slices.Equal(c.system.Corrupt(), c.corruptThen) &&
		(c.now.Before(c.changedAt) || c.known() == c.seen)
}

// beginTransfers begins the next of the planned transfers.
func (c *Core) beginTransfers() {
	n := min(transfersAtOnce, len(c.transfers))
	for _, op := range c.transfers[:n] {
		c.operate(op)
	}
	c.transfers = c.transfers[n:]
}

// onlyBalancesLeaders reports whether nothing is at work but transfers of leaders, and none
// because a store leaves.
func (c *Core) onlyBalancesLeaders(stores []placement.StoreState) bool {
	for _, o := range c.operations.at { // any order
		if o.op.TransferTo == 0 {
			return false
		}
	}
	return !slices.ContainsFunc(stores, func(s placement.StoreState) bool { return s.Leaving })
}

// askLeaders asks some ranges, each in its turn, who leads them: those without a
// replica here, for nobody tells of them. A change of nothing is refused by who leads.
func (c *Core) askLeaders(pic *placement.Picture) {
	asked := 0
	for range c.elsewhere {
		if asked == leadersMax {
			return
		}
		c.leaderTurn = (c.leaderTurn + 1) % len(c.elsewhere)
		r := &pic.Ranges[c.elsewhere[c.leaderTurn]]
		if r.Busy {
			continue
		}
		asked++
		c.internal++
		c.router.RequestOwn(internalBit|c.internal, &router.AddressRequest{Address: r.Descriptor.Start, Body: &peerpb.ChangeReplicas{}}, c.now)
	}
}

// endHopeless ends moves to stores that are away, lost or leave: nothing comes of them, and
// until they are over nothing else is planned for their ranges. Of a store that is back the
// planner goes on with what it finds.
func (c *Core) endHopeless(stores []placement.StoreState) {
	for _, id := range slices.Sorted(maps.Keys(c.operations.at)) {
		o := c.operations.at[id]
		if o != nil && o.call == 0 && slices.ContainsFunc(stores, func(s placement.StoreState) bool {
			return s.ID == o.op.Move.To && (s.Health != placement.Live || s.Leaving)
		}) {
			c.endOperation(o, nil)
		}
	}
}

// endLeaving asks for the removal of a member that leaves. It is done when no range needs
// it, whether or not somebody still waits for it.
func (c *Core) endLeaving() {
	if c.asksLeave != 0 {
		return
	}
	next := metapb.NodeID(0) // each in its turn
	for _, m := range c.system.Members() {
		if m.Leaving && (next == 0 || next <= c.askedLeave && m.Node > c.askedLeave) {
			next = m.Node
		}
	}
	if next != 0 {
		c.internal++
		c.asksLeave, c.askedLeave = internalBit|c.internal, next
		c.router.RequestOwn(c.asksLeave, &router.SystemRequest{Op: &placement.MemberOp{Node: next, Remove: true}}, c.now)
	}
}

// leavingEnded takes the system range's answer. It reports whether it was that. What is
// not done yet is tried again.
func (c *Core) leavingEnded(reqID uint64) bool {
	if reqID != c.asksLeave {
		return false
	}
	c.asksLeave = 0
	return true
}

// storeStates are the stores as this node sees them, in order of id.
func (c *Core) storeStates(lostAfter time.Duration) (stores []placement.StoreState) {
	for _, m := range c.system.Members() {
		if m.Name == "" {
			continue // it has not come yet
		}
		stores = append(stores, placement.StoreState{
			ID: m.Store, Node: m.Node, Leaving: m.Removed || m.Leaving, Removed: m.Removed, Health: c.health(m.Store, lostAfter),
		})
	}
	slices.SortFunc(stores, func(a, b placement.StoreState) int { return int(a.ID) - int(b.ID) })
	return stores
}

// picture is the cluster as this node sees it. It is good until the next. The directory hears
// of a change later than who asked for it: an operation that is over is not planned again.
func (c *Core) picture(stores []placement.StoreState) *placement.Picture {
	c.describe()
	c.elsewhere = c.elsewhere[:0]
	for i := range c.pictured {
		r := &c.pictured[i]
		id := r.Descriptor.ID()
		here := c.store.Replica(id)
		r.Leader, r.Busy, r.Corrupt = c.leaderBy(id, here).store, c.operations.at[id] != nil, c.corruptOf(r.Descriptor)
		if here == nil {
			c.elsewhere = append(c.elsewhere, i)
		}
	}
	return &placement.Picture{Stores: stores, Ranges: c.pictured}
}

// describe brings the descriptors of the picture up to date. To find them costs far more than
// to look at all ranges otherwise, and while leaders move they stay as they are.
func (c *Core) describe() {
	now := c.known()
	if now == c.seen {
		if invariant.Enabled {
			c.checkDescribed()
		}
		return
	}
	c.seen, c.pictured = now, c.pictured[:0]
	for d := range c.described() {
		c.pictured = append(c.pictured, placement.RangeState{Descriptor: d})
	}
}

// known counts what there is to know of descriptors now.
func (c *Core) known() seen {
	dir := c.system.Directory()
	return seen{dir, dir.Changes(), c.router.Learned(), c.ownLearnt}
}

// described are the newest descriptors that are known of the directory's ranges, in order.
func (c *Core) described() iter.Seq[*metapb.Descriptor] {
	return func(yield func(*metapb.Descriptor) bool) {
		c.system.Directory().Visit(metapb.Span{}, func(d *metapb.Descriptor) bool {
			if r := c.store.Replica(d.ID()); r != nil && r.Descriptor().Generation > d.Generation {
				d = r.Descriptor()
			}
			return yield(c.router.Newer(d))
		})
	}
}

// checkDescribed panics if descriptors of the picture are not those that are known.
func (c *Core) checkDescribed() {
	same := slices.EqualFunc(c.pictured, slices.Collect(c.described()), func(r placement.RangeState, d *metapb.Descriptor) bool {
		return r.Descriptor.ID() == d.ID() && r.Descriptor.Generation == d.Generation
	})
	invariant.Check(same, "the picture has %d ranges, and not all as they are known", len(c.pictured))
}

// corruptOf returns the stores whose replicas of a range are to be replaced.
func (c *Core) corruptOf(d *metapb.Descriptor) (stores []metapb.StoreID) {
	for _, x := range c.system.Corrupt() {
		for _, p := range d.Replicas {
			if x.Range == d.ID() && uint64(x.Replica) == p.ReplicaId && !x.Undecided {
				stores = append(stores, metapb.StoreID(p.StoreId))
			}
		}
	}
	return stores
}

// health says whether a store can be counted on. One that was not heard of since
// this node plans is given its time.
func (c *Core) health(store metapb.StoreID, lostAfter time.Duration) placement.StoreHealth {
	last, known := c.heard[store]
	hears := c.reaches(store)
	if !known || hears {
		c.heard[store] = c.now
		last = c.now
	}
	l := c.links[store]
	switch {
	case c.now.Sub(last) >= lostAfter:
		return placement.Lost
	case !hears, store == c.cfg.StoreID && c.full, l != nil && (l.peerLeaves || l.peerEnded): // it is about to stop, or full
		return placement.Away
	}
	return placement.Live
}
