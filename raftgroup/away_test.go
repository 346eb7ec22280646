package raftgroup

import (
	"testing"
	"time"

	"github.com/flotilladb/flotilla/internal/clock"
	"github.com/flotilladb/flotilla/proto/metapb"
)

// While a store with replicas is away, leaders of their ranges come and go elsewhere: of those
// that went nothing is kept for its return. The others are asked about then, each once.
func TestLeadersThatWentAreNotKept(t *testing.T) {
	l, err := NewLiveness(LivenessConfig{Store: 1, Start: 1, Replicas: &sceneStore{}})
	if err != nil {
		t.Fatal(err)
	}
	l.Tick(0)
	set := StoreSet{Voters: []metapb.StoreID{1, 2, 3}}
	const ranges = 100
	lead := func(term uint64) {
		for id := metapb.RangeID(1); id <= ranges; id++ {
			l.Lead(id, term, set) // ends the one before
			l.Lead(id, term, set) // as after a change of replicas
		}
	}
	for term := uint64(1); term <= 100; term++ {
		lead(term)
		l.Tick(clock.Time(term) * clock.Time(time.Second))
		l.Ready()
	}
	if n := len(l.peer(3).fresh); n > 4*ranges {
		t.Errorf("%d leaderships of %d ranges wait for a store that is away", n, ranges)
	}
	asked := make(map[Tie]int)
	l.Step(3, &LivenessMessage{FromStart: 1}, l.now)
	for l.HasReady() {
		for _, o := range l.Ready() {
			for _, tie := range o.Message.Questions {
				if o.To == 3 {
					asked[tie]++
				}
			}
		}
	}
	for id := metapb.RangeID(1); id <= ranges; id++ {
		if tie := (Tie{id, 100}); asked[tie] != 1 {
			t.Errorf("%v is asked about %d times", tie, asked[tie])
		}
	}
	if len(asked) != ranges {
		t.Errorf("%d leaderships are asked about, of %d ranges", len(asked), ranges)
	}
}

// Replicas that move make sets of stores that nobody has any more: they are not kept.
func TestReplicaSetsAreNotKept(t *testing.T) {
	l, err := NewLiveness(LivenessConfig{Store: 1, Start: 1, Replicas: &sceneStore{}})
	if err != nil {
		t.Fatal(err)
	}
	l.Tick(0)
	const ranges, stores, moves = 50, 60, 10_000
	for i := range moves {
		a := metapb.StoreID(2 + i%stores)
		b := metapb.StoreID(2 + (i+1+i/stores)%stores)
		if a != b {
			l.Lead(metapb.RangeID(1+i%ranges), 1, StoreSet{Voters: []metapb.StoreID{1, a, b}})
		}
	}
	if n := len(l.sets); n > 4*ranges {
		t.Errorf("%d sets of stores are kept for %d ranges", n, ranges)
	}
	x, y := l.leads[1], l.leads[2]
	if l.replicaSet(StoreSet{Voters: []metapb.StoreID{1, x.set.peers[0].store, x.set.peers[1].store}}) != x.set || x.set == y.set {
		t.Error("a set that a range has is made anew")
	}
}
