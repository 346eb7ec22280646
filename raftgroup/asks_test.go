package raftgroup

import (
	"slices"
	"testing"

	"github.com/flotilladb/flotilla/internal/effort"
	"github.com/flotilladb/flotilla/proto/metapb"
)

// A store that has given many ranges up is asked about all of them, again and again, by
// one that has not heard yet: what it has said already is gone over once for all that a
// message asks, not for each.
func TestAsksAboutMany(t *testing.T) {
	l, err := NewLiveness(LivenessConfig{Store: 1, Start: 1, Replicas: &sceneStore{}})
	if err != nil {
		t.Fatal(err)
	}
	l.Tick(0)
	ask := func(asks []Tie) { l.Step(2, &LivenessMessage{FromStart: 1, ToStart: 1, Asks: asks}, 0) }
	ranges := 1 << 16
	all := make([]Tie, ranges)
	for i := range all {
		all[i] = Tie{metapb.RangeID(i + 1), 5}
		l.EndLead(l.Lead(all[i].Range, all[i].Term, StoreSet{Voters: []metapb.StoreID{1, 2}}))
	}
	for range 4 {
		for part := range slices.Chunk(all, l.cfg.TiesMax) {
			ask(part)
		}
	}
	if n := len(l.peer(2).releases); n > ranges {
		t.Errorf("%d releases of %d", n, ranges)
	}
	effort.Constant(t, 4, l.cfg.TiesMax, func(n int) func() {
		return func() { ask(all[ranges-n:]) }
	})
}
