package node

import "testing"

// What a node says is current is not below what it told a client of before, whoever led.
func TestCurrentIsNotBelowWhatWasDone(t *testing.T) {
	c := newNetCluster(t, 3)
	c.start(0, 1, 2)
	for range 20 {
		for i, n := range c.nodes {
			if rev := c.put(i, "k", "v"); n.Revision() < rev {
				t.Fatalf("node %d said that it put at %d, and then that %d is current", i, rev, n.Revision())
			}
		}
	}
}
