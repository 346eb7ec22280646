package main

import (
	"testing"
	"time"
)

func TestGCPercent(t *testing.T) {
	for _, test := range []struct {
		want   int
		liveMB uint64
		got    int
	}{
		{100, 0, 100},
		{100, 20, 100},
		{100, 128, 100},
		{100, 256, 50},
		{100, 10_000, gcPercentMin},
		{400, 20, 400},
		{400, 64, 200},
		{10, 10_000, 10}, // who wants less has it
	} {
		if got := gcPercent(test.want, test.liveMB<<20); got != test.got {
			t.Errorf("%d %% of %d MiB: %d, want %d", test.want, test.liveMB, got, test.got)
		}
	}
}

// Memory is given back when nothing happens and much lies idle, once.
func TestHeapIsGivenBack(t *testing.T) {
	const mb = 1 << 20
	now := time.Unix(1000, 0)
	g := heapGovernor{want: 100, percent: 100}
	h := heapState{allocated: 500 * mb, live: 50 * mb, objects: 60 * mb, free: 100 * mb}
	gave := func(after time.Duration, allocated uint64) bool {
		now = now.Add(after)
		h.allocated += allocated
		set, back := g.next(now, h)
		if set {
			t.Errorf("percentage of %d for %d MB", g.percent, h.live/mb)
		}
		if back {
			h.objects, h.free = h.live, 0
		}
		return back
	}
	for i, step := range []struct {
		after     time.Duration
		allocated uint64
		want      bool
	}{
		{0, 0, false}, {quietTime - 1, 0, false},
		{quietTime, 2 * quietBytes, false}, // busy
		{quietTime - 1, 0, false}, {1, quietBytes / 2, true},
		{quietTime, 0, false}, {quietTime, 0, false}, // nothing is left to give
	} {
		if got := gave(step.after, step.allocated); got != step.want {
			t.Errorf("step %d: given back %t, want %t", i, got, step.want)
		}
	}
	h.free = idleBytes
	if !gave(quietTime, 0) {
		t.Error("memory that came to lie idle later is kept")
	}
}
