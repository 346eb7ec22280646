package node

import (
	"net"
	"testing"
)

// Another process has the address at which a node is to gossip. When it lets go of it the
// node gossips.
func TestGossipAddressIsTaken(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c := newNetCluster(t, 3)
	taken := l.Addr().String()
	c.tune = func(cfg *Config) {
		if cfg.Name == "c" {
			cfg.GossipAddr = taken
		}
	}
	c.start(0, 1, 2)
	if c.put(2, "a", "1"); c.nodes[2].gossip.Load() != nil {
		t.Fatal("it gossips at an address that it has not")
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	until(t, "it does not gossip", func() bool { return c.nodes[2].gossip.Load() != nil })
	until(t, "the others do not hear it", func() bool {
		for _, e := range c.nodes[0].Gossip() {
			if e.Member.Store == 3 {
				return true
			}
		}
		return false
	})
}
