package ranges

import (
	"fmt"
	"slices"

	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/raftgroup"
)

// leaderChanged is called when the group has another leader, or term.
func (r *Replica) leaderChanged(leader metapb.ReplicaID) {
	s := r.store
	s.countLeader(r, leader == r.id)
	switch {
	case leader != 0:
		s.led = append(s.led, r.desc.ID())
		r.adriftFrom = 0
	case r.adriftFrom == 0:
		r.adriftFrom = s.now
	}
	if leader == r.id {
		s.peers.elections.Disarm(r.desc.ID())
		s.peers.elected++
		r.ledAt, r.ledIn = s.now, r.group.Term()
		r.wake()
		return
	}
	if leader != 0 {
		s.peers.elections.Led(r.desc.ID())
	}
	if r.lead == nil && r.ledIn != 0 {
		// It had not begun to lead, or was out of service. Who follows it has to hear of the
		// end all the same.
		r.beginLead(r.ledIn)
	}
	r.ledIn = 0
	if r.lead != nil {
		s.peers.live.EndLead(r.lead)
		r.lead = nil
	}
	r.stepDown()
	if !r.single() && !s.peers.live.Promised(r.storeOf(leader)) {
		s.arm(r)
		if leader == 0 && r.group.VotedForOther() {
			s.peers.elections.PutOff(r.desc.ID(), s.now)
		}
	}
}

// Led returns the ranges of which the replicas here heard since the last call who leads
// them. It is valid until the next call.
func (s *Store) Led() []metapb.RangeID {
	led := s.led
	s.led, s.spareLed = s.spareLed[:0], led
	return led
}

// Count returns how many replicas the store has, and how many of them lead, but for what
// changed in this step.
func (s *Store) Count() (replicas, leaders int) { return len(s.replicas), s.peers.leaders }

// countLeader notes whether a replica leads. To look at thousands of them again costs more
// than anything else that an idle store does.
func (s *Store) countLeader(r *Replica, leads bool) {
	if leads == r.counted {
		return
	}
	if r.counted = leads; leads {
		s.peers.leaders++
	} else {
		s.peers.leaders--
	}
}

// beginLead asks the other replicas whether they follow, which the lease needs. A leader
// that is left alone does not end its leadership: if it has others again in the same term,
// an answer of before would count that was taken back since.
func (r *Replica) beginLead(term uint64) {
	if r.single() && r.lead == nil {
		return
	}
	m := r.group.Members()
	r.lead = r.store.peers.live.Lead(r.desc.ID(), term, raftgroup.StoreSet{
		Voters: r.storesOf(m.Voters), VotersOutgoing: r.storesOf(m.VotersOutgoing), Learners: r.storesOf(m.Learners),
	})
	r.wake()
}

func (r *Replica) storesOf(ids []metapb.ReplicaID) []metapb.StoreID {
	var out []metapb.StoreID
	for _, id := range ids {
		out = append(out, r.storeOf(id))
	}
	return out
}

// Deserted reports whether the replica leads and has had no lease for long: too few
// of the others answer.
func (r *Replica) Deserted() bool { return r.deserted() }

// deserted reports whether this leader of others has held no lease for so long that
// it is better to look for another one.
func (r *Replica) deserted() bool {
	if r.lead == nil || r.single() || r.lead.Holds(r.store.now) {
		return false
	}
	timeout := r.store.peers.live.ElectionTimeout()
	return r.store.now.After(r.ledAt.Add(timeout)) && r.store.now.After(r.lead.Until().Add(timeout))
}

// adriftAfter is after how many election timeouts without a leader a replica is adrift.
const adriftAfter = 5

// Adrift reports whether the replica has known no leader for so long that it may not be part
// of its range any more, and all those whom it knows have gone as well.
func (r *Replica) Adrift() bool {
	return r.adriftFrom != 0 && r.store.now.After(r.adriftFrom.Add(adriftAfter*r.store.peers.live.ElectionTimeout()))
}

// wake has the leader ticked, until it has nothing left to do: its heartbeats repeat
// what was lost.
func (r *Replica) wake() {
	if !r.awake && r.group.NeedsTick() {
		r.awake = true
		r.store.peers.awake = append(r.store.peers.awake, r)
	}
}

// rouse wakes the leader so that its replicas hear of it at least once.
func (r *Replica) rouse() {
	r.group.Doubt()
	r.wake()
}

// tickLeaders ticks the leaders that are awake, and lets those rest that can. Where
// thousands are it does some of them at a time, and a round of all takes longer.
func (s *Store) tickLeaders() {
	p := &s.peers
	if p.ticksDue == 0 {
		if len(p.awake) == 0 || s.now.Before(p.tickAt) {
			return
		}
		p.tickAt = s.now.Add(p.live.HeartbeatInterval())
		p.ticksDue = len(p.awake)
	}
	n := min(p.ticksDue, s.cfg.TicksMax)
	p.ticksDue -= n
	// The first n go behind the others, without those that rest. More may be woken
	// meanwhile, at the end.
	due := slices.Clone(p.awake[:n])
	p.awake = append(p.awake[:0], p.awake[n:]...)
	for _, r := range due {
		stays, err := r.tickLeader()
		if err != nil {
			s.fail(fmt.Errorf("range %d: %w", r.desc.RangeId, err))
		}
		if r.awake = stays; stays {
			p.awake = append(p.awake, r)
		}
	}
}

// tickLeader ticks a leader, or lets it rest: then it says nothing, whatever its
// replicas on dead stores lack, until one of them returns.
func (r *Replica) tickLeader() (awake bool, err error) {
	if r.gone || !r.group.NeedsTick() {
		return false, nil
	}
	if r.leaving == nil && !r.advancing && len(r.inflight) == 0 {
		lagging, quiet := r.group.Quiesce(func(id metapb.ReplicaID) bool { return r.store.Live(r.storeOf(id)) })
		if quiet {
			for _, id := range lagging {
				r.store.peers.lags(r.storeOf(id), r.desc.ID())
			}
			if len(lagging) == 0 {
				r.rests()
			}
			return false, nil
		}
	}
	last := r.group.LastIndex()
	if busy := last != r.tickedLast; busy && r.unticked < untickedMax && r.leaving == nil {
		// What it has to say is under way already.
		r.tickedLast = last
		r.unticked++
		return true, nil
	}
	r.tickedLast, r.unticked = last, 0
	return true, r.heartbeat()
}

// heartbeat has the leader speak to its followers, and say up to where they may cut their logs.
func (r *Replica) heartbeat() error {
	r.group.SetCutHint(r.needed())
	r.store.mark(r)
	return r.group.Tick()
}

// untickedMax is how many ticks a leader in turn may go without that has something
// new in its log at each: appends say all that heartbeats do, but for what was lost.
const untickedMax = 2
