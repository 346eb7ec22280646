package sim

import (
	"errors"
	"math/rand/v2"
	"time"

	"github.com/flotilladb/flotilla/internal/model"
	"github.com/flotilladb/flotilla/lease"
	"github.com/flotilladb/flotilla/range"
	"github.com/flotilladb/flotilla/watchfeed"
)

// Config is one run. Each seed draws its own, so that a bug that needs an odd
// mix of load, limits and faults meets it in some seed.
type Config struct {
	Seed uint64
	// Nodes is the size of the cluster.
	Nodes   int
	Network NetworkConfig
	// GrowAfter is when a cluster of one store begins to be one of several, as it
	// does before a second one is let in; 0: never.
	GrowAfter time.Duration
	Moves     MovesConfig
	Planner   PlannerConfig
	// CutOffFor is how long a node is cut off from the sequencer alone; 0: not at all.
	CutOffFor time.Duration
	Check     CheckConfig
	Readers   ReadersConfig
	Operator  OperatorConfig
	// HoldMin is for how long a transaction's first attempt may hold closing back; 0: 50 ms.
	HoldMin time.Duration
	// OldUntil is how long the last node runs a version that reads only the first
	// format; then it is started anew; 0: none does.
	OldUntil time.Duration
	// Duration is how long the clients go on, in virtual time.
	Duration time.Duration
	// Clients is how many there are; each waits for its answer, and up to
	// ThinkMax, before it asks again.
	Clients  int
	ThinkMax time.Duration
	// OpsMax ends the traffic early.
	OpsMax int

	Traffic model.GeneratorConfig
	// PageBytes and ChunkBytes cut reads, 0: as in production.
	PageBytes, ChunkBytes int
	// PausePercent is how often a reader stands still between two looks, for up
	// to PauseMax.
	PausePercent int
	PauseMax     time.Duration

	// Ranges tunes the store.
	Ranges ranges.Config

	// SplitsFirst are made before the traffic, others every SplitEvery or so.
	SplitsFirst int
	SplitEvery  time.Duration
	// CrashEvery, StopEvery, StallEvery and FullEvery are mean times between
	// faults of a kind; 0: never.
	CrashEvery, StopEvery, StallEvery, FullEvery time.Duration
	// Swarm is what else may go wrong where there are several nodes.
	Swarm SwarmConfig
	// SyncMin and SyncMax bound the time of a usual sync; one in a hundred takes
	// up to SyncStall longer until the run is to become quiet.
	SyncMin, SyncMax, SyncStall time.Duration
	// RemovalRows bounds a step of removal.
	RemovalRows int

	// Watchers is how many clients watch, each up to 2 WatchThink between two
	// things that it does; some take up to WatchSlow until they read.
	Watchers              int
	WatchThink, WatchSlow time.Duration
	// Hub tunes the hub, HubStepsMax is how many steps it may have to take in,
	// HubStall how late it may come to them, ScanMax how long its reads take.
	Hub               watchfeed.CoreConfig
	HubStepsMax       int
	HubStall, ScanMax time.Duration
}

// Validate reports what cannot be run.
func (c *Config) Validate() error {
	switch {
	case c.Nodes < 1:
		return errors.New("sim: no node")
	case c.Clients < 1 || c.OpsMax < 1 || c.Duration <= 0 || c.SyncMax < c.SyncMin || c.SyncMin <= 0:
		return errors.New("sim: a bound is too low")
	}
	return c.Traffic.Validate()
}

// Draw makes the configuration of a seed.
func Draw(seed uint64) Config {
	rng := rand.New(rand.NewPCG(seed, 1))
	maybe := func(percent int, min, max time.Duration) time.Duration {
		if rng.IntN(100) >= percent {
			return 0
		}
		return between(rng, min, max)
	}
	c := Config{
		Seed:         seed,
		Nodes:        1,
		Duration:     between(rng, time.Second, 4*time.Second),
		Clients:      1 + rng.IntN(12),
		ThinkMax:     pick(rng, time.Millisecond, 5*time.Millisecond, 20*time.Millisecond),
		OpsMax:       200 + rng.IntN(600),
		PageBytes:    pick(rng, 0, 1, 64, 512),
		ChunkBytes:   pick(rng, 0, 64, 1024),
		PausePercent: pick(rng, 0, 10, 30, 60),
		PauseMax:     pick(rng, 100*time.Microsecond, 2*time.Millisecond, 30*time.Millisecond),
		SplitsFirst:  pick(rng, 0, 0, 3, 15, 20),
		SplitEvery:   maybe(60, 20*time.Millisecond, time.Second),
		CrashEvery:   maybe(75, 100*time.Millisecond, 2*time.Second),
		StopEvery:    maybe(40, 200*time.Millisecond, 2*time.Second),
		StallEvery:   maybe(30, 100*time.Millisecond, time.Second),
		FullEvery:    maybe(25, 100*time.Millisecond, time.Second),
		RemovalRows:  pick(rng, 1, 5, 50, 5000),
	}
	disk := pick(rng, time.Duration(50e3), 500*time.Microsecond, 3*time.Millisecond, 20*time.Millisecond)
	c.SyncMin, c.SyncMax = disk/4+1, disk*2
	c.SyncStall = maybe(50, disk, 300*time.Millisecond)
	c.Traffic = model.GeneratorConfig{
		Keys:            pick(rng, 4, 20, 60, 200),
		ValueBytesMax:   pick(rng, 8, 64, 300),
		InvalidPercent:  pick(rng, 0, 2, 5),
		CompactPerMille: pick(rng, 0, 5, 20, 60),
		Limits:          model.Limits{TxnOpsMax: 128, RequestBytesMax: 1 << 16, LeaseTTLMin: 1},
	}
	c.Ranges = ranges.Config{
		SyncsMax:      pick(rng, 1, 1, 2, 4),
		ProposalsMax:  pick(rng, 1, 2, 16),
		LogBytesMax:   pick[uint64](rng, 256, 2048, 16<<10, 4<<20),
		BatchBytesMax: pick(rng, 1, 300, 4096, 1<<20),
		QueueBytesMax: pick(rng, 2000, 64<<20, 64<<20),
		LockAgeMax:    pick(rng, 30*time.Millisecond, 2*time.Second, 2*time.Second),
		IntentAgeMax:  pick(rng, 20*time.Millisecond, 200*time.Millisecond, time.Second),
		EntryKeysMax:  pick(rng, 1, 3, 0),
		EntryBytesMax: pick(rng, 20, 0, 0),
	}
	c.Ranges.LogRestBytesMax = 1 // entries are small: whatever rests cuts its log
	// From numbers of its own, as what follows: what else a seed draws stays what it was.
	c.Ranges.ShareRequests = pick(rand.New(rand.NewPCG(seed, 21)), 1, 3, 64)
	c.Ranges.RevokeNamesMax = pick(rand.New(rand.NewPCG(seed, 24)), 0, 0, 0, 1) // 1: one key of a lease is too many to be named
	drawWatches(&c, rand.New(rand.NewPCG(seed, 6)))
	return c
}

// drawWatches draws what has to do with watches from numbers of its own, so that
// a seed's other traffic stays what it was before there were any.
func drawWatches(c *Config, rng *rand.Rand) {
	c.Watchers = pick(rng, 0, 1, 2, 4, 8)
	c.WatchThink = pick(rng, 3*time.Millisecond, 20*time.Millisecond, 100*time.Millisecond)
	c.WatchSlow = pick(rng, 5*time.Millisecond, 100*time.Millisecond, 500*time.Millisecond)
	drawHub(c, rng)
	if rng.IntN(2) == 0 {
		drawLeases(c, rng)
	}
}

// drawLeases adds leases that run out within a run.
func drawLeases(c *Config, rng *rand.Rand) {
	c.Traffic.LeasePercent = pick(rng, 5, 20, 50)
	c.Traffic.LeaseTTLLow, c.Traffic.LeaseTTLHigh = 1, pick[int64](rng, 1, 3, 5)
	c.Ranges.MarksMax = pick(rng, 1, 16, 1<<16)
	c.Ranges.Expirer = lease.DefaultExpirerConfig()
	e := &c.Ranges.Expirer
	e.RevokesInFlightMax = pick(rng, 1, 3, 64)
	e.RevokesPerSecondMax = pick(rng, 20, 200, 4000)
	e.RetryDelayMin = pick(rng, time.Millisecond, 100*time.Millisecond)
	e.CheckpointInterval = pick(rng, 0, 100*time.Millisecond, 700*time.Millisecond, 5*time.Minute)
	e.CheckpointsMax = pick(rng, 1, 1000)
	e.TickWorkMax = pick(rng, 1, 10, 4096)
}

func pick[T any](rng *rand.Rand, of ...T) T { return of[rng.IntN(len(of))] }

// between draws a duration, short ones as likely as long ones.
func between(rng *rand.Rand, low, high time.Duration) time.Duration {
	if high <= low {
		return low
	}
	return low + time.Duration(rng.Int64N(int64(high-low)))
}
