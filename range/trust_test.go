package ranges

import (
	"fmt"
	"testing"
	"time"

	"github.com/flotilladb/flotilla/proto/metapb"
)

// undecide takes all replicas of a range out of service.
func (c *storeCluster) undecide(t *testing.T, id metapb.RangeID) {
	t.Helper()
	for _, n := range c.nodes {
		if !n.store.Condemn(id, n.store.Replica(id).id, true) {
			t.Fatalf("store %d has no replica", n.id)
		}
	}
	if err := c.run(time.Second); err != nil {
		t.Fatal(err)
	}
	if n := c.holder(id); n != nil {
		t.Fatalf("store %d serves", n.id)
	}
}

// giveUp has a store's replica given up until that is durable.
func (c *storeCluster) giveUp(t *testing.T, n *clusterStore, id metapb.RangeID, heir metapb.ReplicaID) {
	t.Helper()
	c.until(t, time.Second, "it is given up", func() bool {
		to, durable := n.store.GiveUp(id, n.store.Replica(id).id, heir)
		if to != heir {
			t.Fatalf("store %d: given up for %d", n.id, to)
		}
		return durable
	})
}

// One replica is trusted, be it that of the leader or another one; it alone serves
// then, whatever crashes, and stays trusted.
func TestTrust(t *testing.T) {
	for place := range 3 {
		t.Run(fmt.Sprint(place), func(t *testing.T) {
			c := calmCluster(t, 1)
			leader := c.holder(2)
			heir := c.nodes[(int(leader.id)-1+place)%3]
			id := heir.store.Replica(2).id
			c.undecide(t, 2)
			var other *clusterStore
			for _, n := range c.nodes {
				if n != heir {
					c.giveUp(t, n, 2, id)
					other = n
				}
			}
			// That outlives a crash, and holds against others.
			other.crash()
			if err := other.open(); err != nil {
				t.Fatal(err)
			}
			r := other.store.Replica(2)
			if to, _ := other.store.GiveUp(2, r.id, 9); to != id || r.Undecided() || !r.Condemned() {
				t.Fatalf("it was given up for %d", to)
			}
			heir.store.Trust(2)
			serves := func() bool { return c.holder(2) == heir }
			c.until(t, 5*time.Second, "the heir leads", serves)
			if err := c.checkServing(); err != nil {
				t.Fatal(err)
			}
			heir.crash()
			if err := heir.open(); err != nil {
				t.Fatal(err)
			}
			if r := heir.store.Replica(2); r.Condemned() || r.TrustedOver() != 4 {
				t.Fatalf("it forgot that it is trusted, over %d", r.TrustedOver())
			}
			c.until(t, 10*time.Second, "the heir leads again", serves)
		})
	}
}

// What is in service, or not there, is given up for nobody.
func TestGiveUpRefuses(t *testing.T) {
	c := calmCluster(t, 1)
	n := c.nodes[0]
	own := n.store.Replica(2).id
	if to, _ := n.store.GiveUp(2, own, own+1); to != 0 {
		t.Fatal("it is in service")
	}
	c.undecide(t, 2)
	for _, q := range []struct {
		id            metapb.RangeID
		replica, heir metapb.ReplicaID
	}{{9, own, own + 1}, {2, own + 1, own + 2}, {2, own, own}} {
		if to, _ := n.store.GiveUp(q.id, q.replica, q.heir); to != 0 {
			t.Fatalf("%+v: for %d", q, to)
		}
	}
}
