package sim

import (
	"io"
	"testing"
)

// Replicas that are compared all the time, in the middle of all else, are the same;
// and when a row of one was changed, that one is found and replaced.
func TestCorruptReplicas(t *testing.T) {
	first, n := *flagFrom, min(*flagSeeds, 3)
	var trace io.Writer
	if *flagSeed != 0 {
		first, n = *flagSeed, 1
		if *flagTrace {
			trace = t.Output()
		}
	}
	total := Stats{}
	for seed := first; seed < first+n; seed++ {
		stats, err := Run(DrawChecks(seed, 3), trace)
		if err != nil {
			t.Error(failure(seed, err))
		}
		total.add(stats)
		total.Seeds++
	}
	t.Logf("%+v", total)
	if n > 1 && (total.Corrupt < total.Seeds/2 || total.Snapshots == 0) {
		t.Errorf("too little happened: %+v", total)
	}
}
