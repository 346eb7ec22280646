package ranges

import (
	"testing"
	"time"

	"github.com/flotilladb/flotilla/proto/metapb"
)

// A replica hears nothing of its leader for a while. It may not stand for election, since it
// is bound to another store too, of which it was born: its leader, which rests, counts on it
// all the time. When the leader is back it follows.
func TestBoundToTwo(t *testing.T) {
	for away := 50 * time.Millisecond; away <= 500*time.Millisecond; away += 50 * time.Millisecond {
		c := calmCluster(t, 1)
		leader := c.holder(2)
		n, other := c.nodes[leader.id%3], c.nodes[(leader.id+1)%3]
		if c.holder(1) == leader { // a vote in another range would tell the leader
			if err := leader.store.Transfer(1, other.id); err != nil {
				t.Fatal(err)
			}
			c.until(t, 5*time.Second, "the system range has gone", func() bool { return c.holder(1) == other })
		}
		n.store.peers.live.Bear(2, other.id, 1)
		c.cut[[2]metapb.StoreID{leader.id, n.id}], c.cut[[2]metapb.StoreID{n.id, leader.id}] = true, true
		c.until(t, 5*time.Second, "the promise ran out", func() bool { return !n.store.peers.live.Promised(leader.id) })
		if err := c.run(away); err != nil {
			t.Fatal(err)
		}
		clear(c.cut)
		c.until(t, 5*time.Second, "the leader is heard again", func() bool { return n.store.peers.live.Promised(leader.id) })
		c.until(t, 10*time.Second, "it follows", func() bool { return n.store.Replica(2).Leader() == leader.id })
		if c.holder(2) != leader {
			t.Fatalf("away for %v longer: another one leads", away)
		}
	}
}
