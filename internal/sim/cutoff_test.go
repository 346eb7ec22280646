package sim

import (
	"flag"
	"io"
	"os"
	"testing"
)

var (
	cutOffSeeds = flag.Uint64("cutoffseeds", 6, "how many seeds TestCutOffFromSequencer runs")
	cutOffSeed  = flag.Uint64("cutoffseed", 0, "run this one of TestCutOffFromSequencer only")
)

// A node that is cut off from the sequencer's node alone goes on writing to the ranges
// that it leads: it asks through another node.
func TestCutOffFromSequencer(t *testing.T) {
	first, n := uint64(1), *cutOffSeeds
	var trace io.Writer
	if *cutOffSeed != 0 {
		first, n = *cutOffSeed, 1
		if *flagTrace {
			trace = os.Stdout
		}
	}
	cuts, puts := 0, 0
	for seed := first; seed < first+n; seed++ {
		stats, err := Run(DrawCutOff(seed, 3+int(seed%3)), trace)
		if err != nil {
			t.Error(failure(seed, err))
		}
		cuts += stats.Cuts
		puts += stats.CutOffPuts
	}
	if n > 1 && (cuts < int(n)-1 || puts < 10*cuts) {
		t.Errorf("%d were cut off, and %d puts answered", cuts, puts)
	}
}
