package node

import (
	"slices"
	"time"

	"github.com/flotilladb/flotilla/internal/clock"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/peerpb"
	"github.com/flotilladb/flotilla/range"
	"github.com/flotilladb/flotilla/router"
)

// Which replica of an undecided range is right an operator says, to any node:
//
//	node asked        store of the heir                     stores of the others
//	trusts ─────────> can all of it be read?
//	       <───────── not yet; no: refused
//	trusts ─────────> give yourself up for it ────────────> row, synced
//	                  a majority has: row, in service <──── given up
//	       <───────── done    condemned: others ──────────> replaced, as ever
//
// All of it is asked again until it is answered. What is lost with a node is only
// that somebody asked; asked again, it goes on with those that were given up.

// TrustRequest has the replica of a store in service again, and the others replaced.
// Answered by *peerpb.Done.
type TrustRequest struct {
	Range metapb.RangeID
	Store metapb.StoreID
}

// trusts are those under way.
type trusts struct {
	trusting   []*trust     // of replicas here
	trustCalls []*trustCall // of operators who asked this node
}

// trust is a replica here that an operator named.
type trust struct {
	id      metapb.RangeID
	replica metapb.ReplicaID
	job     *SnapshotJob // that reads it; nil: it is not being read
	read    bool         // all of it can be
	damaged bool         // it cannot
	// heirs are the replicas for which the others were given up, as far as is known.
	heirs map[metapb.ReplicaID]metapb.ReplicaID
	at    clock.Time // when the others are asked next
	until clock.Time // when it is forgotten if nobody asks for it again
}

// trustCall is an operator's request.
type trustCall struct {
	TrustRequest
	call      uint64
	at, until clock.Time
}

const (
	trustCallsMax = 64
	// trustAskEvery is when stores are asked again.
	trustAskEvery = 200 * time.Millisecond
	// trustCallMax is how long an operator waits: less than the tool does.
	trustCallMax = 4 * time.Second
	// trustKept is how long a replica is tried to be trusted that nobody asks for
	// again.
	trustKept = time.Minute
)

// requestTrust begins an operator's request.
func (c *Core) requestTrust(id uint64, q *TrustRequest) {
	var err error
	switch known := q.Store == c.cfg.StoreID || c.links[q.Store] != nil; {
	case c.stopping:
		err = router.ErrStopping
	case !c.many:
		err = peerpb.ErrNotUndecided
	case !known:
		err = peerpb.ErrUnknownStore
	case len(c.trustCalls) >= trustCallsMax:
		err = peerpb.ErrOverloaded
	}
	if err != nil {
		c.results = append(c.results, router.Result{ID: id, Err: err})
		return
	}
	c.trustCalls = append(c.trustCalls, &trustCall{TrustRequest: *q, call: id, until: c.now.Add(trustCallMax)})
	c.tickTrusts()
}

// tickTrusts goes on with what operators asked for.
func (c *Core) tickTrusts() {
	for _, t := range slices.Clone(c.trusting) {
		c.tickTrust(t)
	}
	for _, q := range slices.Clone(c.trustCalls) {
		switch {
		case c.stopping:
			c.endTrustCall(q, router.ErrStopping)
		case !c.now.Before(q.until):
			c.endTrustCall(q, peerpb.ErrTrustUnderWay)
		case c.now.Before(q.at):
		case q.Store == c.cfg.StoreID:
			q.at = c.now.Add(trustAskEvery)
			c.trustAnswered(q.Store, c.answerTrust(q.Range))
		default:
			q.at = c.now.Add(trustAskEvery)
			c.sayCheck(q.Store, peerpb.CheckMessage{Kind: peerpb.CheckTrusts, Range: q.Range})
		}
	}
}

func (c *Core) endTrustCall(q *trustCall, err error) {
	c.trustCalls = slices.DeleteFunc(c.trustCalls, func(o *trustCall) bool { return o == q })
	res := router.Result{ID: q.call, Err: err}
	if err == nil {
		res.Resp = &peerpb.Done{}
	}
	c.results = append(c.results, res)
}

// trustAnswered takes what the store of a named replica says.
func (c *Core) trustAnswered(from metapb.StoreID, m peerpb.CheckMessage) {
	var err error
	switch m.State {
	case peerpb.CheckDone:
	case peerpb.CheckUnreadable:
		err = peerpb.ErrUnreadable
	case peerpb.CheckSkipped:
		err = trustRefused(m.Number)
	default:
		return
	}
	for _, q := range slices.Clone(c.trustCalls) {
		if q.Range == m.Range && q.Store == from {
			c.endTrustCall(q, err)
		}
	}
}

// trustRefused says why a replica is not trusted.
func trustRefused(why uint64) error {
	switch why {
	case peerpb.TrustNoReplica:
		return peerpb.ErrNoReplica
	case peerpb.TrustGivenUp, peerpb.TrustOtherGivenUp:
		return peerpb.ErrGivenUp
	case peerpb.TrustNoVoter:
		return peerpb.ErrNoVoter
	}
	return peerpb.ErrNotUndecided
}

// stepTrust takes what a store says of a replica that is, or is to be, trusted.
func (c *Core) stepTrust(from metapb.StoreID, m *peerpb.CheckMessage) {
	switch m.Kind {
	case peerpb.CheckTrusts:
		c.sayCheck(from, c.answerTrust(m.Range))
	case peerpb.CheckTrusted:
		c.trustAnswered(from, *m)
		for _, x := range slices.Clone(c.corrupt) {
			if m.State == peerpb.CheckDone && x.id == m.Range && x.replica == m.Replica && x.store == from && x.undecided {
				c.forgetCorrupt(x)
			}
		}
	case peerpb.CheckGivesUp:
		heir, durable := c.store.GiveUp(m.Range, m.Replica, metapb.ReplicaID(m.Number))
		if heir != 0 {
			c.noteOwn(c.store.Replica(m.Range))
		}
		if heir == 0 || durable {
			c.sayCheck(from, peerpb.CheckMessage{Kind: peerpb.CheckGaveUp, Range: m.Range, Replica: m.Replica, Number: uint64(heir)})
		}
	case peerpb.CheckGaveUp:
		for _, t := range c.trusting {
			if t.id == m.Range {
				t.heirs[m.Replica] = metapb.ReplicaID(m.Number)
				t.at = 0
			}
		}
	}
}

// answerTrust says how far this store is with having its replica in service again,
// and sees to that.
func (c *Core) answerTrust(id metapb.RangeID) peerpb.CheckMessage {
	a := peerpb.CheckMessage{Kind: peerpb.CheckTrusted, Range: id, State: peerpb.CheckSkipped}
	r := c.store.Replica(id)
	if r == nil {
		a.Number = peerpb.TrustNoReplica
		return a
	}
	a.Replica = r.ID()
	switch p := r.Descriptor().ReplicaOn(c.cfg.StoreID); {
	case r.Heir() != 0:
		a.Number = peerpb.TrustGivenUp
		return a
	case !r.Condemned() && r.TrustedOver() != 0 && c.othersCorrupt(r):
		a.State = peerpb.CheckDone
		return a
	case !r.Condemned() || !r.Undecided():
		a.Number = peerpb.TrustNotUndecided
		return a
	case p == nil || p.Kind == metapb.ReplicaKind_LEARNER || p.Kind == metapb.ReplicaKind_OUTGOING:
		a.Number = peerpb.TrustNoVoter
		return a
	}
	t := c.trustOf(r)
	t.until = c.now.Add(trustKept)
	switch {
	case t.damaged:
		a.State = peerpb.CheckUnreadable
		c.forgetTrust(t) // who asks again has it read again
	case t.read && c.refusedBy(r, t) != 0:
		a.Number = c.refusedBy(r, t)
		c.forgetTrust(t)
	default:
		a.State = peerpb.CheckUnderWay
	}
	return a
}

// trustOf begins to have a replica in service again, if that was not begun.
func (c *Core) trustOf(r *ranges.Replica) *trust {
	for _, t := range c.trusting {
		if t.id == r.Descriptor().ID() && t.replica == r.ID() {
			return t
		}
	}
	t := &trust{id: r.Descriptor().ID(), replica: r.ID(), heirs: make(map[metapb.ReplicaID]metapb.ReplicaID)}
	c.trusting = append(c.trusting, t)
	return t
}

func (c *Core) forgetTrust(t *trust) {
	c.trusting = slices.DeleteFunc(c.trusting, func(o *trust) bool { return o == t })
}

// othersCorrupt reports whether replicas are still there that a trusted one takes the
// place of.
func (c *Core) othersCorrupt(r *ranges.Replica) bool {
	return slices.ContainsFunc(r.Descriptor().Replicas, func(p *metapb.Replica) bool {
		return p.ReplicaId != uint64(r.ID()) && p.ReplicaId < uint64(r.TrustedOver())
	})
}

// tickTrust goes on with a replica: it is read, the others are asked, it is trusted.
func (c *Core) tickTrust(t *trust) {
	r := c.store.Replica(t.id)
	switch {
	case r == nil || r.ID() != t.replica || !r.Condemned() || !r.Undecided():
		c.forgetTrust(t)
	case t.job != nil:
	case (t.read || t.damaged) && c.now.After(t.until):
		c.forgetTrust(t)
	case t.damaged:
	case !t.read:
		if h := c.store.BeginReading(t.id); h != nil {
			t.job = &SnapshotJob{hash: h, check: ranges.CheckID{Range: t.id}}
			c.views, c.jobs = append(c.views, h), append(c.jobs, t.job)
		}
	case !c.now.Before(t.at):
		t.at = c.now.Add(trustAskEvery)
		c.askGiveUp(r, t)
	}
}

// trustRead takes back that a replica was read, or cannot be.
func (c *Core) trustRead(j *SnapshotJob) {
	for _, t := range c.trusting {
		if t.job == j {
			t.job = nil
			t.read, t.damaged = j.err == nil, ranges.Unreadable(j.err)
			t.until = c.now.Add(trustKept)
		}
	}
}

// askGiveUp has the other replicas give themselves up, and if a majority has, puts
// this one in service.
func (c *Core) askGiveUp(r *ranges.Replica, t *trust) {
	if majority(r.Descriptor(), func(p *metapb.Replica) bool {
		return p.ReplicaId == uint64(t.replica) || t.heirs[metapb.ReplicaID(p.ReplicaId)] == t.replica
	}) {
		c.forgetTrust(t)
		c.trustReplica(r)
		return
	}
	for _, p := range r.Descriptor().Replicas {
		id := metapb.ReplicaID(p.ReplicaId)
		if id != t.replica && t.heirs[id] != t.replica {
			c.sayCheck(metapb.StoreID(p.StoreId), peerpb.CheckMessage{Kind: peerpb.CheckGivesUp, Range: t.id, Replica: id, Number: uint64(t.replica)})
		}
	}
}

// refusedBy says why there will be no majority for a replica, 0: there may be.
func (c *Core) refusedBy(r *ranges.Replica, t *trust) (why uint64) {
	for _, heir := range t.heirs { // any order
		if heir != 0 && heir != t.replica {
			why = peerpb.TrustOtherGivenUp
		}
	}
	able := majority(r.Descriptor(), func(p *metapb.Replica) bool {
		heir, told := t.heirs[metapb.ReplicaID(p.ReplicaId)]
		return !told || heir == t.replica || p.ReplicaId == uint64(t.replica)
	})
	switch {
	case able:
		return 0
	case why == 0:
		why = peerpb.TrustNotUndecided // others are in service
	}
	return why
}

// majority reports whether those that fn names are a majority of a range's voters; in
// a joint configuration, of both sets.
func majority(d *metapb.Descriptor, fn func(*metapb.Replica) bool) bool {
	var coming, going, yesComing, yesGoing int
	for _, p := range d.Replicas {
		if p.Kind == metapb.ReplicaKind_LEARNER {
			continue
		}
		yes := 0
		if fn(p) {
			yes = 1
		}
		if p.Kind != metapb.ReplicaKind_OUTGOING {
			coming, yesComing = coming+1, yesComing+yes
		}
		if p.Kind != metapb.ReplicaKind_INCOMING {
			going, yesGoing = going+1, yesGoing+yes
		}
	}
	return 2*yesComing > coming && 2*yesGoing > going
}

// trustReplica puts a replica in service again, as one that came by a snapshot: what
// happened meanwhile nobody was told.
func (c *Core) trustReplica(r *ranges.Replica) {
	d := r.Descriptor()
	c.store.Trust(d.ID())
	for _, x := range slices.Clone(c.corrupt) {
		if x.id == d.ID() && x.replica == r.ID() {
			c.forgetCorrupt(x)
		}
	}
	c.learn(d)
	c.closingOf(d.ID())
	c.Want(d.ID(), c.current)
	c.lost = append(c.lost, d.ID())
	c.found = append(c.found, Corrupt{Range: d.ID(), Replica: r.ID(), Store: c.cfg.StoreID, Trusted: true})
	c.condemnOthers(r)
}

// condemnOthers condemns the replicas that one here takes the place of, if it does.
// Their stores may not have heard of it, and nobody else may know.
func (c *Core) condemnOthers(r *ranges.Replica) {
	if r.Condemned() || r.TrustedOver() == 0 {
		return
	}
	for _, p := range r.Descriptor().Replicas {
		if id := metapb.ReplicaID(p.ReplicaId); id != r.ID() && id < r.TrustedOver() {
			c.condemn(r.Descriptor(), id, false)
		}
	}
}

// outdated reports whether a replica is condemned for what was before it was trusted.
func outdated(r *ranges.Replica, m *peerpb.CheckMessage) bool {
	return m.Undecided && !r.Condemned() && r.ID() == m.Replica && r.TrustedOver() != 0 && metapb.ReplicaID(m.Number) <= r.TrustedOver()
}
