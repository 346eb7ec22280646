package node

import (
	"errors"
	"slices"
	"testing"
)

// Who says that there is a cluster, and has lost its folder, begins no other.
func TestExistingBeginsNoCluster(t *testing.T) {
	c := newNetCluster(t, 1)
	existing := func(cfg *Config) { cfg.Existing = true }
	c.tune = existing
	c.expectRefused(0, ErrNoFolder, "--initial-cluster")
	c.tune = nil
	c.start(0)
	c.put(0, "a", "1")
	c.stop(0)
	c.tune = existing
	c.start(0) // it has data
	if got := c.get(0, "a"); got != "1" {
		t.Errorf("a is %q", got)
	}
}

// With data the members that are named are no addresses to join at: one may have gone, and
// its machine be another cluster's.
func TestExistingWithDataJoinsNobody(t *testing.T) {
	other, c := newNetCluster(t, 1), newNetCluster(t, 1)
	other.start(0)
	c.start(0)
	c.put(0, "a", "1")
	c.stop(0)
	addr, _ := other.address(1)
	c.tune = func(cfg *Config) { cfg.Existing, cfg.Join = true, []string{addr} }
	c.start(0)
	n := c.nodes[0]
	until(t, "the address is not asked", func() bool { return !slices.Contains(n.stop.Running(), "same cluster") })
	if err := n.inLoop(t.Context(), func() {}); err != nil {
		t.Fatalf("the node ended: %v", errors.Join(err, n.Err()))
	}
}
