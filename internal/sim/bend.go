package sim

import (
	"math/rand/v2"
	"time"
)

// Draws that know nothing of each other hardly ever bring together what some bugs need
// at once. So some seeds of each kind are bent towards it.

// DrawOne makes the configuration of a seed with one node.
func DrawOne(seed uint64) Config { return bend(Draw(seed), 14, bendToCrowd, bendToLeases) }

// DrawCluster makes the configuration of a seed with several nodes.
func DrawCluster(seed uint64, nodes int) Config {
	return bend(drawCluster(seed, nodes), 15, bendToMarks, bendToSilence)
}

// DrawReaders makes the configuration of a seed with readers.
func DrawReaders(seed uint64, nodes int) Config {
	return bend(drawReaders(seed, nodes), 15, bendToLate, bendToRenewals)
}

// DrawMoves makes the configuration of a seed in which replicas come and go.
func DrawMoves(seed uint64, nodes int) Config {
	return bend(drawMoves(seed, nodes), 15, bendToBehind)
}

// bend bends one seed in eight in each of some ways. stream is where it draws from.
func bend(c Config, stream uint64, ways ...func(*Config, *rand.Rand)) Config {
	rng := rand.New(rand.NewPCG(c.Seed, stream))
	if n := rng.IntN(8); n < len(ways) {
		ways[n](&c, rng)
	}
	return c
}

// bendToCrowd has many clients meet at a few keys of as many ranges, whose entries
// take their time: what ends a transaction and what begins one come to a range
// together, while others wait for its locks.
func bendToCrowd(c *Config, rng *rand.Rand) {
	c.Clients, c.ThinkMax, c.OpsMax = 12, time.Millisecond, 1000
	c.SplitsFirst, c.SplitEvery = 15, 0
	c.SyncMin, c.SyncMax, c.SyncStall = time.Millisecond, 3*time.Millisecond, 0
	c.Traffic.Keys, c.Traffic.LeasePercent, c.Traffic.CompactPerMille = pick(rng, 4, 8), 0, 0
	c.Ranges.SyncsMax, c.Ranges.ProposalsMax, c.Ranges.BatchBytesMax = 1, 1, 1<<20
	c.Ranges.EntryKeysMax, c.Ranges.EntryBytesMax = 0, 0
	c.Ranges.LockAgeMax = 2 * time.Second
}

// bendToLeases has a few clients keep a few leases alive for longer than these
// last, on a node that crashes.
func bendToLeases(c *Config, rng *rand.Rand) {
	drawLeases(c, rng)
	c.Duration, c.Clients, c.ThinkMax = between(rng, 6*time.Second, 12*time.Second), 4, 200*time.Millisecond
	c.CrashEvery = between(rng, 300*time.Millisecond, 2*time.Second)
	c.SplitEvery, c.StopEvery, c.FullEvery = 0, 0, 0
	c.Traffic.LeasePercent, c.Traffic.LeaseTTLLow, c.Traffic.LeaseTTLHigh = 50, 3, 6
	c.Ranges.Expirer.CheckpointInterval = pick(rng, 500*time.Millisecond, time.Second)
}

// bendToMarks has leases attached to keys of ranges that are led elsewhere than their
// homes, and revoked at once from a third node, over links of which one is slower than
// the others now and then: what a home answers comes after what ended the lease.
func bendToMarks(c *Config, rng *rand.Rand) {
	drawLeases(c, rng)
	c.Clients, c.ThinkMax, c.OpsMax = 12, 2*time.Millisecond, 1500
	c.SplitEvery = between(rng, 30*time.Millisecond, 300*time.Millisecond)
	c.CrashEvery, c.StopEvery, c.StallEvery, c.FullEvery = 0, 0, 0, 0
	c.SyncMin, c.SyncMax, c.SyncStall = 50*time.Microsecond, 500*time.Microsecond, 0
	c.Network = NetworkConfig{DelayMin: 50 * time.Microsecond, DelayMax: pick(rng, 2*time.Millisecond, 10*time.Millisecond), LossPerMille: pick(rng, 20, 100)}
	c.Swarm = SwarmConfig{TransferEvery: between(rng, 20*time.Millisecond, 200*time.Millisecond), Bytes: c.Swarm.Bytes}
	c.Traffic.LeasePercent, c.Traffic.CompactPerMille, c.Traffic.Keys = 50, 0, 60
	c.Ranges.EntryKeysMax, c.Ranges.EntryBytesMax = 0, 0
}

// bendToSilence has little said between nodes that are cut off for longer than a link
// waits. Disks are so slow that a request is acknowledged before its answer is there: the
// answer is lost, and nothing follows it.
func bendToSilence(c *Config, rng *rand.Rand) {
	c.Clients, c.ThinkMax = 1+rng.IntN(3), 20*time.Millisecond
	c.Duration = between(rng, 6*time.Second, 12*time.Second)
	c.Watchers, c.SplitsFirst, c.SplitEvery, c.Traffic.LeasePercent = 0, 0, 0, 0
	c.CrashEvery, c.StopEvery, c.StallEvery, c.FullEvery = 0, 0, 0, 0
	c.SyncMin, c.SyncMax, c.SyncStall = 20*time.Millisecond, 150*time.Millisecond, 0
	c.Network.DelayMin, c.Network.DelayMax, c.Network.LossPerMille = 100*time.Microsecond, time.Millisecond, 0
	c.Network.CutEvery, c.Network.CutMax = between(rng, 500*time.Millisecond, 2*time.Second), 3*time.Second
	c.Swarm = SwarmConfig{Drift: c.Swarm.Drift, Bytes: c.Swarm.Bytes}
}

// bendToLate has frames come a second time when who sent them, or whom they are for, is
// not what it was.
func bendToLate(c *Config, rng *rand.Rand) {
	c.Network.DoublePerMille = pick(rng, 100, 300)
	c.Readers.LateMax = pick[time.Duration](rng, 1, 2, 4) * c.Ranges.Liveness.ElectionTimeout
	c.Readers.DeposeEvery = c.Ranges.Liveness.ElectionTimeout
	c.CrashEvery = pick(rng, 0, 100*time.Millisecond, 500*time.Millisecond)
	c.SplitsFirst = pick(rng, 0, 3)
}

// bendToRenewals has leases kept alive, and revoked, while leaders of their homes are
// deposed.
func bendToRenewals(c *Config, rng *rand.Rand) {
	drawLeases(c, rng)
	c.Traffic.LeasePercent, c.Traffic.LeaseTTLLow, c.Traffic.LeaseTTLHigh = 50, 1, 3
	c.Ranges.Expirer.CheckpointInterval = pick(rng, 100*time.Millisecond, 5*time.Minute)
	c.Readers.PerNode, c.Readers.ThinkMax, c.Readers.Clings = 2, 2*time.Millisecond, true
	c.SplitsFirst = pick(rng, 0, 3)
}

// bendToBehind has nodes with watches on them miss so much that what they lack is in no
// log any more, and comes as a snapshot.
func bendToBehind(c *Config, rng *rand.Rand) {
	timeout := c.Ranges.Liveness.ElectionTimeout
	c.Watchers, c.WatchThink = 8, 20*time.Millisecond
	c.CrashEvery, c.StopEvery, c.Swarm.BlackoutEvery = 0, 0, 0
	c.Network.CutEvery, c.Network.CutMax = timeout, 4*timeout
	c.Ranges.LogBytesMax, c.Ranges.LogBehindBytesMax = 256, 300
	c.Moves.Every = 2 * time.Second
	c.OpsMax, c.ThinkMax = 2000, pick(rng, 2*time.Millisecond, 10*time.Millisecond)
}
