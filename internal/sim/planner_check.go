package sim

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/flotilladb/flotilla/proto/metapb"
)

// factor is how many replicas a range has where there are stores enough; systemFactor is that
// of the system range.
const (
	factor       = 3
	systemFactor = 5
)

// restFor is how long nothing may change until what planners did is looked at: they
// look ten times.
const restFor = 5 * time.Second

// settlePlaces runs until the planner has nothing to do, and looks at what it did. Then
// there is none any more, and every range comes to every store, so that all is checked
// on each.
func (s *Sim) settlePlaces() {
	c := &s.cfg.Planner
	if c.First == 0 {
		return
	}
	end := s.now.Add(settleMax + 2*c.Limits.LostAfter)
	since, was := s.now, ""
	for s.failed == nil && s.now.Sub(since) < restFor {
		s.pass()
		why := s.misplaced()
		if why == "" {
			why = s.unbalanced()
		}
		if at := s.placesAt(); why != "" || at != was {
			since, was = s.now, at
		}
		if s.now > end {
			s.picture()
			s.fail(fmt.Errorf("the planner does not come to rest: %s; %s", why, was))
		}
	}
	s.stats.Added = s.hist.added
	s.tracef("the planner is done: %s", was)
	s.endPlanner()
	s.after(restoreEvery, s.restore)
}

// staying are the stores that are to have replicas.
func (s *Sim) staying() (stores []metapb.StoreID) {
	for _, n := range s.nodes {
		if !n.away() && !n.leaving {
			stores = append(stores, n.id)
		}
	}
	return stores
}

// newest returns all ranges as they are, in order of id.
func (s *Sim) newest() (descs []*metapb.Descriptor) {
	at := make(map[metapb.RangeID]*metapb.Descriptor)
	for _, n := range s.nodes {
		if !n.up {
			continue
		}
		for _, id := range n.core.Store().IDs() {
			if d := n.core.Store().Replica(id).Descriptor(); at[id] == nil || d.Generation > at[id].Generation {
				at[id] = d
			}
		}
	}
	for _, d := range at {
		descs = append(descs, d)
	}
	slices.SortFunc(descs, func(a, b *metapb.Descriptor) int { return int(a.RangeId) - int(b.RangeId) })
	return descs
}

// misplaced says which range has not the replicas that it should have.
func (s *Sim) misplaced() string {
	stores := s.staying()
	for _, n := range s.nodes {
		switch {
		case n.joining:
			return fmt.Sprintf("store %d has not joined", n.id)
		case n.leaving && !n.gone:
			return fmt.Sprintf("store %d has not left", n.id)
		}
	}
	for _, d := range s.newest() {
		voters := 0
		for _, p := range d.Replicas {
			if p.Kind == metapb.ReplicaKind_VOTER && slices.Contains(stores, metapb.StoreID(p.StoreId)) {
				voters++
			}
		}
		few, many := replicasOf(d.ID(), len(stores))
		if voters != len(d.Replicas) || len(stores) >= factor && (voters < few || voters > many) {
			return fmt.Sprintf("range %d has %v, of the stores %v", d.RangeId, d.Replicas, stores)
		}
	}
	return ""
}

// replicasOf returns the fewest and the most replicas that a range may rest with on so many
// stores.
func replicasOf(id metapb.RangeID, stores int) (few, many int) {
	switch {
	case id != metapb.SystemRange:
		return factor, factor
	case stores >= systemFactor:
		return systemFactor, systemFactor
	}
	return factor, systemFactor - 1 // a store that left may have left it with four
}

// lacking says which range has a replica that is not there: the store may have lost the
// range that it was split off before it had split it.
func (s *Sim) lacking() string {
	for _, d := range s.newest() {
		for _, p := range d.Replicas {
			n := s.nodes[p.StoreId-1]
			if !n.up {
				continue
			}
			if r := n.core.Store().Replica(d.ID()); r == nil || uint64(r.ID()) != p.ReplicaId {
				return fmt.Sprintf("range %d is not on store %d", d.RangeId, p.StoreId)
			}
		}
	}
	return ""
}

// unbalanced says which store has so much more than another that something of it
// should be there.
func (s *Sim) unbalanced() string {
	stores, descs := s.staying(), s.newest()
	replicas, leaders := make(map[uint64]int), make(map[uint64]int)
	led, total := 0, 0
	for _, d := range descs {
		total += len(d.Replicas)
		for _, p := range d.Replicas {
			replicas[p.StoreId]++
		}
		if r := s.leaderOf(d.ID()); r != nil {
			leaders[uint64(r.Leader())]++
			led++
		}
	}
	percent := func(n int) int { return n * 5 / 100 / max(1, len(stores)) }
	for _, d := range descs {
		r := s.leaderOf(d.ID())
		if r == nil {
			return fmt.Sprintf("range %d has no leader", d.RangeId)
		}
		for _, p := range d.Replicas {
			if leaders[uint64(r.Leader())]-leaders[p.StoreId] >= max(3, percent(led)) {
				return fmt.Sprintf("range %d is led by store %d; leaders: %v", d.RangeId, r.Leader(), leaders)
			}
			for _, to := range stores {
				few := replicas[p.StoreId]-replicas[uint64(to)] < max(2, percent(total))
				if len(stores) >= factor && d.ReplicaOn(to) == nil && !few {
					return fmt.Sprintf("range %d is on store %d and not on store %d; replicas: %v", d.RangeId, p.StoreId, to, replicas)
				}
			}
		}
	}
	return ""
}

// placesAt is where everything is.
func (s *Sim) placesAt() string {
	var b strings.Builder
	for _, d := range s.newest() {
		fmt.Fprintf(&b, "%d/%d:", d.RangeId, d.Generation)
		for _, p := range d.Replicas {
			fmt.Fprintf(&b, " %d", p.StoreId)
			if p.Kind != metapb.ReplicaKind_VOTER {
				b.WriteString("?")
			}
		}
		if r := s.leaderOf(d.ID()); r != nil {
			fmt.Fprintf(&b, " by %d", r.Leader())
		}
		b.WriteString("; ")
	}
	return b.String()
}
