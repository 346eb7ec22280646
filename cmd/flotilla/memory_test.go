package main

import "testing"

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
