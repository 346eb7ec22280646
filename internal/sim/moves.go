package sim

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/flotilladb/flotilla/internal/node"
)

// MovesConfig is how replicas move.
type MovesConfig struct {
	// Every is the mean time between two moves; 0: never.
	Every time.Duration
	// ChunkBytes bounds the pieces of snapshots, 0: as in production. JobMax is how
	// long the work on one may take.
	ChunkBytes int
	JobMax     time.Duration
}

// startJobs runs the work on snapshots beside the loop: some time later each is
// done, and some time after that the loop hears of it.
func (n *simNode) startJobs(rd *node.Ready) {
	for _, j := range rd.Jobs {
		n.s.after(n.jobTime(), n.planned(func() {
			j.Run(context.Background(), n.eng)
			if j.Ingests() {
				n.s.stats.Snapshots++
				n.counts.Forget(j.Span())
			}
			n.s.after(n.jobTime(), n.planned(func() {
				n.jobs = append(n.jobs, j)
				n.wake()
			}))
		}))
	}
	if len(rd.Lost) > 0 {
		n.removeAgain = true
		n.startRemoval()
	}
}

func (n *simNode) jobTime() time.Duration { return between(n.s.disk, 0, n.s.cfg.Moves.JobMax) }

// takeJobs hands what was run to the core.
func (n *simNode) takeJobs() {
	for _, j := range n.jobs {
		if err := n.core.SnapshotDone(j); err != nil {
			n.s.fail(err)
		}
	}
	n.jobs = n.jobs[:0]
}

// DrawMoves makes the configuration of a seed in which replicas come and go.
func DrawMoves(seed uint64, nodes int) Config {
	c := DrawCluster(seed, nodes)
	rng := rand.New(rand.NewPCG(seed, 10))
	c.Moves = MovesConfig{
		ChunkBytes: pick(rng, 1, 200, 5000, 0),
		JobMax:     pick(rng, 100*time.Microsecond, 5*time.Millisecond, 100*time.Millisecond),
	}
	c.Ranges.LogBytesMax = pick[uint64](rng, 256, 2048, 16<<10)
	c.Ranges.LogBehindBytesMax = pick[uint64](rng, 300, 3000, 30_000)
	c.Network.CutEvery = pick(rng, 0, 500*time.Millisecond, 2*time.Second)
	c.Network.CutMax = pick(rng, 200*time.Millisecond, 2*time.Second)
	return c
}
