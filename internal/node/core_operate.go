package node

import (
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/flotilladb/flotilla/internal/clock"
	"github.com/flotilladb/flotilla/placement"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/peerpb"
	"github.com/flotilladb/flotilla/router"
)

// operations are the planner's operators at work, one for a range. Each looks at the
// range's descriptor, asks its leader for the next step, and looks again.
type operations struct {
	at    map[metapb.RangeID]*operation
	asked map[uint64]*operation // by the id of our request; it may be over
}

type operation struct {
	op    placement.Operator
	desc  *metapb.Descriptor // the newest seen
	asked bool               // a step is under way
	// call is who asked for it by hand, 0: the planner; undo: it is taken back.
	call  uint64
	undo  bool
	tryAt clock.Time
	until clock.Time
	tries int
}

const (
	// operateMax is how long an operator may take; then the planner looks anew.
	operateMax = 10 * time.Minute
	// handOverMax is the same of a transfer.
	handOverMax = 10 * time.Second
	// operatePause is when a step is asked for again that was refused, or is waited
	// for. It doubles up to operatePauseMax.
	operatePause    = 50 * time.Millisecond
	operatePauseMax = time.Second
)

// operate begins an operator.
func (c *Core) operate(op placement.Operator) {
	o := &operation{op: op, until: c.now.Add(operateMax)}
	if op.TransferTo != 0 {
		o.until = c.now.Add(handOverMax)
	}
	if c.operations.at[op.ID.Range] == nil && c.see(o) {
		c.beginOperation(o)
	}
}

func (c *Core) beginOperation(o *operation) {
	if c.operations.at == nil {
		c.operations.at, c.operations.asked = make(map[metapb.RangeID]*operation), make(map[uint64]*operation)
	}
	c.operations.at[o.op.ID.Range] = o
	o.op.Move.Bind(o.desc)
	c.stepOperation(o)
}

// see takes the newest descriptor that is known of an operation's range. It reports
// whether there is one.
func (c *Core) see(o *operation) bool {
	newest := func(d *metapb.Descriptor) {
		if d != nil && (o.desc == nil || d.Generation > o.desc.Generation) {
			o.desc = d
		}
	}
	id := o.op.ID.Range
	if r := c.store.Replica(id); r != nil {
		newest(r.Descriptor())
	}
	if o.desc != nil && id != metapb.SystemRange {
		newest(c.router.Newer(o.desc)) // a range begins where it always did
	} else {
		newest(c.router.Find(id)) // looks at all
	}
	return o.desc != nil
}

// tickOperations goes on with what has waited.
func (c *Core) tickOperations() {
	for _, id := range slices.Sorted(maps.Keys(c.operations.at)) {
		o := c.operations.at[id]
		switch {
		case c.seq == nil && o.call == 0:
			c.endOperation(o, nil)
		case !c.now.Before(o.until):
			c.lateOperation(o)
		case !o.asked && !c.now.Before(o.tryAt):
			c.see(o)
			c.stepOperation(o)
		}
	}
}

// stepOperation asks for an operator's next step, or ends it.
func (c *Core) stepOperation(o *operation) {
	id := o.op.ID.Range
	hint, _ := c.leaderOf(id)
	if to := o.op.TransferTo; to != 0 {
		if hint.store == to || o.tries > 0 {
			delete(c.operations.at, id)
			return
		}
		c.askOperation(o, &peerpb.Transfer{To: to})
		return
	}
	next := o.op.Move.Next(o.desc, hint.store)
	if o.undo {
		next = o.op.Move.Undo(o.desc)
	}
	switch {
	case errors.Is(mayMove(o.desc, &o.op.Move), peerpb.ErrLastReplica):
		c.endOperation(o, peerpb.ErrLastReplica) // the others went meanwhile
	case next.Done && o.undo:
		c.endOperation(o, peerpb.ErrMoveStalled)
	case next.Done:
		c.endOperation(o, nil)
	case next.Change != nil:
		c.askOperation(o, next.Change)
	case next.HandOver:
		c.askOperation(o, &peerpb.Transfer{})
	case o.tries > 0 && c.store.Replica(id) == nil:
		// The range goes on by itself, and nobody tells this node of it. Who is asked for
		// the end of what has ended says what the range is now.
		c.askOperation(o, &peerpb.ChangeReplicas{Leave: true})
	default:
		c.pauseOperation(o)
	}
}

// askOperation asks the range's leader, who refuses what the range is not ready for. A
// replica that goes is one of the range as it is seen here: by the time that the leader is
// asked, a learner may be a voter that the range needs.
func (c *Core) askOperation(o *operation, body peerpb.Body) {
	c.internal++
	id := internalBit | c.internal
	o.asked = true
	c.operations.asked[id] = o
	c.router.Descriptors([]*metapb.Descriptor{o.desc})
	req := &router.AddressRequest{Address: o.desc.Start, Body: body}
	if change, ok := body.(*peerpb.ChangeReplicas); ok && len(change.Remove) > 0 {
		req.Decided = o.desc
	}
	c.router.RequestOwn(id, req, c.now)
}

func (c *Core) pauseOperation(o *operation) {
	pause := operatePause << min(o.tries, 10)
	o.tries++
	o.tryAt = c.now.Add(min(pause, operatePauseMax))
}

// operated takes the answer to a step. It reports whether the request was one.
func (c *Core) operated(reqID uint64, body any, err error) bool {
	o, ok := c.operations.asked[reqID]
	if !ok {
		return false
	}
	delete(c.operations.asked, reqID)
	id := o.op.ID.Range
	if c.operations.at[id] != o {
		return true
	}
	o.asked = false
	if t, ok := body.(*peerpb.Transferred); ok {
		c.ledBy(id, t.Leader)
		// Another move of the range may be waiting for this very moment to hand over again:
		// were both to pause now, they could go on like that for ever.
		if o.op.TransferTo == 0 && !o.undo && o.op.Move.Next(o.desc, t.Leader).Change != nil {
			c.stepOperation(o)
			return true
		}
	}
	done, ok := body.(*peerpb.ReplicasChanged)
	if o.hopeless(err) {
		c.endOperation(o, err)
		return true
	}
	if err != nil || !ok {
		c.pauseOperation(o)
		return true
	}
	o.tries = 0
	o.desc = done.Descriptor
	c.router.Descriptors([]*metapb.Descriptor{done.Descriptor})
	c.stepOperation(o)
	return true
}
