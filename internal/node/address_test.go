package node

import (
	"net"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/flotilladb/flotilla/placement"
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
	until(t, "the third node has not said where it gossips", func() bool {
		_, gossips := c.urlsOf(0, 2)
		return gossips
	})
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

// urlsOf is where a member is, as a node's replica of the system range has it.
func (c *netCluster) urlsOf(by, member int) (urls []string, gossips bool) {
	for _, m := range c.nodes[by].book.all() {
		if int(m.Node) == member+1 {
			return m.PeerURLs, m.GossipAddr != ""
		}
	}
	return nil, false
}

// A node gossips from when there is a second one, and says so to the cluster: what was
// corrected of its addresses since it started stays.
func TestGossipKeepsCorrectedAddress(t *testing.T) {
	c := newNetCluster(t, 2)
	c.static = 1
	c.start(0)
	want := []string{"http://other:1"}
	if _, _, err := c.nodes[0].ChangeMember(t.Context(), 1, false, want); err != nil {
		t.Fatal(err)
	}
	c.start(1)
	until(t, "the first node does not gossip", func() bool {
		_, gossips := c.urlsOf(0, 0)
		return gossips
	})
	if got, _ := c.urlsOf(0, 0); !slices.Equal(got, want) {
		t.Errorf("the member is at %v, want %v", got, want)
	}
}

// A member may be at any of its addresses.
func TestAllAddressesAreTried(t *testing.T) {
	c := newNetCluster(t, 1)
	c.start(0)
	b := c.nodes[0].book
	b.set([]placement.Member{{Node: 7, Store: 7, Name: "x", PeerURLs: []string{"http://a:1", "http://b:1"}}})
	if got := b.addresses(7); !slices.Equal(got, []string{"a:1", "b:1"}) {
		t.Errorf("addresses %v", got)
	}
}

// Other nodes are served at each place where one listens.
func TestServesAtAllListeners(t *testing.T) {
	c := newNetCluster(t, 2)
	c.static = 1
	second, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c.tune = func(cfg *Config) {
		if len(cfg.Join) == 0 {
			cfg.MorePeerListeners = []net.Listener{second}
		} else {
			cfg.Join = []string{second.Addr().String()}
		}
	}
	c.start(0)
	c.start(1)
	c.put(1, "a", "1")
}

// A node with a flag that says that it is where another member is starts, and is where it was:
// others would look for one of the two at the other's place.
func TestStartsWithAnothersAddress(t *testing.T) {
	c := newNetCluster(t, 3)
	c.start(0, 1, 2)
	c.put(0, "a", "1")
	where := func(member int) []string {
		t.Helper()
		members, err := c.nodes[0].members(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range members {
			if int(m.Node) == member+1 {
				return m.PeerURLs
			}
		}
		return nil
	}
	another, was := where(1), where(2)
	c.stop(2)
	c.tune = func(cfg *Config) { cfg.PeerURLs = another }
	c.start(2)
	c.put(2, "a", "2")
	if got := where(2); !slices.Equal(got, was) {
		t.Errorf("the third member is at %v; it was at %v, the second is at %v", got, was, another)
	}
}
