package node

import (
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/flotilladb/flotilla/placement"
)

// A node that does not listen for others, since its port was in use when it started, refuses
// a second member, and says why. It goes on, and starts again, as the only one.
func TestNoMemberWithoutListener(t *testing.T) {
	dir := t.TempDir()
	n := open(t, dir)
	_, _, err := n.ChangeMember(t.Context(), 0, false, []string{"http://127.0.0.1:1"})
	if !errors.Is(err, placement.ErrOneStore) || !strings.Contains(err.Error(), "--listen-peer-urls") {
		t.Errorf("to add a member: %v", err)
	}
	put(t, n.KV(), "a", "1", 2)
	closeNode(t, n)
	n = open(t, dir)
	if !n.Direct() {
		t.Error("it is one of several")
	}
	put(t, n.KV(), "a", "2", 3)
	closeNode(t, n)
}

// A node that stops while another one joins. It is for the race detector.
func TestStopsWhileAnotherJoins(t *testing.T) {
	c := newNetCluster(t, 1)
	c.tune = func(cfg *Config) { cfg.Members = nil }
	c.start(0)
	n := c.nodes[0]
	var wg sync.WaitGroup
	wg.Go(func() { _ = n.endOneStore(t.Context()) })
	for n.Direct() {
		n.Drain(t.Context())
	}
	wg.Wait()
}
