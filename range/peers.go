package ranges

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/flotilladb/flotilla/internal/clock"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/raftgroup"
)

// peers is what a store does about other stores: promises, elections, and which of
// its leaders are ticked. In a store whose ranges have no other replicas all of it
// is empty.
type peers struct {
	live      *raftgroup.Liveness
	elections *raftgroup.Elections
	stores    []metapb.StoreID // that share a range with this one, sorted

	// awake are the leaders that are ticked, in turn; the next round begins at
	// tickAt, the first ticksDue are to be ticked in this one.
	awake    []*Replica
	tickAt   clock.Time
	ticksDue int
	// lagging are, by store, ranges led here that fell quiet although their
	// replica there, on a dead store, lacked something.
	lagging map[metapb.StoreID][]metapb.RangeID
	// homes are leaders of others that have leases.
	homes []*Replica
	// leaving: the store is about to stop.
	leaving bool
	elected uint64 // how often a replica here came to lead
	leaders int    // how many replicas have counted set
	// early are vote requests for replicas that do not exist yet.
	early map[metapb.RangeID]earlyVote
}

// earlyVote is the last vote request for a replica that a split is to make.
type earlyVote struct {
	at      clock.Time
	message *raftgroup.Message
}

func (p *peers) init(s *Store) (err error) {
	cfg := s.cfg.Liveness
	cfg.Store, cfg.Start, cfg.Replicas = s.cfg.StoreID, s.cfg.StoreStart, followers{s}
	if p.live, err = raftgroup.NewLiveness(cfg); err != nil {
		return err
	}
	p.lagging = make(map[metapb.StoreID][]metapb.RangeID)
	p.early = make(map[metapb.RangeID]earlyVote)
	p.elections = raftgroup.NewElections(p.live.ElectionTimeout(),
		rand.New(rand.NewPCG(s.cfg.Seed, uint64(s.cfg.StoreID)<<32+s.cfg.StoreStart)))
	return nil
}

// addPeers notes the stores of a range's replicas.
func (s *Store) addPeers(d *metapb.Descriptor) {
	for _, repl := range d.Replicas {
		s.addPeer(metapb.StoreID(repl.StoreId))
	}
}

func (s *Store) addPeer(id metapb.StoreID) {
	if i, ok := slices.BinarySearch(s.peers.stores, id); !ok && id != s.cfg.StoreID {
		s.peers.stores = slices.Insert(s.peers.stores, i, id)
		s.peers.live.SetPeers(s.peers.stores)
	}
}

// followers answers the questions of other stores.
type followers struct{ store *Store }

// Follows implements raftgroup.Followers.
func (f followers) Follows(id metapb.RangeID, term uint64, leader metapb.StoreID) bool {
	r := f.store.replicas[id]
	return r != nil && !r.group.IsLeader() && r.group.Term() == term && r.Leader() == leader
}

// voteGate keeps a replica's votes to what its store promised.
type voteGate struct{ repl *Replica }

// MayVote implements raftgroup.VoteGate.
func (g voteGate) MayVote(candidate metapb.ReplicaID, term uint64, pre bool) bool {
	r := g.repl
	if r.lead != nil && candidate != r.id && r.lead.Holds(r.store.now) {
		return false // nobody can be elected, and it would only end this leadership
	}
	live, to := r.store.peers.live, r.storeOf(candidate)
	if !live.MayVote(r.desc.ID(), to) {
		return false
	}
	if !pre {
		live.Vote(r.desc.ID(), to, term)
	}
	return true
}

// Transferred implements raftgroup.VoteGate.
func (g voteGate) Transferred(term uint64) { g.repl.store.peers.live.Unbind(g.repl.desc.ID(), term) }

// StepLiveness takes another store's message about promises. SetNow is called
// before it.
func (s *Store) StepLiveness(from metapb.StoreID, m *raftgroup.LivenessMessage) {
	// It may have a replica here in mind that is yet to come: who is not answered
	// takes this store for dead, and rests.
	s.addPeer(from)
	s.peers.live.Step(from, m, s.now)
	s.livenessEvents()
}

// Elected returns how often a replica of this store came to lead its range.
func (s *Store) Elected() uint64 { return s.peers.elected }

// ElectionTimeout is how long a promise runs, and how long a leader may be silent.
func (s *Store) ElectionTimeout() time.Duration { return s.peers.live.ElectionTimeout() }

// Live reports whether a store was heard of lately, or is this one.
func (s *Store) Live(store metapb.StoreID) bool { return s.peers.live.Live(store) }

// Unreachable says that messages to a store were lost: leaders go on step by step
// until it answers.
func (s *Store) Unreachable(store metapb.StoreID) {
	for _, r := range s.peers.awake {
		if repl := r.desc.ReplicaOn(store); repl != nil && r.group.IsLeader() {
			if err := r.group.ReportUnreachable(metapb.ReplicaID(repl.ReplicaId)); err != nil {
				s.fail(fmt.Errorf("range %d: %w", r.desc.RangeId, err))
			}
			s.mark(r)
		}
	}
}

// Leader returns the store of the range's leader, as far as the replica knows; 0 if
// it knows none.
func (r *Replica) Leader() metapb.StoreID { return r.storeOf(r.group.Leader()) }

// storeOf returns the store of a replica, or 0.
func (r *Replica) storeOf(id metapb.ReplicaID) metapb.StoreID {
	if id == r.id {
		return r.store.cfg.StoreID
	}
	for _, repl := range r.desc.Replicas {
		if repl.ReplicaId == uint64(id) {
			return metapb.StoreID(repl.StoreId)
		}
	}
	for _, x := range r.strangers {
		if x.id == id {
			return x.store
		}
	}
	return 0
}

// stranger is a replica that the descriptor here does not have yet, and its store.
type stranger struct {
	id    metapb.ReplicaID
	store metapb.StoreID
}

// strangersMax bounds what is kept of those; the newest are.
const strangersMax = 8

// meet notes where a replica is that came while this one did not hear of its range. It may
// lead: without an answer it would never bring what is lacking here.
func (r *Replica) meet(id metapb.ReplicaID, store metapb.StoreID) {
	x := stranger{id, store}
	if slices.Contains(r.strangers, x) {
		return
	}
	if len(r.strangers) == strangersMax {
		r.strangers = slices.Delete(r.strangers, 0, 1)
	}
	r.strangers = append(r.strangers, x)
}

// tickPeers tells the time to everything that has to do with other stores.
func (s *Store) tickPeers() {
	s.peers.live.Tick(s.now)
	s.livenessEvents()
	s.tickLeaders()
	s.stand()
	s.askPresent()
	s.peers.homes = slices.DeleteFunc(s.peers.homes, func(r *Replica) bool { return !r.extendRenewals() })
	if len(s.peers.early) > 0 {
		for id, v := range s.peers.early { // any order: each is looked at alone
			if s.now.After(v.at.Add(s.peers.live.ElectionTimeout())) {
				delete(s.peers.early, id)
			}
		}
	}
}

// extendRenewals lets renewals that do not take the way through the replica go on
// for as long as the lease is held; false if it is a leader's with leases no more.
func (r *Replica) extendRenewals() bool {
	if r.lead == nil || r.expirer == nil {
		return false
	}
	r.expirer.Renewals().SetLease(r.lead.Until())
	return true
}

// livenessEvents does what follows from what was heard of other stores, or not.
func (s *Store) livenessEvents() {
	if !s.peers.live.HasEvents() {
		return
	}
	ev := s.peers.live.Events()
	for _, store := range ev.Restarted {
		s.restarted(store)
	}
	for _, store := range ev.Lapsed {
		for _, id := range s.IDs() {
			if r := s.replicas[id]; r.Leader() == store {
				s.arm(r)
			}
		}
	}
	for _, store := range ev.Returned {
		ids := s.peers.lagging[store]
		delete(s.peers.lagging, store)
		for _, id := range ids {
			if r := s.replicas[id]; r != nil {
				r.rouse()
			}
		}
	}
	for _, rel := range ev.Released {
		if r := s.replicas[rel.Range]; r != nil && r.group.Term() == rel.Term {
			s.forget(r, rel.From)
		}
	}
	for _, id := range ev.Unknown {
		if r := s.replicas[id]; r != nil {
			r.rouse()
		}
	}
}

// restarted is called when a store is heard of that began anew: it leads nothing
// any more, and its replicas know no leader.
func (s *Store) restarted(store metapb.StoreID) {
	for _, id := range s.IDs() {
		r := s.replicas[id]
		switch {
		case r.desc.ReplicaOn(store) == nil && r.Leader() != store:
		case r.group.IsLeader():
			r.rouse()
		default:
			s.forget(r, store)
		}
	}
}

// forget makes a follower of a store's replica look for another leader.
func (s *Store) forget(r *Replica, leader metapb.StoreID) {
	switch r.Leader() {
	case leader:
		if err := r.group.ForgetLeader(); err != nil {
			s.fail(fmt.Errorf("range %d: %w", r.desc.RangeId, err))
		}
		s.mark(r)
		s.arm(r)
	case 0:
		s.arm(r)
	}
}

// arm lets a replica stand for election after a while, if it then has no leader.
func (s *Store) arm(r *Replica) {
	if rank, ok := r.rank(); ok && !r.condemned {
		s.peers.elections.Arm(r.desc.ID(), s.now, rank)
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

// stand lets the replicas whose time has come stand for election.
func (s *Store) stand() {
	for range s.cfg.StandsMax {
		id, ok := s.peers.elections.Next(s.now)
		if !ok {
			return
		}
		r := s.replicas[id]
		if r == nil || r.condemned || r.group.IsLeader() || s.peers.live.Promised(r.Leader()) {
			continue // if the promise to the leader's store runs out, it comes again
		}
		if s.peers.leaving {
			s.peers.elections.Arm(id, s.now.Add(s.peers.live.ElectionTimeout()/4), 1)
			continue
		}
		if from := s.peers.live.VotesFrom(); s.now.Before(from) {
			if rank, ok := r.rank(); ok {
				s.peers.elections.Arm(id, from, rank)
			}
			continue
		}
		if err := r.group.ForgetLeader(); err != nil {
			s.fail(fmt.Errorf("range %d: %w", r.desc.RangeId, err))
			return
		}
		s.campaign(r)
		s.peers.elections.Again(id, s.now)
	}
}

// keepVote keeps a vote request for a replica that this store does not have: where
// it is one that a split makes, the split may not be applied here yet.
func (s *Store) keepVote(id metapb.RangeID, m *raftgroup.Message) bool {
	if !raftgroup.AsksForVote(m) {
		return false
	}
	if _, ok := s.peers.early[id]; !ok && len(s.peers.early) >= s.cfg.EarlyVotesMax {
		return false
	}
	s.peers.early[id] = earlyVote{s.now, m}
	return true
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
	id := right.desc.ID()
	if v, ok := s.peers.early[id]; ok {
		delete(s.peers.early, id)
		if err := right.group.Step(v.message); err != nil && !errors.Is(err, raftgroup.ErrBadMessage) {
			s.fail(fmt.Errorf("range %d: %w", id, err))
		}
	}
}
