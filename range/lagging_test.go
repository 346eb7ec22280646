package ranges

import (
	"fmt"
	"testing"
	"time"

	"github.com/flotilladb/flotilla/proto/metapb"
)

// A range that is written now and then, while a store with a replica of it is away for
// days, is noted once for that store however often it fell quiet.
func TestLaggingIsNotedOnce(t *testing.T) {
	c := calmCluster(t, 1)
	n := c.holder(2)
	r := n.store.Replica(2)
	away := c.nodes[n.id%3]
	c.cutOff(away)
	c.until(t, 5*time.Second, "nothing is heard of the store", func() bool { return !n.store.Live(away.id) })
	for i := range 5 {
		c.putAt(t, n, fmt.Sprintf("v%d", i), func() {}, func() bool { return r.awake })
		c.until(t, 5*time.Second, "the range falls quiet", func() bool { return !r.awake })
	}
	if n := noted(n.store, away.id, 2); n != 1 {
		t.Fatalf("the range is noted %d times", n)
	}
	clear(c.cut)
	c.until(t, 5*time.Second, "the store that was away has all", func() bool {
		return away.store.Replica(2).Applied() == r.Applied()
	})
	if n := noted(n.store, away.id, 2); n != 0 {
		t.Fatalf("the range is noted %d times after the store's return", n)
	}
}

func noted(s *Store, store metapb.StoreID, id metapb.RangeID) (n int) {
	for _, x := range s.peers.lagging[store] {
		if x == id {
			n++
		}
	}
	return n
}

// A range at rest, of which a store that is away lacks something, keeps its log for it and
// says nothing: however long it is away, thousands of them cost nothing.
func TestRestWithOneAway(t *testing.T) {
	c := calmCluster(t, 1)
	n := c.holder(2)
	r := n.store.Replica(2)
	away := c.nodes[n.id%3]
	away.crash()
	c.until(t, 5*time.Second, "nothing is heard of the store", func() bool { return !n.store.Live(away.id) })
	c.putAt(t, n, "v", func() {}, func() bool { return r.awake })
	c.until(t, 5*time.Second, "the range falls quiet", func() bool { return !r.awake })
	if err := c.run(restedAfter + time.Second); err != nil {
		t.Fatal(err)
	}
	before := c.raftMessages
	if err := c.run(3 * restedAfter); err != nil {
		t.Fatal(err)
	}
	if sent := c.raftMessages - before; sent > 0 || r.group.LogBytes() == 0 {
		t.Errorf("ranges at rest sent %d messages; the log has %d bytes", sent, r.group.LogBytes())
	}
	if err := away.open(); err != nil {
		t.Fatal(err)
	}
	c.until(t, 5*time.Second, "the store that was away has all", func() bool {
		return away.store.Replica(2).Applied() == r.Applied()
	})
	c.until(t, 2*restedAfter, "nobody has a log", func() bool {
		return r.group.LogBytes()+away.store.Replica(2).group.LogBytes() == 0
	})
}
