package ranges

import (
	"testing"
	"time"

	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/peerpb"
)

// askLease asks a store's own replica about leases, and returns the answer.
func (c *storeCluster) askLease(t *testing.T, n *clusterStore, id int64, body peerpb.Body) (rep peerpb.Reply) {
	t.Helper()
	answered := false
	c.request(n, keys.Lease(id), &clusterRequest{at: c.issued, body: body, told: func(r peerpb.Reply) { answered, rep = true, r }})
	c.until(t, 2*time.Second, "the answer", func() bool { return answered })
	return rep
}

// cutOff cuts a store off from all others.
func (c *storeCluster) cutOff(n *clusterStore) {
	for _, o := range c.nodes {
		if o != n {
			c.cut[[2]metapb.StoreID{n.id, o.id}], c.cut[[2]metapb.StoreID{o.id, n.id}] = true, true
		}
	}
}

// The right side of a split takes deadlines over from the left's leader. Where another
// store came to lead it first they are worth nothing any more when it leads here: its
// leases were renewed there.
func TestDeadlinesOfBeforeAnotherLeader(t *testing.T) {
	const id, ttl = 200, 10
	c := calmCluster(t, 1)
	n := c.holder(2)
	if rep := c.askLease(t, n, id, &peerpb.GrantLease{ID: id, TTL: ttl, Number: 1}); rep.Err != nil {
		t.Fatal(rep.Err)
	}
	c.request(n, keys.Lease(100), &clusterRequest{at: c.issued, body: &peerpb.Split{At: keys.Lease(100), RightID: 3}})
	c.until(t, time.Second, "the right side is born", func() bool { return n.store.Replica(3) != nil })
	c.cutOff(n)
	c.until(t, 5*time.Second, "another store leads it", func() bool { o := c.holder(3); return o != nil && o != n })
	other := c.holder(3)
	for range 2 * ttl {
		if err := c.run(time.Second); err != nil {
			t.Fatal(err)
		}
		rep := c.askLease(t, other, id, &peerpb.RenewLeases{IDs: []int64{id}})
		if out, _ := rep.Body.(*peerpb.Renewed); out == nil || out.TTLs[0] != ttl {
			t.Fatalf("the renewal is answered with %v, %v", rep.Body, rep.Err)
		}
	}
	clear(c.cut)
	if err := c.run(time.Second); err != nil {
		t.Fatal(err)
	}
	if err := other.store.Transfer(3, n.id); err != nil {
		t.Fatal(err)
	}
	c.until(t, time.Second, "the first store leads it", func() bool { return c.holder(3) == n })
	if left := n.store.Replica(3).remaining(id); left < (ttl-3)*time.Second {
		t.Fatalf("of %d s, renewed %v ago, %v are left", ttl, time.Second, left)
	}
}
