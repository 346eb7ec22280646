package ranges

import (
	"math"

	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/proto/cmdpb"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/peerpb"
)

// closing is a question whether the range is closed at S that cannot be
// answered yet.
type closing struct {
	id    uint64
	s     Revision
	spans []metapb.Span
	// batch is the last batch with a change at or below S on the spans; it must
	// be advanced first.
	batch uint64
	// lock is the token of the last lock that was taken before the question came.
	lock uint64
	// read, if set, is what is answered when the range is closed.
	read *peerpb.Request
}

// close answers whether no write at or below S can still come on the spans, now
// or when that has become true.
//
// What could still come: a batch that waits for its grant (its revisions may
// have been issued before S was read), a batch proposed and not applied, and a
// cross-range transaction. What waits in the queue gets revisions above S.
func (r *Replica) close(id uint64, body *peerpb.Close) { r.closeFor(id, body, nil) }

// closeFor is close for a request that is answered then, nil: by Closed.
func (r *Replica) closeFor(id uint64, body *peerpb.Close, read *peerpb.Request) {
	r.store.epoch = max(r.store.epoch, body.Epoch)
	c := closing{id: id, s: body.S, spans: body.Spans, lock: r.locks.nextToken, read: read}
	for _, b := range r.inflight {
		if b.touches(c.s, c.spans) {
			c.batch = b.number
		}
	}
	if r.asked != nil && r.asked.changes > 0 {
		c.batch = r.asked.number
	}
	r.closes = append(r.closes, c)
	r.checkCloses()
}

// checkCloses answers the questions that can be answered by now.
func (r *Replica) checkCloses() {
	if len(r.closes) == 0 {
		return
	}
	waiting := r.closes[:0]
	for _, c := range r.closes {
		switch {
		case c.batch > r.advanced && r.hasBatch(c.batch), !r.locksLetClose(&c):
			waiting = append(waiting, c)
		case !r.holdsLease():
			r.store.reply(c.id, nil, peerpb.ErrNotLeader)
		default:
			r.called = max(r.called, c.s)
			if c.read != nil {
				r.answerClosed(c.read)
				continue
			}
			r.store.reply(c.id, &peerpb.Closed{S: c.s, Index: r.state.index}, nil)
			r.sendAll(r.group.TakeHeld()) // who asked waits for what is applied up to there
		}
	}
	clear(r.closes[len(waiting):])
	r.closes = waiting
	if len(waiting) > 0 {
		r.store.watchClock(r)
	}
}

// locksLetClose reports whether transactions let the question be answered.
func (r *Replica) locksLetClose(c *closing) bool {
	if r.locks.idle() {
		return true
	}
	ok, _ := r.locks.mayClose(c.spans, c.s, c.lock, r.store.now)
	return ok
}

// hasBatch reports whether a batch is still under way.
func (r *Replica) hasBatch(number uint64) bool {
	if r.asked != nil && r.asked.number == number {
		return true
	}
	for _, b := range r.inflight {
		if b.number >= number {
			return true
		}
	}
	return false
}

// touches reports whether the batch has a change at or below a revision on one
// of the spans; no spans are all.
func (b *batch) touches(s Revision, spans []metapb.Span) bool {
	for _, u := range b.entry.Updates {
		if Revision(u.Revision) > s {
			return false
		}
		if len(spans) == 0 || updateTouches(u, spans) {
			return true
		}
	}
	return false
}

func updateTouches(u *cmdpb.Update, spans []metapb.Span) bool {
	for _, m := range u.Mutations {
		for _, sp := range spans {
			if keys.HoldsUser(sp, m.Key) {
				return true
			}
		}
	}
	return false
}

// NoBound is the bound of a range on which nothing is under way.
const NoBound Revision = math.MaxInt64

// Bound returns the lowest revision given to a write on the range whose effect
// cannot be read yet, or NoBound. Where the sequencer answers on this node's
// own loop, a read at an S below it needs no question: whatever is given out
// later is above S.
func (r *Replica) Bound() Revision {
	bound := NoBound
	if rev, ok := r.locks.bound(); ok {
		bound = rev
	}
	for _, b := range r.inflight {
		if len(b.entry.Updates) > 0 {
			bound = min(bound, Revision(b.entry.Updates[0].Revision))
			break
		}
	}
	return bound
}
