package node

import (
	"cmp"
	"maps"
	"slices"

	"github.com/flotilladb/flotilla/internal/frame"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/peerpb"
	"github.com/flotilladb/flotilla/range"
)

// In a cluster of several stores a node reads its own replicas, and so has to know
// how far each is closed. Its leader is asked when somebody wants to know; what it
// says counts when this replica has applied as much as that.

// closings is how far the ranges of this store are closed.
type closings struct {
	closing map[metapb.RangeID]*closing
	// wanting have a want that is not asked for, each once; retry could not be
	// asked, or were not answered; counting have an answer that is not applied.
	wanting, retry, counting []metapb.RangeID
	// touched have got on since Touched.
	touched []metapb.RangeID
	// went had a replica here, whose closing is forgotten when nothing is under way for it.
	went []metapb.RangeID
	// questions are those to replicas of this store that are under way.
	questions places[question]
	// advanced: there are reads to be looked at.
	advanced bool
}

// closing is how far one range is closed.
type closing struct {
	// closed: every write at or below it can be read here, or will never be.
	// Invariant: grows, while a replica is here.
	closed metapb.Revision
	want   metapb.Revision
	// asked is the revision of the question under way, 0: none; store is who was
	// asked.
	asked metapb.Revision
	store metapb.StoreID
	// told is what counts when index is applied.
	told     metapb.Revision
	index    uint64
	wanting  bool
	counting bool
	touched  bool
}

// question is who asked a replica of this store.
type question struct {
	store metapb.StoreID
	start uint64
	id    metapb.RangeID
	s     metapb.Revision
}

func (c *Core) closingOf(id metapb.RangeID) *closing {
	cl := c.closing[id]
	if cl == nil {
		cl = &closing{}
		c.closing[id] = cl
	}
	return cl
}

// Want asks that a range be closed at a revision that was given out. The answer
// shows in Bound.
func (c *Core) Want(id metapb.RangeID, s metapb.Revision) {
	cl := c.closingOf(id)
	if !c.many || s <= cl.want {
		return
	}
	cl.want = s
	c.sawCurrent(s)
	c.wantLater(id, cl)
}

// wantAll wants all ranges of the store closed.
func (c *Core) wantAll(s metapb.Revision) {
	for _, id := range c.store.IDs() {
		c.Want(id, s)
	}
}

func (c *Core) wantLater(id metapb.RangeID, cl *closing) {
	if !cl.wanting && cl.asked == 0 && cl.want > max(cl.closed, cl.told) {
		cl.wanting = true
		c.wanting = append(c.wanting, id)
	}
}

// flushClosings asks the leaders of the ranges of which somebody wants to know. It
// reports whether it asked a replica of this store.
func (c *Core) flushClosings() (here bool) {
	if len(c.wanting) == 0 {
		return false
	}
	all := c.wanting
	c.wanting = nil
	for _, id := range all {
		cl := c.closing[id]
		cl.wanting = false
		if cl.want <= max(cl.closed, cl.told) || cl.asked != 0 || c.store.Replica(id) == nil {
			continue // it has no replica here: nobody can read it
		}
		hint, ok := c.leaderOf(id)
		l := c.links[hint.store]
		switch {
		case hint.store == c.cfg.StoreID:
			cl.asked, cl.store = cl.want, hint.store
			c.askReplica(question{store: hint.store, id: id, s: cl.want}, c.asker.Epoch())
			here = true
		case ok && l != nil && l.ready():
			cl.asked, cl.store = cl.want, hint.store
			l.next.Closings = append(l.next.Closings, frame.Closing{Range: id, S: cl.want, Epoch: c.asker.Epoch()})
		default:
			c.retry = append(c.retry, id)
		}
	}
	return here
}

// askReplica asks a replica of this store.
func (c *Core) askReplica(q question, epoch uint64) {
	r := c.store.Replica(q.id)
	if r == nil {
		c.closingAnswer(q, frame.Closed{Range: q.id, S: q.s, Err: peerpb.ErrRangeNotFound})
		return
	}
	i := c.questions.put(q)
	c.store.Request(&peerpb.Request{
		ID: closingBit | uint64(i), Range: q.id, Generation: r.Descriptor().Generation,
		Body: &peerpb.Close{S: q.s, Epoch: epoch},
	})
}

// closingReplied takes what a replica of this store says.
func (c *Core) closingReplied(rep peerpb.Reply) {
	q := c.questions.take(uint32(rep.ID))
	out := frame.Closed{Range: q.id, S: q.s, Err: rep.Err}
	if done, ok := rep.Body.(*peerpb.Closed); ok && rep.Err == nil {
		out.Index = done.Index
	}
	c.closingAnswer(q, out)
}

func (c *Core) closingAnswer(q question, out frame.Closed) {
	if q.store == c.cfg.StoreID {
		c.toldClosed(q.store, &out)
		return
	}
	if l := c.links[q.store]; l != nil && l.peerStart == q.start {
		l.next.Closed = append(l.next.Closed, out)
	}
}

// serveClosing takes another store's question.
func (c *Core) serveClosing(l *link, q frame.Closing) {
	c.asker.Saw(q.Epoch)
	c.askReplica(question{l.peer, l.peerStart, q.Range, q.S}, q.Epoch)
}

// toldClosed takes the answer to a question.
func (c *Core) toldClosed(from metapb.StoreID, a *frame.Closed) {
	cl := c.closing[a.Range]
	if cl == nil || cl.asked != a.S || cl.store != from {
		return
	}
	cl.asked = 0
	if a.Err != nil {
		c.heardLeader(a.Err)
		c.retry = append(c.retry, a.Range)
		return
	}
	// Both grow: the leader, whoever it is, counts what was said before as well.
	cl.told, cl.index = max(cl.told, a.S), max(cl.index, a.Index)
	c.count(a.Range, cl)
	if !cl.counting && cl.told > cl.closed {
		cl.counting = true
		c.counting = append(c.counting, a.Range)
	}
	c.wantLater(a.Range, cl)
}

// count lets an answer count that is applied. It reports whether none is left.
func (c *Core) count(id metapb.RangeID, cl *closing) bool {
	if cl.told <= cl.closed {
		return true
	}
	if r := c.store.Replica(id); r == nil || r.Applied() < cl.index {
		return false
	}
	cl.closed = cl.told
	c.unpark(id, func(rd *read) bool { return rd.rev <= cl.closed })
	c.touchClosing(id, cl)
	return true
}

func (c *Core) touchClosing(id metapb.RangeID, cl *closing) {
	if !cl.touched {
		cl.touched = true
		c.touched = append(c.touched, id)
	}
}

// countClosings lets the answers count that are applied by now.
func (c *Core) countClosings() {
	c.counting = slices.DeleteFunc(c.counting, func(id metapb.RangeID) bool {
		cl := c.closing[id]
		if !c.count(id, cl) && c.store.Replica(id) != nil {
			return false
		}
		cl.counting = false
		return true
	})
}

// retryClosings asks again who could not be asked, or did not know.
func (c *Core) retryClosings() {
	again := c.retry
	c.retry = nil
	for _, id := range again {
		c.wantLater(id, c.closing[id])
	}
}

// dropClosings forgets how far ranges are closed whose replica went. One that comes back
// meanwhile keeps what it had; one that comes later is a new one, with nothing of before. It
// is called when nobody is to be asked again.
func (c *Core) dropClosings() {
	c.went = slices.DeleteFunc(c.went, func(id metapb.RangeID) bool {
		cl := c.closing[id]
		if cl == nil || c.store.Replica(id) != nil {
			return true
		}
		if cl.asked != 0 || cl.wanting || cl.counting || cl.touched {
			return false // what is under way looks for it
		}
		delete(c.closing, id)
		return true
	})
}

// closingsLost says that questions to a store may be lost, or their answers.
func (c *Core) closingsLost(store metapb.StoreID) {
	for _, id := range slices.Sorted(maps.Keys(c.closing)) { // the replica may be on its way
		if cl := c.closing[id]; cl.asked != 0 && cl.store == store {
			cl.asked = 0
			c.wantLater(id, cl)
		}
	}
}

// bornClosing has a new range begin where the one is that it was cut off from. That
// need not be its neighbour: where the replica was behind it was cut several times
// at once. One that no split made here has nothing of before.
func (c *Core) bornClosing(d *metapb.Descriptor) {
	if cl := c.closing[d.ID()]; cl != nil {
		cl.want = max(cl.want, c.compacted) // nobody wanted that while there was no replica here
		// What was asked while there was no replica here counts again.
		if cl.told > cl.closed && !cl.counting {
			cl.counting = true
			c.counting = append(c.counting, d.ID())
		}
		c.wantLater(d.ID(), cl)
		return
	}
	cl := c.closingOf(d.ID())
	cl.want = max(c.compacted, 0)
	if r := c.store.Replica(d.ID()); r != nil {
		if from := c.closing[r.BornOf()]; from != nil {
			// What counts for the left side alone does not show in closed before the
			// split is applied here, and then it begins behind it.
			cl.closed, cl.want = from.closed, max(from.want, cl.want)
		}
	}
	c.wantLater(d.ID(), cl)
}

// Bound is the lowest revision whose write may be missing from a range of this
// store, for whoever reads there.
func (c *Core) Bound(r *ranges.Replica) metapb.Revision {
	switch {
	case c.many:
		return c.closingOf(r.Descriptor().ID()).closed + 1
	case r.Leads():
		return r.Bound()
	}
	return 0
}

// Touched calls fn for every replica whose Bound may have changed since the last
// call.
func (c *Core) Touched(fn func(*ranges.Replica)) {
	if !c.many {
		c.store.Touched(fn)
		return
	}
	c.store.Touched(func(*ranges.Replica) {})
	for _, id := range c.touched {
		c.closing[id].touched = false
		if r := c.store.Replica(id); r != nil {
			fn(r)
		}
	}
	c.touched = c.touched[:0]
}

// notClosed returns a range over a span that has a replica here and is not closed at a
// revision, 0 if there is none; all that are not are asked to. Those without a replica in
// service are read elsewhere, and closed then: what one out of service lacks may never come.
func (c *Core) notClosed(span metapb.Span, s metapb.Revision) (lacks metapb.RangeID) {
	c.store.Within(span, func(r *ranges.Replica) {
		id := r.Descriptor().ID()
		if c.store.Shown(id) && c.closingOf(id).closed < s {
			lacks = cmp.Or(lacks, id)
			c.Want(id, s)
		}
	})
	return lacks
}
