package node

import (
	"slices"
	"testing"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/peerpb"
	"github.com/flotilladb/flotilla/range"
	"github.com/flotilladb/flotilla/router"
)

// Replicas of a range differ, and it splits before they are compared once more. What differed
// may be on the right side: that is checked as well.
func TestSplitBetweenTwoChecks(t *testing.T) {
	r := newCoreRun(t, CoreConfig{})
	c := r.core
	before := c.Store().Replica(DataRange).Descriptor()
	compare := func(sum string, w checkWant) {
		w.id = DataRange
		c.judge(&check{
			checkWant: w, name: ranges.CheckID{Range: DataRange, Store: 1, Number: 1},
			desc: &metapb.Descriptor{RangeId: before.RangeId, Start: before.Start, End: before.End, NextReplicaId: 4, Replicas: []*metapb.Replica{
				{ReplicaId: 1, StoreId: 1}, {ReplicaId: 2, StoreId: 2}, {ReplicaId: 3, StoreId: 3},
			}},
			answers: map[metapb.ReplicaID]peerpb.CheckMessage{
				1: {State: peerpb.CheckDone, Sum: []byte("a")}, 2: {State: peerpb.CheckDone, Sum: []byte(sum)}, 3: {State: peerpb.CheckDone, Sum: []byte("a")},
			},
		})
	}
	compare("b", checkWant{})
	if len(c.wants) != 1 || len(c.doubts) != 0 {
		t.Fatalf("to be checked: %v, %v", c.wants, c.doubts)
	}
	again := c.wants[0]
	c.wants = nil
	id := r.request(&router.SplitRequest{Key: []byte("m")})
	r.run()
	if res := r.results[id]; res.Err != nil {
		t.Fatal(res.Err)
	}
	right := c.Store().IDs()[2]
	compare("a", again)
	if len(c.wants) != 0 || !slices.Equal(c.doubts, []metapb.RangeID{right}) {
		t.Fatalf("to be checked: %v, %v; the right side is %d", c.wants, c.doubts, right)
	}
}

// Who has bytes that cannot be read has its range checked until it is out of service: whoever
// began the check that met them may be gone before it has judged.
func TestDoubtOutlivesACheck(t *testing.T) {
	for _, c := range []struct {
		err   error
		stays bool
	}{{nil, false}, {&engine.CorruptionError{Path: "000007.sst"}, true}} {
		r := newCoreRun(t, CoreConfig{})
		r.core.doubt(DataRange)
		name := ranges.CheckID{Range: DataRange, Store: 2, Number: 1}
		hash := &ranges.StateHash{}
		r.core.takeCheckpoints([]ranges.Checkpoint{{Check: name, Replica: 1, Index: 20, Hash: hash}})
		r.core.jobs = nil
		j := &SnapshotJob{hash: hash, check: name, err: c.err}
		if err := r.core.SnapshotDone(j); err != nil {
			t.Fatal(err)
		}
		if stays := slices.Contains(r.core.doubts, DataRange); stays != c.stays {
			t.Errorf("%v: the range is to be checked again: %v", c.err, stays)
		}
	}
}
