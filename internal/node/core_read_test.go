package node

import (
	"maps"
	"slices"
	"testing"

	"github.com/flotilladb/flotilla/internal/effort"
	"github.com/flotilladb/flotilla/internal/frame"
	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/range"
	"github.com/flotilladb/flotilla/router"
)

// readers are reads of a node of several, of which the range is asked to close and does not.
type readers struct {
	*coreRun
	id metapb.RangeID
}

func newReaders(t *testing.T, n int) *readers {
	r := &readers{coreRun: newCoreRun(t, CoreConfig{})}
	r.run()
	c := r.core
	c.many = true
	span := metapb.Span{Start: keys.User([]byte("k")), End: keys.User([]byte("k\x00"))}
	r.id = c.router.Lookup(span.Start).ID()
	for i := range n {
		c.waiting = append(c.waiting, &read{
			id: uint64(i), spans: []metapb.Span{span}, rev: 100 + metapb.Revision(i%2), reply: &router.ReadReply{}, deadline: c.now.Add(readTimeout),
		})
	}
	r.look()
	return r
}

// look has the core look at its reads as after something has got on.
func (r *readers) look() {
	r.core.advanced = true
	r.core.checkReads()
}

// Reads of a range that does not get on, however many they are, cost nothing when others do.
func TestReadsOfAStuckRange(t *testing.T) {
	effort.Constant(t, 1_000, 60_000, func(n int) func() {
		r := newReaders(t, n)
		return func() {
			for range 100 {
				r.look()
			}
			if got := r.core.parkedCount; got != n {
				t.Errorf("%d reads of %d wait", got, n)
			}
		}
	})
}

// Who waits for a range is looked at again when it has got on far enough, when it is cut,
// when it has gone, and in the end.
func TestParkedReads(t *testing.T) {
	want := func(r *readers, parked, answered int, err error) {
		t.Helper()
		r.core.checkReads()
		if n := r.core.parkedCount; n != parked || len(r.core.waiting) != 0 {
			t.Errorf("%d reads wait, and %d to be looked at; want %d", n, len(r.core.waiting), parked)
		}
		for _, res := range r.core.results {
			if res.Err != err {
				t.Errorf("read %d: %v", res.ID, res.Err)
			}
		}
		if n := len(r.core.results); n != answered {
			t.Errorf("%d are answered, want %d", n, answered)
		}
	}
	r := newReaders(t, 10)
	want(r, 10, 0, nil)
	cl := r.core.closing[r.id]
	for i, rev := range []metapb.Revision{99, 100, 101} {
		cl.told = rev
		r.core.count(r.id, cl)
		want(r, 10-5*i, 5*i, nil)
	}

	r = newReaders(t, 10)
	r.core.parked[99], r.core.parked[r.id] = r.core.parked[r.id], nil
	r.core.tickReads()
	want(r, 10, 0, nil)
	if n := len(r.core.parked[r.id]); n != 10 {
		t.Errorf("%d wait for the range that has their keys", n)
	}
	r.core.closing[r.id].closed = 101
	r.core.learn(r.core.router.Lookup(keys.User([]byte("k"))))
	want(r, 0, 10, nil)

	r = newReaders(t, 10)
	r.core.now = r.core.now.Add(readTimeout)
	r.core.tickReads()
	want(r, 0, 10, router.ErrTimeout)
}

// A range whose replica here is out of service is read elsewhere: a read does not wait until
// that replica has what it lacks, which may be never.
func TestReadsDoNotWaitForWhatIsNotShown(t *testing.T) {
	for _, late := range []bool{false, true} {
		r := newReaders(t, 10)
		c := r.core
		if !late {
			r = &readers{coreRun: newCoreRun(t, CoreConfig{})}
			c = r.core
			c.many = true
		}
		span := metapb.Span{Start: keys.User([]byte("k")), End: keys.User([]byte("k\x00"))}
		id := c.router.Lookup(span.Start).ID()
		c.Store().Condemn(id, c.Store().Replica(id).ID(), false)
		if !late {
			for i := range 10 {
				c.waiting = append(c.waiting, &read{id: uint64(i), spans: []metapb.Span{span}, rev: 100, reply: &router.ReadReply{}, deadline: c.now.Add(readTimeout)})
			}
			c.advanced = true
		} else {
			c.tickReads()
		}
		c.checkReads()
		if n := len(c.results); n != 10 || c.parkedCount != 0 {
			t.Errorf("late %v: %d reads are answered, %d wait", late, n, c.parkedCount)
		}
		for _, res := range c.results {
			if res.Err != nil {
				t.Error(res.Err)
			}
		}
	}
}

// How far a range is closed is forgotten with its replica: not before the answer to what was
// asked is there, and not if a replica has come back meanwhile.
func TestClosingOfAReplicaThatWent(t *testing.T) {
	r := newReaders(t, 0)
	c := r.core
	const went, asks = 98, 99
	for id, cl := range map[metapb.RangeID]closing{went: {closed: 7}, asks: {closed: 7, want: 9, asked: 9, store: 2}, r.id: {closed: 7, want: 7}} {
		*c.closingOf(id) = cl
	}
	want := func(all ...metapb.RangeID) {
		t.Helper()
		for range 2 {
			r.tick(tickPause)
			c.countClosings()
			c.Touched(func(*ranges.Replica) {})
		}
		got := slices.DeleteFunc(slices.Sorted(maps.Keys(c.closing)), func(id metapb.RangeID) bool { return id != r.id && id != went && id != asks })
		if !slices.Equal(got, all) {
			t.Errorf("of %v is known how far they are closed, want %v", got, all)
		}
	}
	c.changes(&ranges.Output{Removed: []metapb.RangeID{went, asks, r.id}})
	want(r.id, asks)
	c.toldClosed(2, &frame.Closed{Range: asks, S: 8}) // to a question of before
	want(r.id, asks)
	c.toldClosed(2, &frame.Closed{Range: asks, S: 9, Index: 5})
	want(r.id)
	if cl := c.closing[r.id]; cl.closed < 7 {
		t.Errorf("closed at %d, was at 7", cl.closed)
	}
	c.changes(&ranges.Output{Removed: []metapb.RangeID{went}}) // nobody ever asked
	want(r.id)
}
