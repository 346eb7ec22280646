package ranges

import (
	"errors"
	"fmt"

	"github.com/flotilladb/flotilla/internal/clock"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/raftgroup"
)

// earlyVote is the last vote request for a replica, which came too early.
type earlyVote struct {
	at      clock.Time
	from    metapb.StoreID
	message *raftgroup.Message
}

// arm lets a replica stand for election after a while, if it then has no leader. One that is
// out of service only forgets that leader.
func (s *Store) arm(r *Replica) {
	if rank, ok := r.rank(); ok {
		s.peers.elections.Arm(r.desc.ID(), s.now, rank)
	}
}

// armNow is arm where the promise to its leader's store has just run out.
func (s *Store) armNow(r *Replica) {
	if rank, ok := r.rank(); ok {
		s.peers.elections.ArmNow(r.desc.ID(), s.now, rank)
	}
}

// rank returns the replica's place among the voters without their leader; another
// one is the first in each pair of ranges. The first two of a cluster, the system
// range and that of all data, are such a pair: while there are no more, a write
// finds the sequencer where its range is led.
func (r *Replica) rank() (rank int, ok bool) {
	own, n := -1, 0
	for _, repl := range r.desc.Replicas {
		switch id := metapb.ReplicaID(repl.ReplicaId); {
		case repl.Kind == metapb.ReplicaKind_LEARNER, id == r.group.Leader() && id != r.id:
			continue
		case id == r.id:
			own = n
		}
		n++
	}
	if own < 0 {
		return 0, false
	}
	return (own + int((r.desc.RangeId-1)/2%uint64(n))) % n, true
}

// stand lets the replicas whose time has come stand for election. One that is out of service
// forgets its leader all the same: it may be out of its range as well, and looks for who can say
// so when it knows none.
func (s *Store) stand() {
	for range s.cfg.StandsMax {
		id, ok := s.peers.elections.Next(s.now)
		if !ok {
			return
		}
		r := s.replicas[id]
		if r == nil || r.group.IsLeader() || s.peers.live.Promised(r.Leader()) {
			continue // if the promise to the leader's store runs out, it comes again
		}
		if s.peers.leaving && !r.condemned {
			s.peers.elections.Arm(id, s.now.Add(s.peers.live.ElectionTimeout()/4), 1)
			continue
		}
		if from := s.peers.live.VotesFrom(); s.now.Before(from) {
			if rank, ok := r.rank(); ok {
				s.peers.elections.Arm(id, from, rank)
			}
			continue
		}
		if r.Leader() != 0 && !s.peers.live.MayVote(id, s.cfg.StoreID) {
			// Another promise forbids it. The leader is not forgotten without an end of the tie
			// to it: should it be back, it would count on that, and rest.
			s.peers.elections.Again(id, s.now)
			continue
		}
		if err := r.group.ForgetLeader(); err != nil {
			s.fail(fmt.Errorf("range %d: %w", r.desc.RangeId, err))
			return
		}
		if r.condemned {
			s.mark(r)
			continue
		}
		s.campaign(r)
		s.peers.elections.Again(id, s.now)
	}
}

// keepVote keeps a vote request for a replica that this store does not have: where
// it is one that a split makes, the split may not be applied here yet.
func (s *Store) keepVote(from metapb.StoreID, id metapb.RangeID, m *raftgroup.Message) bool {
	if !raftgroup.AsksForVote(m) {
		return false
	}
	return s.keep(s.peers.early, id, earlyVote{s.now, from, m})
}

// keep puts a vote request in the place of the one before it of its range; false if there
// is no room for one more.
func (s *Store) keep(votes map[metapb.RangeID]earlyVote, id metapb.RangeID, v earlyVote) bool {
	if _, ok := votes[id]; !ok && len(votes) >= s.cfg.EarlyVotesMax {
		return false
	}
	votes[id] = v
	return true
}

// stepKept takes a vote request that was kept in one of the two, if there is one.
func (s *Store) stepKept(votes map[metapb.RangeID]earlyVote, id metapb.RangeID) (v earlyVote, ok bool) {
	if v, ok = votes[id]; !ok {
		return v, false
	}
	delete(votes, id)
	if err := s.StepFrom(v.from, id, v.message); err != nil && !errors.Is(err, raftgroup.ErrBadMessage) {
		s.fail(fmt.Errorf("range %d: %w", id, err))
	}
	return v, true
}

// steppedVote does what follows from a vote request, and from what the group said to it.
// One that came before a promise has run out is kept until it has: stores learn one after
// the other that a leader is gone, and who stands in vain waits for long. A kept request
// is a late message, and nothing else. What this replica's own lease forbids is not kept:
// nobody needs another leader. Nor is what comes before this start may vote at all: it
// may have been removed, and is to hear of that first.
func (s *Store) steppedVote(r *Replica, from metapb.StoreID, m *raftgroup.Message, err error) error {
	id := r.desc.ID()
	if err == nil {
		if m.GetTerm() == r.group.Term() && r.group.VotedForOther() {
			s.peers.elections.PutOff(id, s.now)
		}
		return nil
	}
	if !errors.Is(err, raftgroup.ErrPromised) {
		return err
	}
	if r.group.IsLeader() || s.now.Before(s.peers.live.VotesFrom()) {
		return nil
	}
	s.keep(s.peers.refused, id, earlyVote{s.now, from, m})
	return nil
}

// voteNow steps the vote requests of ranges that were kept: a promise that forbade the vote
// may have ended.
func (s *Store) voteNow(ids ...metapb.RangeID) {
	for _, id := range ids {
		v, ok := s.stepKept(s.peers.refused, id)
		if !ok {
			continue
		}
		if again, ok := s.peers.refused[id]; ok {
			again.at = v.at // it does not live longer by that
			s.peers.refused[id] = again
		}
	}
}

// born lets the right side of a split live. Until the promise to the store of the
// left side's leader runs out nobody but that store may lead it.
func (s *Store) born(left, right *Replica, leads bool) {
	switch {
	case leads || right.single():
		s.campaign(right)
		if !right.single() {
			s.peers.elections.Again(right.desc.ID(), s.now)
		}
	default:
		if leader := left.Leader(); leader != 0 && leader != s.cfg.StoreID {
			s.peers.live.Bear(right.desc.ID(), leader, right.group.Term())
		}
		s.peers.elections.Again(right.desc.ID(), s.now)
	}
	s.stepKept(s.peers.early, right.desc.ID())
}
