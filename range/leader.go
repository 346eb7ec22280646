package ranges

import (
	"fmt"
	"slices"
	"time"

	"github.com/flotilladb/flotilla/engine"
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
	r.group.SetCutHint(r.needed())
	r.store.mark(r)
	return true, r.group.Tick()
}

// untickedMax is how many ticks a leader in turn may go without that has something
// new in its log at each: appends say all that heartbeats do, but for what was lost.
const untickedMax = 2

// needed returns up to where every replica has the log. One on a dead store counts:
// as long as no snapshot can bring it up, it has to find its entries.
func (r *Replica) needed() uint64 {
	lowest := r.state.index
	r.group.Progress(func(p raftgroup.PeerProgress) {
		if p.ReplicaID != r.id {
			lowest = min(lowest, p.Match)
		}
	})
	return lowest
}

// cutLogsEvery is how often logs are cut. Each cut deletes a span, and the first reader after
// that of the rows that the engine has in memory puts all such spans in order again: with
// thousands of ranges the logs of many are cut together.
const cutLogsEvery = 100 * time.Millisecond

// cutLater has the log cut, when it has grown too long, with those of others.
func (r *Replica) cutLater() {
	if !r.uncut && r.group.LogBytes() >= r.cutAt {
		r.uncut = true
		r.store.uncut = append(r.store.uncut, r)
	}
}

// cutLogs cuts the logs whose turn it is.
func (s *Store) cutLogs() error {
	if len(s.uncut) == 0 || s.now.Before(s.cutLogsAt) {
		return nil
	}
	s.cutLogsAt = s.now.Add(cutLogsEvery)
	for _, r := range s.uncut {
		r.uncut = false
		if r.gone {
			continue
		}
		if err := r.cutLog(s.applyBatch()); err != nil {
			return fmt.Errorf("range %d: %w", r.desc.RangeId, err)
		}
	}
	clear(s.uncut)
	s.uncut = s.uncut[:0]
	return nil
}

// cutLog cuts a log that has grown too long. Alone in its group a replica
// needs nothing that it has applied: the effects come before the cut in the same
// engine log. With others it keeps what one of them may lack, up to a point.
//
// What is cut before the engine writes its memory out never reaches a table. So all
// logs of a store together are kept small beside that memory.
func (r *Replica) cutLog(b engine.Batch) error {
	if err := r.dropHolds(); err != nil {
		return err
	}
	index := r.state.index
	if !r.single() {
		needed := r.group.CutHint()
		if r.group.IsLeader() {
			needed = r.needed()
		}
		if needed < index {
			behind, err := r.group.CutIndex(r.store.cfg.LogBehindBytesMax)
			if err != nil {
				return err
			}
			index = min(index, max(needed, behind))
		}
	}
	if err := r.group.Truncate(b, index); err != nil {
		return err
	}
	r.cutAt = r.group.LogBytes() + r.store.logShare()
	return nil
}

// dropHolds gives snapshots up that take so long that the log grows too much behind
// them.
func (r *Replica) dropHolds() error {
	held, err := r.group.HeldBytes()
	if err != nil || held <= r.store.cfg.LogHeldBytesMax {
		return err
	}
	r.endSnapshots()
	return nil
}

// endSnapshots has all snapshots of the replica given up.
func (r *Replica) endSnapshots() {
	for _, to := range r.group.DropHolds() {
		r.store.out.SnapshotsLost = append(r.store.out.SnapshotsLost, WantedSnapshot{Range: r.desc.ID(), To: r.storeOf(to), Replica: to})
	}
}

// logShare is by how much a log grows until it is cut.
func (s *Store) logShare() uint64 {
	return max(s.cfg.LogBytesMax/uint64(max(len(s.replicas), 1)), s.cfg.LogShareMin)
}
