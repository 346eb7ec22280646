package node

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/flotilladb/flotilla/placement"
)

// wipe takes a node's data away, as somebody does who gives it a new disk.
func (c *netCluster) wipe(i int) {
	c.t.Helper()
	entries, err := os.ReadDir(c.dirs[i])
	for _, e := range entries {
		err = errors.Join(err, os.RemoveAll(filepath.Join(c.dirs[i], e.Name())))
	}
	if err != nil {
		c.t.Fatal(err)
	}
}

// expectForgotten starts a node that has to end because it has lost what it had.
func (c *netCluster) expectForgotten(i int) {
	c.t.Helper()
	c.expectRefused(i, placement.ErrOtherFolder, "member")
}

// A member of a cluster that was begun by several, whose data folder is empty when it
// comes back, would begin anew as the same replicas, which have forgotten what they
// acknowledged. It ends, at every start.
func TestEmptyFolderOfAMember(t *testing.T) {
	c := newNetCluster(t, 3)
	c.start(0, 1, 2)
	c.put(0, "a", "1")
	c.stop(2)
	c.wipe(2)
	c.expectForgotten(2)
	c.put(1, "a", "2")
	c.expectForgotten(2)
	c.stopAll()
	c.start(0, 1)
	c.expectForgotten(2)
	if got := c.get(0, "a"); got != "2" {
		t.Errorf("a is %q", got)
	}
}

// Nor does it make a majority with one that lacks what was acknowledged.
func TestEmptyFolderDoesNotVote(t *testing.T) {
	c := newNetCluster(t, 3)
	c.start(0, 1, 2)
	c.put(0, "a", "1")
	c.stop(2)
	c.put(0, "a", "2") // by the first two
	c.stopAll()
	c.wipe(0)
	opened := make(chan error, 1)
	go func() { opened <- c.open(2) }()
	c.expectForgotten(0)
	select {
	case err := <-opened:
		t.Fatalf("one of three has a majority: %v", err)
	default:
	}
	c.start(1)
	if err := <-opened; err != nil {
		t.Fatal(err)
	}
	if got := c.get(2, "a"); got != "2" {
		t.Errorf("a is %q", got)
	}
}
