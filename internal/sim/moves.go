package sim

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/flotilladb/flotilla/internal/node"
	"github.com/flotilladb/flotilla/placement"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/router"
)

// MovesConfig is how replicas move.
type MovesConfig struct {
	// Every is the mean time between two moves; 0: never.
	Every time.Duration
	// System: the system range moves as well.
	System bool
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
				n.tracef("a snapshot of %v is there", j.Span())
				n.s.stats.Snapshots++
				n.counts.Forget(j.Span())
			}
			n.s.after(n.jobTime(), n.planned(func() {
				n.jobs = append(n.jobs, j)
				n.wake()
			}))
		}))
	}
	for _, id := range rd.Removed {
		n.tracef("range %d is here no more", id)
	}
	if len(rd.Lost) > 0 {
		n.removeAgain = true
		n.startRemoval()
	}
}

// jobTime draws how long half of the work on a piece takes. When the run is to become
// quiet many small pieces must not take longer than that may.
func (n *simNode) jobTime() time.Duration {
	most := n.s.cfg.Moves.JobMax
	if n.s.ending {
		most = min(most, time.Millisecond)
	}
	return between(n.s.disk, 0, most)
}

// takeJobs hands what was run to the core.
func (n *simNode) takeJobs() {
	for _, j := range n.jobs {
		if err := n.core.SnapshotDone(j); err != nil {
			n.s.fail(err)
		}
	}
	n.jobs = n.jobs[:0]
}

// drawMoves makes the configuration of a seed in which replicas come and go.
func drawMoves(seed uint64, nodes int) Config {
	c := drawCluster(seed, nodes)
	rng := rand.New(rand.NewPCG(seed, 11))
	c.Moves = MovesConfig{
		Every:      pick(rng, 50*time.Millisecond, 300*time.Millisecond, time.Second),
		ChunkBytes: pick(rng, 100, 500, 5000, 0),
		JobMax:     pick(rng, 100*time.Microsecond, 5*time.Millisecond, 100*time.Millisecond),
	}
	c.Hub.FeedBytesMax = pick(rand.New(rand.NewPCG(seed, 13)), 1, 500, 5000, 4<<20)
	c.Ranges.LogBytesMax = pick[uint64](rng, 256, 2048, 16<<10)
	c.Ranges.LogBehindBytesMax = pick[uint64](rng, 300, 3000, 30_000)
	c.Moves.System = rng.IntN(2) == 0
	return c
}

// missing says which range has no replica on the node.
func (n *simNode) missing() string {
	for id := range n.s.hist.generations { // any order: one is enough
		if n.core.Store().Replica(id) == nil {
			return "a range has no replica here yet"
		}
	}
	return ""
}

// planMoves has replicas move, and when the run is to become quiet, come back to
// every store: what is checked then is checked on all.
func (s *Sim) planMoves() {
	s.every(s.cfg.Moves.Every, s.move)
	if s.cfg.Moves.Every > 0 {
		s.after(restoreEvery, s.restore)
	}
}

const restoreEvery = 300 * time.Millisecond

// move asks a node to move a replica, where to whatever.
func (s *Sim) move() {
	n := s.someNode()
	if !n.serving || n.stopping {
		return
	}
	ids := n.core.Store().IDs()
	if len(ids) == 0 {
		return
	}
	id := ids[s.faults.IntN(len(ids))]
	m := placement.Move{Range: id, From: s.someNode().id, To: s.someNode().id}
	switch s.faults.IntN(4) {
	case 0:
		m.From = 0
	case 1:
		m.To = 0
	}
	if id == metapb.SystemRange && !s.cfg.Moves.System || m.From == m.To || m.To == 0 && len(n.core.Store().Replica(id).Descriptor().Replicas) < 3 {
		return
	}
	s.askMove(n, m)
}

func (s *Sim) askMove(n *simNode, m placement.Move) {
	m.ToNode = metapb.NodeID(m.To)
	n.tracef("range %d: move from %d to %d", m.Range, m.From, m.To)
	call := &router.Call{Req: &node.MoveRequest{Move: m}, Done: make(chan struct{}, 1)}
	n.submit(call, func() {
		n.tracef("range %d: move from %d to %d: %v, %v", m.Range, m.From, m.To, call.Resp, call.Err)
		if call.Err == nil {
			s.stats.Moves++
		}
	})
}

// restore brings replicas back when the run is over.
func (s *Sim) restore() {
	s.after(restoreEvery, s.restore)
	if !s.ending {
		return
	}
	for _, n := range s.nodes {
		if !n.serving || n.stopping {
			continue
		}
		for _, id := range n.core.Store().IDs() {
			r := n.core.Store().Replica(id)
			if !r.Leads() {
				continue
			}
			for _, other := range s.nodes {
				p := r.Descriptor().ReplicaOn(other.id)
				if !other.away() && (p == nil || p.Kind == metapb.ReplicaKind_LEARNER) {
					s.askMove(n, placement.Move{Range: id, To: other.id})
				}
			}
		}
	}
}
