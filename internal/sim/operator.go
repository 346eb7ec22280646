package sim

import (
	"fmt"
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
	// RemoveEvery is the mean time between two members that are removed, where there is a
	// planner: its clients go elsewhere, then the cluster is told. One goes at a time, and
	// three stay.
	RemoveEvery time.Duration
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
	c := brisk(draw(seed, nodes))
	rng := rand.New(rand.NewPCG(seed, 22))
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

// DrawOperatorPlanner is the same with the nodes' own planner, while stores join, nodes are
// stopped, and members are removed.
func DrawOperatorPlanner(seed uint64, nodes int) Config {
	c := brisk(DrawPlanner(seed, nodes))
	rng := rand.New(rand.NewPCG(seed, 23))
	c.OpsMax, c.Duration = 4000, pick(rng, 6*time.Second, 12*time.Second)
	c.ThinkMax = pick(rng, 5*time.Millisecond, 20*time.Millisecond, 100*time.Millisecond)
	// One store alone becomes one of several in another way, which is no operator's.
	c.Planner.First = min(nodes, pick(rng, 3, 3, 4))
	c.Planner.JoinEvery = pick(rng, 100*time.Millisecond, 300*time.Millisecond, time.Second)
	c.Planner.TroubleEvery = 0
	c.Operator = OperatorConfig{
		TransferEvery: pick(rng, 0, 10*time.Millisecond, 100*time.Millisecond, 500*time.Millisecond),
		StopEvery:     pick(rng, 0, 500*time.Millisecond, 2*time.Second),
		RemoveEvery:   pick(rng, 0, 500*time.Millisecond, time.Second, 2*time.Second),
		System:        true, // the planner moves it anyway
	}
	return c
}

// brisk leaves out the faults, and whatever takes long.
func brisk(c Config) Config {
	c = calm(c)
	c.Moves.JobMax = min(c.Moves.JobMax, time.Millisecond)
	c.SyncMin, c.SyncMax, c.SyncStall = 50*time.Microsecond, time.Millisecond, 0
	c.Network.DelayMin, c.Network.DelayMax = 20*time.Microsecond, 200*time.Microsecond
	c.Ranges.LockAgeMax, c.Ranges.IntentAgeMax = 2*time.Second, 2*time.Second
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
	s.every(s.cfg.Operator.RemoveEvery, s.removeInOrder)
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

// stopInOrder stops a node, if all are there. One that was removed would not come back.
func (s *Sim) stopInOrder() {
	for _, n := range s.nodes {
		if !n.away() && (!n.serving || n.stopping || n.draining != 0) {
			return
		}
	}
	n := s.someNode()
	if n.away() || n.leaving {
		return
	}
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

// removeInOrder removes a member, if none is about to go and three stay.
func (s *Sim) removeInOrder() {
	stay := 0
	for _, n := range s.nodes {
		switch {
		case n.away():
		case n.leaving || !n.told:
			return
		default:
			stay++
		}
	}
	if n := s.someNode(); stay > factor && !n.away() && n.serving && n.draining == 0 {
		n.tracef("is to be removed")
		s.places.events++
		s.stats.Leaves++
		n.leaving, n.shunned = true, true
		s.removeShunned(n)
	}
}

// removeShunned removes a member when no client asks it any more.
func (s *Sim) removeShunned(n *simNode) {
	if n.asked() {
		s.after(tickEvery, func() { s.removeShunned(n) })
		return
	}
	s.leave(n)
}

// quit ends a node that is no member any more. It has nothing that anybody needs, so that
// is no crash.
func (n *simNode) quit() {
	if n.asked() {
		n.s.fail(fmt.Errorf("node %d, which was removed, ends while a client waits for it", n.id))
	}
	n.s.stats.Left++
	n.down()
}
