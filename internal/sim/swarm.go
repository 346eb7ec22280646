package sim

import (
	"math/rand/v2"
	"time"

	"github.com/flotilladb/flotilla/internal/clock"
	"github.com/flotilladb/flotilla/proto/metapb"
)

// SwarmConfig is what goes wrong with whole nodes and between them. Each seed draws
// what of it is on. A mean time of 0: never.
type SwarmConfig struct {
	// FreezeEvery is the mean time between two stops of a whole process, clients of
	// its readers and all, while its clock goes on; each lasts up to FreezeMax.
	FreezeEvery, FreezeMax time.Duration
	// SlowEvery is the mean time between two disks that take up to SlowMax for a
	// sync.
	SlowEvery, SlowMax time.Duration
	// TransferEvery is the mean time between two leaderships that are handed over.
	TransferEvery time.Duration
	// BlackoutEvery is the mean time between two crashes of all nodes at once.
	BlackoutEvery time.Duration
	// Drift bounds how much faster or slower than true time a node's clock runs.
	// Each start of a node has a clock of its own, and its own zero.
	Drift float64
	// Bytes has frames pass the codec.
	Bytes bool
}

// driftMax keeps two clocks within the default MaxClockDrift of each other.
const driftMax = 0.024

// drawCluster makes the configuration of a seed with several nodes.
func drawCluster(seed uint64, nodes int) Config {
	c := Draw(seed)
	rng := rand.New(rand.NewPCG(seed, 9))
	c.Nodes = nodes
	delay := pick(rng, 50*time.Microsecond, 500*time.Microsecond, 5*time.Millisecond)
	c.Network = NetworkConfig{
		DelayMin: delay / 4, DelayMax: delay * 2,
		LossPerMille: pick(rng, 0, 0, 5, 50), DoublePerMille: pick(rng, 0, 0, 5, 50),
	}
	c.Duration += 3 * time.Second // until there are leaders
	c.Ranges.Liveness.ElectionTimeout = pick(rng, 300*time.Millisecond, time.Second)
	c.Ranges.Seed = seed
	// Locks and intents of a transaction live for some round trips and syncs at
	// least: else none over several ranges ever ends.
	trip := 2*c.Network.DelayMax + c.SyncMax
	c.Ranges.LockAgeMax = max(c.Ranges.LockAgeMax, 30*trip)
	c.Ranges.IntentAgeMax = max(c.Ranges.IntentAgeMax, 8*trip)
	drawSwarm(&c, rand.New(rand.NewPCG(seed, 10)))
	small := rand.New(rand.NewPCG(seed, 12))
	// Not below: with TicksMax of 1 what was lost is repaired too late for locks to live.
	c.Ranges.StepReplicasMax, c.Ranges.TicksMax, c.Ranges.StandsMax = pick(small, 0, 4, 16), pick(small, 0, 8, 16), pick(small, 0, 2)
	return c
}

// drawSwarm draws what else goes wrong, from numbers of its own: half of it is off.
func drawSwarm(c *Config, rng *rand.Rand) {
	on := func(d time.Duration) time.Duration {
		if rng.IntN(2) == 0 {
			return 0
		}
		return d
	}
	timeout := c.Ranges.Liveness.ElectionTimeout
	upTo := func() time.Duration { return pick(rng, timeout/5, timeout, 3*timeout) }
	c.Network.CutEvery, c.Network.CutMax = on(between(rng, 100*time.Millisecond, 3*time.Second)), upTo()
	w := &c.Swarm
	w.FreezeEvery, w.FreezeMax = on(between(rng, 200*time.Millisecond, 3*time.Second)), upTo()
	w.SlowEvery, w.SlowMax = on(between(rng, 200*time.Millisecond, 3*time.Second)), upTo()
	w.TransferEvery = on(between(rng, 20*time.Millisecond, 500*time.Millisecond))
	w.BlackoutEvery = on(between(rng, time.Second, 8*time.Second))
	w.Drift = pick(rng, 0, 0.001, driftMax, driftMax)
	w.Bytes = rng.IntN(2) == 0
}

// planSwarm plans the first of each.
func (s *Sim) planSwarm() {
	w := &s.cfg.Swarm
	s.every(s.cfg.Network.CutEvery, s.net.cutSome)
	s.every(w.FreezeEvery, func() {
		n, d := s.someNode(), between(s.faults, 0, w.FreezeMax)
		n.tracef("stands still for %v", d)
		s.stats.Freezes++
		n.frozenUntil = max(n.frozenUntil, s.now.Add(d))
	})
	s.every(w.SlowEvery, func() {
		n, d := s.someNode(), between(s.faults, 0, w.SlowMax)
		n.tracef("syncs take %v", d)
		n.syncEnd = max(n.syncEnd, s.now.Add(d))
	})
	s.every(w.TransferEvery, s.transfer)
	s.planMoves()
	s.planPlaces()
	s.every(w.BlackoutEvery, func() {
		s.tracef("all nodes crash")
		for _, n := range s.nodes {
			if n.up {
				n.crash()
			}
		}
	})
}

// heal ends what goes wrong: the run is to become quiet.
func (s *Sim) heal() {
	s.net.heal()
	for _, n := range s.nodes {
		n.frozenUntil = min(n.frozenUntil, s.now)
	}
}

// transfer has some leadership handed over, if somebody has one.
func (s *Sim) transfer() {
	n := s.someNode()
	if !n.serving || s.now < n.frozenUntil {
		return
	}
	var led []metapb.RangeID
	for _, id := range n.core.Store().IDs() {
		if n.core.Store().Replica(id).Leads() {
			led = append(led, id)
		}
	}
	if len(led) == 0 {
		return
	}
	id := led[s.faults.IntN(len(led))]
	to := s.someNode().id
	if err := n.core.Store().Transfer(id, to); err != nil {
		return
	}
	n.tracef("range %d is to be led by store %d", id, to)
	s.stats.Transfers++
	n.wake()
}

// startClock gives the node the clock of a machine that starts.
func (n *simNode) startClock() {
	n.clockFrom, n.clockBase, n.clockRate = n.s.now, n.s.now, 1
	if d := n.s.cfg.Swarm.Drift; d > 0 {
		n.clockBase = start.Add(between(n.s.faults, 0, time.Hour))
		n.clockRate = 1 + d*(2*n.s.faults.Float64()-1)
	}
}

// clock is the time as the node sees it.
func (n *simNode) clock() clock.Time {
	return n.clockBase + clock.Time(float64(n.s.now-n.clockFrom)*n.clockRate)
}
