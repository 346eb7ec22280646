package node

import (
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/flotilladb/flotilla/internal/frame"
	"github.com/flotilladb/flotilla/placement"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/peerpb"
	"github.com/flotilladb/flotilla/range"
	"github.com/flotilladb/flotilla/router"
)

// changes takes what the store has to say about replicas that come and go.
func (c *Core) changes(out *ranges.Output) {
	c.removed, c.went = append(c.removed, out.Removed...), append(c.went, out.Removed...)
	c.halted = append(c.halted, out.Halted...)
	for _, g := range out.Gone {
		f := c.goneTo(g.To)
		f.Gone = append(f.Gone, peerpb.Gone{Range: g.Range, Replica: g.Replica})
	}
	for _, g := range out.Present {
		f := c.goneTo(g.To)
		f.Present = append(f.Present, peerpb.Gone{Range: g.Range, Replica: g.Replica})
	}
	c.askAround(out.Present)
	for i := range out.Installed {
		c.installed(&out.Installed[i])
	}
	for _, w := range out.SnapshotsLost {
		key := snapshotKey{w.Range, w.Replica}
		if s := c.sending[key]; s != nil {
			c.giveUpSending(key, s)
		}
	}
	for _, w := range out.Snapshots {
		c.wantSnapshot(w)
	}
	for _, w := range out.Checks {
		c.wantCheck(checkWant{id: w.Range, call: w.ID})
	}
	c.takeCheckpoints(out.Checkpoints)
	if len(out.Snapshots) > 0 {
		c.beginSnapshots()
	}
}

// goneTo returns a frame of this turn for what may be lost.
func (c *Core) goneTo(to metapb.StoreID) *frame.Frame {
	if n := len(c.out); n > 0 && c.out[n-1].To == to && len(c.out[n-1].Gone)+len(c.out[n-1].Present) > 0 {
		return c.out[n-1]
	}
	f := c.frameTo(to, frame.Raft)
	c.out = append(c.out, f)
	return f
}

// MoveRequest is a Move that somebody asks for by hand. Answered by the descriptor
// that it led to. If this node ends first, what was done is left as it is: asked for
// again, the move goes on from there.
type MoveRequest struct {
	Move placement.Move
}

const (
	// moveMax is how long such a move may take until it is undone, which may take
	// undoMax.
	moveMax = 5 * time.Minute
	undoMax = 30 * time.Second
)

// requestByHand begins what operators ask for. It reports whether req is such.
func (c *Core) requestByHand(id uint64, req any) bool {
	switch q := req.(type) {
	case *MoveRequest:
		c.requestMove(id, q)
	case *TrustRequest:
		c.requestTrust(id, q)
	default:
		return false
	}
	return true
}

// requestMove begins a move.
func (c *Core) requestMove(id uint64, q *MoveRequest) {
	o := &operation{op: placement.Operator{ID: placement.OperatorID{Range: q.Move.Range}, Move: q.Move}, call: id, until: c.now.Add(moveMax)}
	err := peerpb.ErrMoveUnderWay
	if c.operations.at[q.Move.Range] == nil {
		if err = peerpb.ErrRangeNotFound; c.see(o) {
			err = mayMove(o.desc, &q.Move)
		}
	}
	switch {
	case c.stopping:
		err = router.ErrStopping
	case !c.many && err == nil:
		err = peerpb.ErrUnknownStore
	}
	if err != nil {
		c.results = append(c.results, router.Result{ID: id, Err: err})
		return
	}
	c.beginOperation(o)
}

// mayMove says why a move makes no sense. It knows what was last heard of the range;
// its leader looks again.
func mayMove(d *metapb.Descriptor, m *placement.Move) error {
	others := 0 // that vote, and stay
	for _, p := range d.Replicas {
		if (p.Kind == metapb.ReplicaKind_VOTER || p.Kind == metapb.ReplicaKind_INCOMING) && metapb.StoreID(p.StoreId) != m.From {
			others++
		}
	}
	from := m.From != 0 && d.ReplicaOn(m.From) != nil
	to := m.To != 0 && d.ReplicaOn(m.To) != nil
	switch {
	case m.From == 0 && to && d.ReplicaOn(m.To).Kind != metapb.ReplicaKind_LEARNER:
		return peerpb.ErrHasReplica
	case m.From != 0 && !from && !to:
		return peerpb.ErrNoReplica
	case m.To == 0 && others == 0:
		return peerpb.ErrLastReplica
	}
	return nil
}

// endOperation forgets an operation, and answers who asked for it.
func (c *Core) endOperation(o *operation, err error) {
	delete(c.operations.at, o.op.ID.Range)
	if o.call == 0 {
		return
	}
	res := router.Result{ID: o.call, Err: err}
	if err == nil {
		res.Resp = o.desc
	}
	c.results = append(c.results, res)
}

// lateOperation ends an operation that took too long. What was asked for by hand is
// undone first.
func (c *Core) lateOperation(o *operation) {
	switch {
	case o.call == 0:
		c.endOperation(o, nil)
	case o.undo:
		c.endOperation(o, peerpb.ErrMoveStalled)
	default:
		o.undo, o.until = true, c.now.Add(undoMax)
	}
}

// hopeless reports whether a refusal of a step is the end of what somebody asked for.
func (o *operation) hopeless(err error) bool {
	return o.call != 0 && (errors.Is(err, peerpb.ErrLastReplica) || errors.Is(err, peerpb.ErrNoMajority))
}

// stopMoves tells who asked for moves that this node goes on with none.
func (c *Core) stopMoves() {
	for _, id := range slices.Sorted(maps.Keys(c.operations.at)) {
		if o := c.operations.at[id]; o.call != 0 {
			c.endOperation(o, router.ErrStopping)
		}
	}
}
