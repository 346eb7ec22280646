package watchfeed

import (
	"bytes"
	"cmp"
	"slices"

	"github.com/flotilladb/flotilla/internal/clock"
	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/proto/cmdpb"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/txnpb"
)

// feed is a range as the hub sees it: what it applied lately, and how far it is
// closed. Feeds tile the client keys; one ends where the next begins.
type feed struct {
	id    metapb.RangeID
	start []byte // user key
	pos   int    // in Core.feeds
	// bound is the lowest revision that can still appear. bounded says that it is
	// one, and not NoBound, at place boundedAt of Core.bounded.
	bound     Revision
	boundedAt int
	bounded   bool
	// floor is what the feed was closed at before its bound last changed. A bound
	// of a range that nobody leads yet says nothing, but what was closed stays so.
	floor  Revision
	wanted Revision // as Core.want said
	ring   ring
	groups []*group // whose run holds the feed
	// absent: the range is not on this store, and there is nothing of it in the engine.
	// Where it is not known which range that is, the feed has a made-up id.
	absent bool
	remote remote // while it is absent
	// silent: it did not answer a scan, and was not heard of since. toldAt is when it was.
	silent bool
	toldAt clock.Time
	// overhang: the range goes on behind the feed; its replica here has not heard yet
	// that it was split.
	overhang bool
}

// closed is how far the feed is closed, if nothing above current counts.
func (f *feed) closed(current Revision) Revision { return min(max(f.bound-1, f.floor), current) }

// update is the effect of one modifying request on one range. Its events are
// made when somebody wants them.
type update struct {
	rev    Revision
	muts   []*txnpb.Mutation // nil when events are made
	events []Event
	ring   *ring // that pays for it; nil: none any more
	size   int
}

// newUpdates returns those of a range that have mutations. They lie together: a ring
// gives them up in turn.
func newUpdates(from []*cmdpb.Update) []update {
	us := make([]update, 0, len(from))
	for _, u := range from {
		if len(u.Mutations) == 0 {
			continue
		}
		up := update{rev: Revision(u.Revision), muts: u.Mutations}
		for _, m := range u.Mutations {
			up.size += len(m.Key) + len(m.Value) + eventOverhead
		}
		us = append(us, up)
	}
	return us
}

// list returns the update's events, in order of sub-revision.
func (u *update) list() []Event {
	if u.muts == nil {
		return u.events
	}
	u.events = make([]Event, len(u.muts))
	for i, m := range u.muts {
		u.events[i].set(u.rev, m)
		u.events[i].update = u
	}
	u.muts = nil
	return u.events
}

// split divides an update at a user key. A side that gets nothing is nil, one
// that gets everything is the update itself.
func (u *update) split(at []byte) (left, right *update) {
	left, right = &update{rev: u.rev}, &update{rev: u.rev}
	for i := range u.list() {
		ev := &u.events[i]
		side := left
		if bytes.Compare(ev.Key, at) >= 0 {
			side = right
		}
		side.events = append(side.events, *ev)
		side.size += ev.bytes()
	}
	switch {
	case len(left.events) == 0:
		return nil, u
	case len(right.events) == 0:
		return u, nil
	}
	for _, side := range []*update{left, right} {
		for i := range side.events {
			side.events[i].update = side
		}
	}
	return left, right
}

// ring holds the recent updates of a range.
type ring struct {
	// updates are in order of revision.
	updates deque[*update]
	// low: every update of the range above it that was applied is in the ring.
	// Invariant: grows.
	low Revision
}

// add takes an update in. One of an old revision, which a transaction over
// ranges may bring, moves back to its place.
func (r *ring) add(u *update) {
	u.ring = r
	r.updates.push(u)
	all := r.updates.all()
	for i := len(all) - 1; i > 0 && all[i-1].rev > u.rev; i-- {
		all[i], all[i-1] = all[i-1], all[i]
	}
}

// from returns the updates at or above a revision.
func (r *ring) from(rev Revision) []*update {
	all := r.updates.all()
	i, _ := slices.BinarySearchFunc(all, rev, func(u *update, rev Revision) int { return cmp.Compare(u.rev, rev) })
	return all[i:]
}

// rings bounds the memory of all rings together: what came first goes first.
type rings struct {
	arrived  deque[*update] // also such that no ring holds any more
	gone     int            // of those
	bytes    int
	bytesMax int
}

func (rs *rings) add(r *ring, u *update) {
	if u.rev <= r.low {
		return // the ring does not go back so far any more
	}
	r.add(u)
	rs.arrived.push(u)
	rs.bytes += u.size
	rs.evict()
}

func (rs *rings) evict() {
	for rs.bytes > rs.bytesMax && rs.arrived.len() > 0 {
		old := rs.arrived.pop()
		if old.ring != nil {
			rs.drop(old.ring, old.rev)
		}
		rs.gone--
	}
}

// cut gives up what a ring holds up to a revision.
func (rs *rings) cut(r *ring, through Revision) {
	rs.drop(r, through)
	rs.sweep()
}

// goneMin is below how many updates that no ring holds it is not worth a look which these are.
const goneMin = 64

// sweep forgets the updates that no ring holds, if they are more than the others.
func (rs *rings) sweep() {
	if rs.gone <= rs.arrived.len()/2+goneMin {
		return
	}
	left := slices.DeleteFunc(rs.arrived.all(), func(u *update) bool { return u.ring == nil })
	rs.arrived, rs.gone = deque[*update]{items: left}, 0
}

// drop is cut, but for what may be left in arrived.
func (rs *rings) drop(r *ring, through Revision) {
	r.low = max(r.low, through)
	for r.updates.len() > 0 && r.updates.first().rev <= r.low {
		u := r.updates.pop()
		u.ring = nil
		rs.bytes -= u.size
		rs.gone++
	}
}

// grown says that an update in a ring takes more memory than it did.
func (rs *rings) grown(u *update, by int) {
	if u != nil && u.ring != nil {
		u.size += by
		rs.bytes += by
		rs.evict()
	}
}

// divide gives the updates at or above a user key to another ring, which is
// empty.
func (rs *rings) divide(left, right *ring, at []byte) {
	right.low = left.low
	all := slices.Clone(left.updates.all())
	left.updates = deque[*update]{}
	for _, u := range all {
		l, r := u.split(at)
		if l != nil && r != nil {
			u.ring = nil
			rs.bytes -= u.size
			rs.gone++
			for _, side := range []*update{l, r} {
				rs.arrived.push(side)
				rs.bytes += side.size
			}
		}
		if l != nil {
			left.add(l)
		}
		if r != nil {
			right.add(r)
		}
	}
}

// deque is a queue in one piece of memory.
type deque[T any] struct {
	items []T
	head  int // items before it are gone
}

func (d *deque[T]) len() int { return len(d.items) - d.head }

// all returns what is in the queue, first to last, until the next change.
func (d *deque[T]) all() []T { return d.items[d.head:] }

func (d *deque[T]) first() T { return d.items[d.head] }

func (d *deque[T]) push(v T) {
	if d.head > 0 && len(d.items) == cap(d.items) && d.head >= len(d.items)/2 {
		n := copy(d.items, d.items[d.head:])
		clear(d.items[n:])
		d.items, d.head = d.items[:n], 0
	}
	d.items = append(d.items, v)
}

func (d *deque[T]) pop() T {
	var zero T
	v := d.items[d.head]
	d.items[d.head] = zero
	d.head++
	if d.head == len(d.items) {
		d.items, d.head = d.items[:0], 0
	}
	return v
}

// userStart returns the first client key of a range; ok is false if it holds
// none.
func userStart(d *metapb.Descriptor) (start []byte, ok bool) {
	start, _, ok = keys.UserBounds(d.Span())
	return start, ok
}
