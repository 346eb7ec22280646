package raftgroup

import (
	"cmp"
	"encoding/binary"
	"maps"
	"math"
	"slices"

	"github.com/flotilladb/flotilla/internal/clock"
	"github.com/flotilladb/flotilla/proto/metapb"
)

// StoreSet is where the replicas of a range are, by their part in its applied
// configuration.
type StoreSet struct {
	Voters []metapb.StoreID
	// VotersOutgoing are the voters of the configuration that is being left.
	VotersOutgoing []metapb.StoreID
	Learners       []metapb.StoreID
}

// Leadership is a replica's leadership of a range in a term, for as long as its
// store has it.
type Leadership struct {
	live *Liveness
	tie  Tie
	set  *replicaSet
	// stamps has, for each peer of set, its stamp when its replica was bound; 0 if
	// it never was.
	stamps []uint64
	given  bool // up
}

// replicaSet is a set of stores on which ranges have their replicas, so that what
// its promises are worth is computed once for all these ranges.
type replicaSet struct {
	peers []*livenessPeer // but for this store, by store
	// halves are the voters of the configuration, of a joint one both: places in
	// peers, -1 for this store.
	halves [][]int
	// until is what the promises of all peers are worth, as of version.
	until   clock.Time
	version uint64
}

// forever is the end of a lease that nobody can end.
const forever clock.Time = math.MaxInt64

// Lead says that this store's replica leads a range in a term. It is bound to the
// replicas in set, one question a store, and may answer from memory when the
// Leadership says so. Another Lead of the same range replaces it: after a change
// of configuration, or in a later term.
func (l *Liveness) Lead(rangeID metapb.RangeID, term uint64, set StoreSet) *Leadership {
	x := &Leadership{live: l, tie: Tie{rangeID, term}, set: l.replicaSet(set)}
	x.stamps = make([]uint64, len(x.set.peers))
	old := l.leads[rangeID]
	switch {
	case old == nil:
	case old.tie != x.tie:
		l.EndLead(old)
	default: // who is bound stays so
		x.given, old.given = old.given, true
		for i, p := range old.set.peers {
			if j := x.set.place(p); j >= 0 {
				x.stamps[j] = old.stamps[i]
			}
		}
	}
	l.leads[rangeID] = x
	for _, p := range x.set.peers {
		if x.asks(p) {
			l.askLater(p, x)
		}
	}
	return x
}

// askLater has a peer asked about a leadership. One that is away may be for long, while
// leaders come and go: those that went are dropped before they are more than the others.
func (l *Liveness) askLater(p *livenessPeer, x *Leadership) {
	if len(p.fresh) > 2*len(l.leads)+freshMin {
		p.fresh = slices.DeleteFunc(p.fresh, func(o *Leadership) bool { return !o.asks(p) })
	}
	p.fresh = append(p.fresh, x)
	p.talk, l.dirty = true, true
}

// freshMin is below how many leaderships it is not worth a look which have gone.
const freshMin = 64

// GiveUp ends the right to answer from memory for the rest of the term: a
// transfer was sent, and nobody can know that it will not be followed yet.
func (l *Liveness) GiveUp(x *Leadership) { x.given = true }

// EndLead says that a leadership is over, or will never be worth a lease again.
// All replicas are told, until they say that they know. In its term there is no other:
// what one of them said before it was told may come later.
func (l *Liveness) EndLead(x *Leadership) {
	x.given = true
	if l.leads[x.tie.Range] == x {
		delete(l.leads, x.tie.Range)
	}
	for _, p := range x.set.peers {
		l.release(p, x.tie)
	}
}

// Holds reports whether the leader may answer from memory now: no other one can
// have been elected. It is asked after what is answered was read.
func (x *Leadership) Holds(now clock.Time) bool { return now < x.Until() }

// Until returns until when Holds.
func (x *Leadership) Until() clock.Time {
	if x.given {
		return 0
	}
	for i, p := range x.set.peers {
		if x.stamps[i] != p.stamp {
			return x.set.compute(x.stamps)
		}
	}
	if x.set.version != x.live.version {
		x.set.until = x.set.compute(nil)
		x.set.version = x.live.version
	}
	return x.set.until
}

// Given reports whether the leadership was given up.
func (x *Leadership) Given() bool { return x.given }

// asks reports whether a peer's replica is still to be asked.
func (x *Leadership) asks(p *livenessPeer) bool {
	i := x.set.place(p)
	return !x.given && i >= 0 && x.stamps[i] != p.stamp
}

func (x *Leadership) bind(p *livenessPeer) {
	if i := x.set.place(p); i >= 0 {
		x.stamps[i] = p.stamp
	}
}

func compareLeads(a, b *Leadership) int { return cmp.Compare(a.tie.Range, b.tie.Range) }

// compute returns until when every half of the configuration has a quorum under
// promise. Stamps say whose replicas are bound; nil, all.
func (s *replicaSet) compute(stamps []uint64) clock.Time {
	lowest := forever
	var room [16]clock.Time
	for _, half := range s.halves {
		ends := room[:0]
		for _, i := range half {
			switch {
			case i < 0:
				ends = append(ends, forever)
			case stamps == nil || stamps[i] == s.peers[i].stamp:
				ends = append(ends, s.peers[i].theirUntil)
			default:
				ends = append(ends, 0)
			}
		}
		slices.Sort(ends)
		// The n/2+1 latest are a quorum; the earliest of these ends it.
		lowest = min(lowest, ends[len(ends)-(len(ends)/2+1)])
	}
	return lowest
}

// place returns where a peer is in the set, or -1.
func (s *replicaSet) place(p *livenessPeer) int { return slices.Index(s.peers, p) }

// replicaSet returns the one set with these members.
func (l *Liveness) replicaSet(set StoreSet) *replicaSet {
	key := setKey(set)
	if s := l.sets[key]; s != nil {
		return s
	}
	s := &replicaSet{}
	for _, ids := range [][]metapb.StoreID{set.Voters, set.VotersOutgoing, set.Learners} {
		for _, id := range ids {
			if id == l.cfg.Store {
				continue
			}
			if p := l.ensurePeer(id); s.place(p) < 0 {
				s.peers = append(s.peers, p)
			}
		}
	}
	slices.SortFunc(s.peers, func(a, b *livenessPeer) int { return cmp.Compare(a.store, b.store) })
	for _, ids := range [][]metapb.StoreID{set.Voters, set.VotersOutgoing} {
		if len(ids) == 0 {
			continue
		}
		var half []int
		for _, id := range ids {
			place := -1
			if id != l.cfg.Store {
				place = s.place(l.peer(id))
			}
			half = append(half, place)
		}
		s.halves = append(s.halves, half)
	}
	s.until = s.compute(nil)
	s.version = l.version
	l.dropSets()
	l.sets[key] = s
	return s
}

// setsMin is below how many sets it is not worth a look which no range has any more.
const setsMin = 64

// dropSets forgets the sets that no range has any more, where there may be more of them than
// of the others: each move makes some.
func (l *Liveness) dropSets() {
	if len(l.sets) <= 2*len(l.leads)+setsMin {
		return
	}
	used := make(map[*replicaSet]bool, len(l.leads))
	for _, x := range l.leads { // any order
		used[x.set] = true
	}
	maps.DeleteFunc(l.sets, func(_ string, s *replicaSet) bool { return !used[s] })
}

func setKey(set StoreSet) string {
	var key []byte
	for _, ids := range [][]metapb.StoreID{set.Voters, set.VotersOutgoing, set.Learners} {
		sorted := slices.Clone(ids)
		slices.Sort(sorted)
		key = binary.AppendUvarint(key, uint64(len(sorted)))
		for _, id := range sorted {
			key = binary.AppendUvarint(key, uint64(id))
		}
	}
	return string(key)
}
