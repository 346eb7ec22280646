package sim

import (
	"testing"
	"time"
)

// A node that was cut off for longer than the log goes back comes back by snapshots.
func TestSnapshots(t *testing.T) {
	total := Stats{}
	for seed := uint64(1); seed <= 6; seed++ {
		cfg := calm(DrawMoves(seed, 3))
		cfg.Moves.Every = 0
		cfg.Ranges.LogBytesMax, cfg.Ranges.LogBehindBytesMax = 256, 500
		cfg.Network.CutEvery, cfg.Network.CutMax = 700*time.Millisecond, 2*time.Second
		stats, err := Run(cfg, nil)
		if err != nil {
			t.Error(failure(seed, err))
		}
		total.add(stats)
	}
	if total.Snapshots < 6 || total.Cuts == 0 {
		t.Errorf("too little happened: %+v", total)
	}
}
