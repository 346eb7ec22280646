package node

import (
	"sync/atomic"
	"testing"

	"github.com/flotilladb/flotilla/proto/metapb"
)

// newBookCluster is three nodes that find each other by what they are told; in the
// beginning by where the test has put them.
func newBookCluster(t *testing.T) (c *netCluster, told *atomic.Bool) {
	c, told = newNetCluster(t, 3), new(atomic.Bool)
	c.tune = func(cfg *Config) {
		cfg.PeerAddress = func(id metapb.StoreID) (string, bool) {
			if told.Load() {
				return "", false
			}
			return c.address(id)
		}
	}
	c.start(0, 1, 2)
	c.put(0, "a", "1")
	return c, told
}

// heardOf waits until two nodes have what gossip says of the third.
func (c *netCluster) heardOf(member int) {
	c.t.Helper()
	c.every(func(i int) {
		if i != member {
			until(c.t, "a node is not heard of", func() bool {
				addr, ok := c.nodes[i].book.address(metapb.StoreID(member + 1))
				return ok && addr == c.addrs[member] && len(c.nodes[i].Gossip()) == 2
			})
		}
	})
}

// A node that comes back at another address says so to those whom it reaches: the
// others have only the old one, at which they cannot answer it.
func TestStartsAtAnotherAddress(t *testing.T) {
	c, told := newBookCluster(t)
	c.heardOf(2)
	told.Store(true)
	c.stop(2)
	c.put(0, "a", "2")
	c.start(2)
	if got := c.get(2, "a"); got != "2" {
		t.Errorf("a is %q", got)
	}
	c.stop(0) // the other two are a majority
	c.put(2, "a", "3")
}

// Where a member is said to be is tried as well as where it said itself that it is.
func TestAddressOfAMemberIsCorrected(t *testing.T) {
	c, _ := newBookCluster(t)
	c.heardOf(2)
	if _, _, err := c.nodes[0].ChangeMember(t.Context(), 3, false, []string{"http://other:1"}); err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		until(t, "the new address is not taken", func() bool {
			addr, _ := c.nodes[i].book.address(3)
			return addr == "other:1"
		})
	}
}
