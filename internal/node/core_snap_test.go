package node

import (
	"testing"

	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/peerpb"
	"github.com/flotilladb/flotilla/range"
)

// A chunk that is sent again is answered again, and answers may be late. One to the last chunk,
// or to one before, does not mean that its receiver lost the snapshot: then it would want the first.
func TestLastChunkIsAnsweredTwice(t *testing.T) {
	r := newCoreRun(t, CoreConfig{})
	key := snapshotKey{5, 3}
	for _, c := range []struct {
		next uint64
		ends bool
	}{{2, false}, {4, false}, {5, false}, {0, true}} {
		// All of chunks 0 to 3 is there.
		r.core.sending[key] = &sending{to: 2, chunk: &ranges.SnapshotChunk{Range: 5, Replica: 3, ID: 7, Number: 4}}
		r.core.stepTaken(2, &peerpb.SnapshotAnswer{Range: 5, Replica: 3, ID: 7, Next: c.next})
		if ended := r.core.sending[key] == nil; ended != c.ends {
			t.Errorf("next is %d: it was given up: %v", c.next, ended)
		}
	}
}

// A receiver that is further than a sender that began anew because of a late answer has it go on.
func TestReceiverIsAhead(t *testing.T) {
	r := newCoreRun(t, CoreConfig{})
	c, key := r.core, snapshotKey{5, 3}
	s := &sending{to: 2, sender: new(ranges.SnapshotSender), chunk: &ranges.SnapshotChunk{Range: 5, Replica: 3, ID: 7}}
	c.sending[key] = s
	c.stepTaken(2, &peerpb.SnapshotAnswer{Range: 5, Replica: 3, ID: 7, Next: 3})
	if !s.busy || len(c.jobs) != 1 || c.jobs[0].sender != s.sender {
		t.Errorf("nothing is read for it: %v", c.jobs)
	}
}

// Snapshots that wait until an older replica makes room for them do not keep back the one
// that brings that replica up; when very many wait, others like them are sent away.
func TestSnapshotThatMakesRoom(t *testing.T) {
	r := newCoreRun(t, CoreConfig{})
	c := r.core
	waits := func(n int) {
		for i := range n {
			c.receiving[snapshotKey{metapb.RangeID(100 + i), 3}] = &receiving{from: 2, whole: true}
		}
	}
	first := func(id metapb.RangeID, start, end string) *ranges.SnapshotChunk {
		d := &metapb.Descriptor{RangeId: uint64(id), Start: keys.User([]byte(start)), End: keys.User([]byte(end))}
		return &ranges.SnapshotChunk{Range: id, Replica: 3, Index: 20, ID: 7, Header: &ranges.SnapshotHeader{Descriptor: d, Replica: 3, Index: 20}}
	}
	taken := func(ch *ranges.SnapshotChunk) (began, refused bool) {
		c.out = nil
		rc := c.beginReceiving(2, snapshotKey{ch.Range, ch.Replica}, nil, ch)
		for _, f := range c.out {
			refused = refused || len(f.Taken) == 1 && f.Taken[0].Refused
		}
		return rc != nil, refused
	}
	waits(snapshotsReceivedMax)
	if began, refused := taken(first(50, "a", "b")); !began || refused {
		t.Errorf("eight wait: another began %v, was sent away %v", began, refused)
	}
	waits(snapshotsWaitMax)
	if began, refused := taken(first(51, "b", "c")); began || !refused { // range 2 is in its way
		t.Errorf("many wait: another one that would wait began %v, was sent away %v", began, refused)
	}
	if began, refused := taken(first(2, "", "m")); !began || refused {
		t.Errorf("many wait: the one that makes room began %v, was sent away %v", began, refused)
	}

	for i := range snapshotsSentMax {
		c.sending[snapshotKey{metapb.RangeID(100 + i), 4}] = &sending{to: 2}
	}
	if n := c.snapshotsUnderWay(); n != 0 {
		t.Errorf("%d are under way", n)
	}
}
