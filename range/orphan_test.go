package ranges

import (
	"errors"
	"testing"
	"time"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/mvcc"
	"github.com/flotilladb/flotilla/proto/cmdpb"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/peerpb"
)

// A store is away while its range gives up all client keys, in a split whose right side goes
// to other stores. The snapshot of what is left takes away what the replica had of them, too:
// nobody else will.
func TestSnapshotOfARangeWithoutClientKeys(t *testing.T) {
	c := calmCluster(t, 1)
	leader := c.holder(2)
	third := c.nodes[(leader.id+1)%3]
	acked := c.acked
	c.putAt(t, leader, "v", func() {}, func() bool { return c.acked > acked })
	behind := third.store.Replica(2)
	r := leader.store.Replica(2)
	c.until(t, time.Second, "the third has the key", func() bool { return behind.Applied() == r.Applied() })

	c.cutOff(third)
	all := r.desc.Span()
	c.request(leader, r.desc.Start, &clusterRequest{at: c.issued, body: &peerpb.Split{At: keys.Lease(7), RightID: 3}})
	c.until(t, 2*time.Second, "the right side is led", func() bool { return c.holder(3) != nil })
	right := c.holder(3)
	change := func(body *peerpb.ChangeReplicas) {
		t.Helper()
		own := right.store.Replica(3)
		generation := own.desc.Generation
		c.request(right, own.desc.Start, &clusterRequest{at: c.issued, body: body})
		c.until(t, 5*time.Second, "the replicas are others", func() bool { return own.desc.Generation > generation && !isJoint(own.desc) })
	}
	change(&peerpb.ChangeReplicas{Remove: []metapb.StoreID{third.id}})
	b := leader.eng.NewBatch()
	if err := r.group.Truncate(b, r.Applied()); err != nil {
		t.Fatal(err)
	}
	if err := leader.eng.Commit(b, false); err != nil {
		t.Fatal(err)
	}
	clear(c.cut)
	c.until(t, 10*time.Second, "the third has what is left", func() bool {
		own := third.store.Replica(2)
		return own != nil && own.Applied() == r.Applied()
	})
	rows, err := rowsOf(third.eng, all, make(map[string]bool))
	if err != nil {
		t.Fatal(err)
	}
	if rows != "" {
		t.Fatalf("the third still has %s", rows)
	}
}

// A split gives the right side's span up, and the store crashes when that is in the engine and
// the rows have not gone yet. No replica has them any more: they go at the start.
func TestRowsOfASpanGivenUpGo(t *testing.T) {
	s := newStoreScript(t, Config{})
	s.request("put n 1")
	s.store.Gone(Gone{Range: 3, Replica: 8})
	s.run()
	r := s.store.Replica(2)
	left, right := r.divided(&peerpb.Split{At: keys.User([]byte("m")), RightID: 3})
	s.store.apply = s.eng.NewBatch()
	s.must(r.applySplit(s.store.apply, &cmdpb.SplitCommand{Left: left, Right: right}))
	s.collect()
	s.must(s.eng.Commit(s.rd.Apply, false))
	s.eng = s.eng.Crash(func(unsynced int) int { return unsynced })
	s.open()
	s.run()
	if d := s.store.Replica(2).desc; s.store.Replica(3) != nil || string(d.End) != string(left.End) {
		t.Fatalf("after the start range 2 is %v", d)
	}
	kv, err := mvcc.Get(s.eng, []byte("n"), s.issued)
	s.must(err)
	if kv != nil {
		t.Error("the rows are still there")
	}
	if _, _, err := s.eng.Get(keys.Descriptor(3)); !errors.Is(err, engine.ErrNotFound) {
		t.Errorf("the descriptor of what was given up: %v", err)
	}
	if lowest, err := readTombstone(s.eng, 3); lowest != 9 || err != nil {
		t.Errorf("replica %d may come, %v", lowest, err)
	}
}
