package raftgroup

import (
	"testing"
	"time"

	"github.com/flotilladb/flotilla/proto/metapb"
)

// A store that has given many ranges up is asked about all of them, again and again, by
// one that has not heard yet: that takes no time in which it answers nothing else.
func TestAsksAboutMany(t *testing.T) {
	l, err := NewLiveness(LivenessConfig{Store: 1, Start: 1, Replicas: &sceneStore{}})
	if err != nil {
		t.Fatal(err)
	}
	l.Tick(0)
	const ranges = 1 << 16
	for id := range metapb.RangeID(ranges) {
		l.EndLead(l.Lead(id+1, 5, StoreSet{Voters: []metapb.StoreID{1, 2}}))
	}
	began := time.Now()
	for range 4 {
		m := &LivenessMessage{FromStart: 1, ToStart: 1}
		for id := range metapb.RangeID(ranges) {
			if m.Asks = append(m.Asks, Tie{id + 1, 5}); len(m.Asks) == l.cfg.TiesMax {
				l.Step(2, m, 0)
				m.Asks = nil
			}
		}
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("%d are asked about four times in %v", ranges, took)
	}
	if n := len(l.peer(2).releases); n > ranges {
		t.Errorf("%d releases of %d", n, ranges)
	}
}
