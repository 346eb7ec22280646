package ranges

import (
	"fmt"
	"maps"
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
	// resting are leaders at rest with a large log, about in the order of when they began.
	resting []rest
	// lagging are, by store, ranges led here that fell quiet although their
	// replica there, on a dead store, lacked something. Sorted: it may fall quiet often
	// while that store is away.
	lagging map[metapb.StoreID][]metapb.RangeID
	// homes are leaders of others that have leases.
	homes []*Replica
	// leaving: the store is about to stop.
	leaving bool
	elected uint64 // how often a replica here came to lead
	leaders int    // how many replicas have counted set
	// early are vote requests for replicas that do not exist yet, refused those that came
	// while a promise forbade the vote.
	early, refused map[metapb.RangeID]earlyVote
}

func (p *peers) init(s *Store) (err error) {
	cfg := s.cfg.Liveness
	cfg.Store, cfg.Start, cfg.Replicas = s.cfg.StoreID, s.cfg.StoreStart, followers{s}
	if p.live, err = raftgroup.NewLiveness(cfg); err != nil {
		return err
	}
	p.lagging = make(map[metapb.StoreID][]metapb.RangeID)
	p.early, p.refused = make(map[metapb.RangeID]earlyVote), make(map[metapb.RangeID]earlyVote)
	p.elections = raftgroup.NewElections(p.live.ElectionTimeout(),
		rand.New(rand.NewPCG(s.cfg.Seed, uint64(s.cfg.StoreID)<<32+s.cfg.StoreStart)))
	return nil
}

// lags notes that a range fell quiet although its replica on a dead store lacks something.
func (p *peers) lags(store metapb.StoreID, id metapb.RangeID) {
	ids := p.lagging[store]
	if i, ok := slices.BinarySearch(ids, id); !ok {
		p.lagging[store] = slices.Insert(ids, i, id)
	}
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

// DropPeer ends the talk to a store about promises, until it is heard again.
// REQUIRES: no replica here shares its range with that store.
func (s *Store) DropPeer(id metapb.StoreID) {
	if i, ok := slices.BinarySearch(s.peers.stores, id); ok {
		s.peers.stores = slices.Delete(s.peers.stores, i, i+1)
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

// Hear says that messages for replicas came of a start of another store. It reports false if
// that start is over, and they are to be dropped: a replica that followed who led then would
// wait for it for ever, since its store lives. SetNow is called before it.
func (s *Store) Hear(from metapb.StoreID, start uint64) bool {
	s.addPeer(from)
	ok := s.peers.live.Hear(from, start)
	s.livenessEvents()
	return ok
}

// Elected returns how often a replica of this store came to lead its range.
func (s *Store) Elected() uint64 { return s.peers.elected }

// ElectionTimeout is how long a promise runs, and how long a leader may be silent.
func (s *Store) ElectionTimeout() time.Duration { return s.peers.live.ElectionTimeout() }

// HeartbeatInterval is how often stores talk to each other about that.
func (s *Store) HeartbeatInterval() time.Duration { return s.peers.live.HeartbeatInterval() }

// VotesFrom is when the promises of earlier starts of this store have run out.
func (s *Store) VotesFrom() clock.Time { return s.peers.live.VotesFrom() }

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
	if store := r.memberOf(id); store != 0 {
		return store
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
		oldest := 0
		if r.strangers[0].id == r.group.Leader() {
			oldest = 1
		}
		r.strangers = slices.Delete(r.strangers, oldest, oldest+1)
	}
	r.strangers = append(r.strangers, x)
}

// tickPeers tells the time to everything that has to do with other stores.
func (s *Store) tickPeers() {
	s.peers.live.Tick(s.now)
	s.livenessEvents()
	s.tickLeaders()
	s.tickRests()
	s.stand()
	s.askPresent()
	s.peers.homes = slices.DeleteFunc(s.peers.homes, func(r *Replica) bool { return !r.extendRenewals() })
	for _, votes := range []map[metapb.RangeID]earlyVote{s.peers.early, s.peers.refused} {
		for id, v := range votes { // any order: each is looked at alone
			if s.now.After(v.at.Add(s.peers.live.ElectionTimeout())) {
				delete(votes, id)
			}
		}
	}
}

// extendRenewals lets renewals that do not take the way through the replica go on
// for as long as the lease is held; false if it is a leader's with leases no more.
func (r *Replica) extendRenewals() bool {
	if r.lead == nil || r.single() || r.expirer == nil {
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
				s.armNow(r)
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
		s.voteNow(rel.Range)
	}
	if len(ev.Lapsed)+len(ev.Restarted) > 0 {
		s.voteNow(slices.Sorted(maps.Keys(s.peers.refused))...)
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
