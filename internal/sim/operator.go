package sim

import (
	"math/rand/v2"
	"time"

	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/peerpb"
	"github.com/flotilladb/flotilla/router"
)

// OperatorConfig is what an operator does to a cluster that goes on meanwhile. A mean
// time of 0: never.
type OperatorConfig struct {
	// TransferEvery is the mean time between two ranges of which a store is asked to
	// take the lead.
	TransferEvery time.Duration
	// StopEvery is the mean time between two nodes that are stopped, one at a time: the
	// leaders leave, the calls are answered, and later the node is there again.
	StopEvery time.Duration
	// System: the sequencer moves as well.
	System bool
}

// DrawOperator makes the configuration of a seed with several nodes in which nothing
// fails nor takes long, while an operator does what he may: no revision is skipped. With
// four nodes or more he moves replicas too.
func DrawOperator(seed uint64, nodes int) Config {
	draw := drawCluster
	if nodes > 3 {
		draw = drawMoves
	}
	c := calm(draw(seed, nodes))
	c.Moves.JobMax = min(c.Moves.JobMax, time.Millisecond)
	rng := rand.New(rand.NewPCG(seed, 22))
	c.SyncMin, c.SyncMax, c.SyncStall = 50*time.Microsecond, time.Millisecond, 0
	c.Network.DelayMin, c.Network.DelayMax = 20*time.Microsecond, 200*time.Microsecond
	c.Ranges.LockAgeMax, c.Ranges.IntentAgeMax = 2*time.Second, 2*time.Second
	c.OpsMax, c.Duration = 4000, 6*time.Second
	c.Operator = OperatorConfig{
		TransferEvery: pick(rng, 0, 10*time.Millisecond, 100*time.Millisecond, 500*time.Millisecond),
		StopEvery:     pick(rng, 0, time.Second),
		System:        rng.IntN(2) == 0,
	}
	if nodes > 3 {
		c.Operator.StopEvery = 0 // it may have the only replica of a range
	}
	if c.Operator.StopEvery > 0 {
		c.Operator.System = true
	}
	c.Moves.System = c.Moves.System && c.Operator.System
	return c
}

// calm leaves the faults out.
func calm(cfg Config) Config {
	cfg.CrashEvery, cfg.StopEvery, cfg.StallEvery, cfg.FullEvery = 0, 0, 0, 0
	cfg.Network.LossPerMille, cfg.Network.DoublePerMille, cfg.Network.CutEvery = 0, 0, 0
	cfg.Swarm = SwarmConfig{Bytes: cfg.Swarm.Bytes}
	return cfg
}

// planOperator plans the first of each.
func (s *Sim) planOperator() {
	s.every(s.cfg.Operator.TransferEvery, s.askTransfer)
	s.every(s.cfg.Operator.StopEvery, s.stopInOrder)
}

// askTransfer asks some node to have a store lead some range.
func (s *Sim) askTransfer() {
	n, to := s.someNode(), s.someNode().id
	if !n.serving || n.stopping {
		return
	}
	ids := n.core.Store().IDs()
	if len(ids) == 0 {
		return
	}
	d := n.core.Store().Replica(ids[s.faults.IntN(len(ids))]).Descriptor()
	if d.ID() == metapb.SystemRange && !s.cfg.Operator.System {
		return
	}
	call := &router.Call{
		Req:  &router.AddressRequest{Address: d.Start, Body: &peerpb.Transfer{To: to}},
		Done: make(chan struct{}, 1),
	}
	n.tracef("range %d: store %d is to lead", d.RangeId, to)
	n.submit(call, func() {
		n.tracef("range %d: store %d is to lead: %v, %v", d.RangeId, to, call.Resp, call.Err)
		if call.Err == nil {
			s.stats.Asked++
		}
	})
}

// drainTimeout is for how long leaders may leave, as in the node's shell.
const drainTimeout = 10 * time.Second

// stopInOrder stops a node, if all are there.
func (s *Sim) stopInOrder() {
	for _, n := range s.nodes {
		if !n.serving || n.stopping || n.draining != 0 {
			return
		}
	}
	n := s.someNode()
	n.tracef("drain")
	n.draining = s.now
	n.core.Drain(true)
	n.wake()
}

// tickDrain goes on with a node that drains: when all leaders left its API takes nothing
// more, and when all that it took is answered the node is stopped.
func (n *simNode) tickDrain() {
	switch {
	case n.draining == 0 || n.stopping:
	case n.parting && !n.asked():
		n.shutDown()
	case n.parting:
	case n.core.Drained():
		n.s.stats.Drained++
		n.parting = true
	case n.s.now.After(n.draining.Add(drainTimeout)):
		n.parting = true
	}
}
