package sim

import (
	"flag"
	"io"
	"os"
	"testing"
	"time"

	"github.com/flotilladb/flotilla/proto/metapb"
)

var (
	upgradeSeeds = flag.Uint64("upgradeseeds", 3, "how many seeds TestUpgrade runs")
	upgradeSeed  = flag.Uint64("upgradeseed", 0, "run this one of TestUpgrade only")
)

// As long as one node is of an older version nobody writes what it does not know, among
// moves and crashes; when it is upgraded, what waited goes on: replicas are compared, one
// that was changed is found and replaced.
func TestUpgrade(t *testing.T) {
	first, n := uint64(1), *upgradeSeeds
	var trace io.Writer
	if *upgradeSeed != 0 {
		first, n = *upgradeSeed, 1
		if *flagTrace {
			trace = os.Stdout
		}
	}
	corrupt := 0
	for seed := first; seed < first+n; seed++ {
		cfg := DrawChecks(seed, 3)
		cfg.OldUntil = cfg.Duration / 2
		cfg.Duration += 2 * time.Second
		stats, err := Run(cfg, trace)
		if err != nil {
			t.Error(failure(seed, err))
		}
		corrupt += stats.Corrupt
	}
	if n > 1 && corrupt == 0 {
		t.Errorf("no replica was found to be corrupt: checks do not run")
	}
	if metapb.FormatFirst.Has(metapb.Checks) {
		t.Error("checks wait for nothing")
	}
}
