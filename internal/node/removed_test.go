package node

import (
	"errors"
	"strings"
	"testing"

	"github.com/flotilladb/flotilla/placement"
	"github.com/flotilladb/flotilla/proto/metapb"
)

// remove removes a member that does not run, and waits until a node knows.
func (c *netCluster) remove(by, member int) {
	c.t.Helper()
	if _, _, err := c.nodes[by].ChangeMember(c.t.Context(), uint64(member+1), true, nil); err != nil {
		c.t.Fatal(err)
	}
	c.every(func(i int) {
		until(c.t, "the removal is not known", func() bool {
			for _, m := range c.nodes[i].book.all() {
				if m.Node == metapb.NodeID(member+1) {
					return false
				}
			}
			return true
		})
	})
}

// expectRemoved starts a node that has to end because it was removed.
func (c *netCluster) expectRemoved(i int) {
	c.t.Helper()
	c.expectRefused(i, placement.ErrRemoved, "empty data folder")
}

// expectRefused starts a node that the cluster does not take back, and that has to say why
// and what to do.
func (c *netCluster) expectRefused(i int, why error, todo string) {
	c.t.Helper()
	if err := c.open(i); !errors.Is(err, why) || !strings.Contains(err.Error(), todo) {
		c.t.Fatalf("the start of a node that is refused with %v: %v", why, err)
	}
}

// A node that was removed while it was away still has its replicas when it comes back.
// It ends before it serves anybody, at every start.
func TestRemovedWhileAway(t *testing.T) {
	c := newNetCluster(t, 3)
	c.start(0, 1, 2)
	c.put(0, "a", "1")
	c.stop(2)
	c.remove(0, 2)
	c.expectRemoved(2)
	c.put(1, "a", "2")
	c.expectRemoved(2)
}

// With one of three away no other is removed: what it leaves could not elect a leader.
func TestRemoveBesideOneThatIsAway(t *testing.T) {
	c := newNetCluster(t, 3)
	c.start(0, 1, 2)
	c.put(0, "a", "1")
	c.stop(2)
	for _, n := range c.nodes[:2] {
		until(t, "the third is not missed", func() (missed bool) {
			return n.inLoop(t.Context(), func() { missed = !n.core.canAsk(3) }) == nil && missed
		})
	}
	_, _, err := c.nodes[0].ChangeMember(t.Context(), 2, true, nil)
	if !errors.Is(err, placement.ErrNeeded) {
		t.Fatalf("the removal of one of two that are left: %v", err)
	}
	c.stop(1)
	c.start(1)
	c.put(1, "a", "2")
	c.remove(0, 2)
}

// Nor does it help those that are left to a majority: one that knows of the removal
// says so before there may be votes.
func TestRemovedNodeDoesNotVote(t *testing.T) {
	c := newNetCluster(t, 3)
	c.start(0, 1, 2)
	c.put(0, "a", "1")
	c.stop(2)
	c.remove(0, 2)
	c.stopAll()
	opened := make(chan error, 1)
	go func() { opened <- c.open(0) }()
	c.expectRemoved(2)
	select {
	case err := <-opened:
		t.Fatalf("one of two members has a majority: %v", err)
	default:
	}
	c.start(1)
	if err := <-opened; err != nil {
		t.Fatal(err)
	}
	c.put(0, "a", "2")
}

// One of two members is removed while it serves: its replicas are taken away first, for a
// range that is on both needs each of them. What was written stays with the other one.
func TestRemoveOneOfTwo(t *testing.T) {
	c := newNetCluster(t, 3)
	c.tune = func(cfg *Config) { cfg.NoPlanner = false }
	c.start(0, 1, 2)
	c.put(0, "a", "1")
	for i := 2; i > 0; i-- { // the last one by itself
		gone := c.nodes[i]
		_, all, err := gone.ChangeMember(t.Context(), uint64(i+1), true, nil)
		if err != nil || len(all) != i {
			t.Fatalf("member %d is removed: %v, %v", i+1, all, err)
		}
		<-gone.Failed()
		c.stop(i)
		c.put(0, "b", "2")
	}
	if got := c.get(0, "a"); got != "1" {
		t.Errorf("what is left: a=%q", got)
	}
}

// A member that removes itself may hear of that in another way, and end, before the answer
// comes: who asked is told that it is done all the same.
func TestRemoveItself(t *testing.T) {
	c := newNetCluster(t, 3)
	c.start(0, 1, 2)
	gone := c.nodes[2]
	gone.failSoon(removedError(nil))
	<-gone.Failed()
	changed, all, err := gone.ChangeMember(t.Context(), 3, true, nil)
	if err != nil || changed != nil || len(all) != 2 {
		t.Fatalf("a member that was removed asks for its removal: %v, %v, %v", changed, all, err)
	}
	if _, _, err := gone.ChangeMember(t.Context(), 2, true, nil); err == nil {
		t.Fatal("and removes another one")
	}
}

// Without a planner an operator takes the replicas away.
func TestRemoveOneOfTwoWithoutPlanner(t *testing.T) {
	c := newNetCluster(t, 2)
	c.start(0, 1)
	c.put(0, "a", "1")
	if _, _, err := c.nodes[0].ChangeMember(t.Context(), 2, true, nil); !errors.Is(err, placement.ErrNeeded) {
		t.Fatalf("one of two is removed: %v", err)
	}
}
