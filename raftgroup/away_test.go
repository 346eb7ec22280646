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
