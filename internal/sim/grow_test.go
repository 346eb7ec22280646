package sim

import (
	"flag"
	"io"
	"math/rand/v2"
	"os"
	"testing"
	"time"
)

var (
	growSeeds = flag.Uint64("growseeds", 20, "how many seeds TestGrow runs")
	growSeed  = flag.Uint64("growseed", 0, "run this one of TestGrow only")
)

// growing is a seed's run in which the cluster of one store becomes one of several,
// in the middle of everything.
func growing(seed uint64) Config {
	cfg := Draw(seed)
	cfg.GrowAfter = between(rand.New(rand.NewPCG(seed, 11)), 30*time.Millisecond, cfg.Duration*3/4)
	return cfg
}

// TestGrow ends the one-store fact under load, with crashes around it.
func TestGrow(t *testing.T) {
	if *growSeed != 0 {
		var trace io.Writer
		if *flagTrace {
			trace = os.Stdout
		}
		stats, err := Run(growing(*growSeed), trace)
		t.Logf("%+v", stats)
		if err != nil {
			t.Fatal(failure(*growSeed, err))
		}
		return
	}
	grown, crashes := 0, 0
	for seed := uint64(1); seed <= *growSeeds; seed++ {
		stats, err := Run(growing(seed), nil)
		if err != nil {
			t.Error(failure(seed, err))
		}
		grown += stats.Grown
		crashes += stats.Crashes
	}
	if grown == 0 || crashes == 0 {
		t.Errorf("%d runs grew, with %d crashes", grown, crashes)
	}
	t.Logf("%d of %d grew", grown, *growSeeds)
}
