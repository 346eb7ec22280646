package raftgroup

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/flotilladb/flotilla/internal/clock"
)

// Who stood in vain waits longer each time, up to a bound, and is as quick as at first
// when there was a leader in between.
func TestElectionsInVain(t *testing.T) {
	const timeout = time.Second
	e := NewElections(timeout, rand.New(rand.NewPCG(1, 1)))
	now := clock.Time(timeout)
	stand := func() (after time.Duration) {
		begin := now
		for {
			if _, ok := e.Next(now); ok {
				return now.Sub(begin)
			}
			now = now.Add(time.Millisecond)
		}
	}
	e.Arm(1, now, 0)
	if d := stand(); d > timeout/10 {
		t.Errorf("the first stands after %v", d)
	}
	for i, least := range []time.Duration{timeout / 4, timeout / 2, timeout, timeout} {
		e.Again(1, now)
		if d := stand(); d < least || d > 3*least {
			t.Errorf("try %d after %v, not between %v and %v", i+2, d, least, 3*least)
		}
	}
	e.Led(1)
	e.Again(1, now)
	if d := stand(); d > 3*timeout/4 {
		t.Errorf("after there was a leader it stands after %v", d)
	}
	e.Arm(1, now, 1)
	if d := stand(); d < timeout/4 || d > 2*timeout/5 {
		t.Errorf("the second of a range stands after %v", d)
	}
	e.Again(1, now)
	e.Again(1, now) // in vain, so it would take long; but then there was a leader, which is lost
	e.Led(1)
	e.ArmNow(1, now, 0)
	if d := stand(); d > timeout/20 {
		t.Errorf("a leader is lost, and it stands after %v", d)
	}
	e.ArmNow(1, now, 0)
	first := e.at[1]
	if e.ArmNow(1, now.Add(timeout), 0); e.at[1] != first {
		t.Errorf("it was to stand at %v, and is to at %v", first, e.at[1])
	}
	e.Disarm(1)
	if e.Len() != 0 {
		t.Errorf("%d wait", e.Len())
	}
}
