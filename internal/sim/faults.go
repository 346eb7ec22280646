package sim

import (
	"time"

	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/internal/model"
	"github.com/flotilladb/flotilla/proto/peerpb"
	"github.com/flotilladb/flotilla/router"
)

// planFaults plans the first of each kind of fault.
func (s *Sim) planFaults() {
	for range s.cfg.SplitsFirst {
		s.after(between(s.faults, 0, 20*time.Millisecond), s.split)
	}
	s.every(s.cfg.SplitEvery, s.split)
	s.every(s.cfg.CrashEvery, s.crash)
	s.every(s.cfg.StopEvery, func() { s.someNode().shutDown() })
	s.every(s.cfg.StallEvery, func() {
		d := between(s.faults, 0, 400*time.Millisecond)
		s.tracef("stall for %v", d)
		s.someNode().stalledUntil = s.now.Add(d)
	})
	s.planSwarm()
	s.planReaders()
	s.planOperator()
	if s.cfg.GrowAfter > 0 {
		s.after(s.cfg.GrowAfter, s.grow)
	}
	s.every(s.cfg.FullEvery, func() {
		n := s.someNode()
		n.setFull(true)
		s.after(between(s.faults, 0, 300*time.Millisecond), func() { n.setFull(false) })
	})
}

// every lets a fault happen again and again, until the run ends.
func (s *Sim) every(mean time.Duration, fault func()) {
	if mean == 0 {
		return
	}
	s.after(between(s.faults, 0, 2*mean), func() {
		if s.ending {
			return
		}
		fault()
		s.every(mean, fault)
	})
}

// someNode draws who is hit.
func (s *Sim) someNode() *simNode {
	if len(s.nodes) == 1 {
		return s.nodes[0]
	}
	return s.nodes[s.faults.IntN(len(s.nodes))]
}

// crash dooms the node: it dies in the middle of what it does next, or idle.
func (s *Sim) crash() {
	n := s.someNode()
	if !n.up {
		return
	}
	n.doomed = true
	life := n.life
	s.after(between(s.faults, 0, 20*time.Millisecond), func() {
		if n.up && n.life == life {
			n.crash()
		}
	})
}

// split cuts a range somewhere.
func (s *Sim) split() {
	n := s.someNode()
	if !n.serving {
		return
	}
	key := s.gen.SplitKey(s.faults)
	req := &router.SplitRequest{Key: key}
	if s.cfg.Traffic.LeasePercent > 0 && s.faults.IntN(3) == 0 {
		ids := model.LeaseIDs()
		key = keys.Lease(ids[s.faults.IntN(len(ids))])
		req = &router.SplitRequest{Address: key}
	}
	call := &router.Call{Req: req, Done: make(chan struct{}, 1)}
	s.tracef("split at %q", key)
	n.submit(call, func() {
		if done, ok := call.Resp.(*peerpb.SplitDone); ok && done.Split {
			s.stats.Splits++
			s.tracef("split at %q done: ranges %d and %d", key, done.Left.RangeId, done.Right.RangeId)
		} else {
			s.tracef("split at %q: %v, %v", key, call.Resp, call.Err)
		}
	})
}

// growEvery is how often a node that is to have others beside it is asked to
// until it says that it may.
const growEvery = 5 * time.Millisecond

// grow has the cluster's one store begin to work as one of several.
func (s *Sim) grow() {
	n := s.nodes[0]
	switch {
	case s.ending && s.cfg.Planner.First == 0:
	case n.serving && !n.core.Direct():
		s.tracef("the cluster has several stores")
		s.stats.Grown++
	default:
		s.grown = true // it may be in the log already
		if n.serving && n.s.now >= n.stalledUntil {
			n.core.EndOneStore()
			n.wake()
		}
		s.after(growEvery, s.grow)
	}
}
