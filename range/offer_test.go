package ranges

import (
	"fmt"
	"testing"
	"time"

	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/proto/peerpb"
)

// Two of three stores get the left side of a split as a snapshot, and so never make their
// replicas of the right side. The third, which has one, is not elected there; it sends them
// what it has.
func TestRightSideThatMostLack(t *testing.T) {
	c := calmCluster(t, 1)
	leader := c.holder(2)
	second, third := c.nodes[leader.id%3], c.nodes[(leader.id+1)%3]
	r := leader.store.Replica(2)
	index := second.store.Replica(2).Applied()
	cut := func() {
		t.Helper()
		b := leader.eng.NewBatch()
		if err := r.group.Truncate(b, r.Applied()); err != nil {
			t.Fatal(err)
		}
		if err := leader.eng.Commit(b, false); err != nil {
			t.Fatal(err)
		}
	}

	// The second has the split in its log, and does not know that it is committed.
	c.cutOff(third)
	c.request(leader, r.desc.Start, &clusterRequest{at: c.issued, body: &peerpb.Split{At: keys.User([]byte("m")), RightID: 3}})
	c.until(t, time.Second, "the leader has split", func() bool {
		c.keepFromCommits(second.id, index)
		return leader.store.Replica(3) != nil
	})
	second.store, second.eng = nil, second.eng.Crash(func(unsynced int) int { return unsynced })
	cut()
	clear(c.cut)
	hasLeft := func(n *clusterStore) func() bool {
		return func() bool {
			own := n.store.Replica(2) // nil while a snapshot is installed
			return own != nil && own.Applied() == r.Applied()
		}
	}
	c.until(t, 5*time.Second, "the third has the left side", hasLeft(third))
	for i := range 3 {
		acked := c.acked
		c.putAt(t, leader, fmt.Sprint("v", i), func() {}, func() bool { return c.acked > acked })
	}
	cut()
	if err := second.open(); err != nil {
		t.Fatal(err)
	}
	c.until(t, 5*time.Second, "the second has the left side", hasLeft(second))
	if second.store.Replica(3) != nil || third.store.Replica(3) != nil || c.holder(3) != nil {
		t.Fatal("the right side is there")
	}
	c.until(t, 30*time.Second, "the right side is led", func() bool { return c.holder(3) != nil })
	c.until(t, 10*time.Second, "all have the right side", func() bool {
		return second.store.Replica(3) != nil && third.store.Replica(3) != nil
	})
}
