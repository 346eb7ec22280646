package node

import (
	"slices"
	"testing"
	"time"

	"github.com/flotilladb/flotilla/internal/clock"
	"github.com/flotilladb/flotilla/internal/gossip"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/range"
	"github.com/flotilladb/flotilla/router"
)

// A store that was removed is not talked to any more, also by a node that hears of it only
// when it asks; and whoever looks for room does not count it.
func TestRemovedStoreIsForgotten(t *testing.T) {
	c := newNetCluster(t, 5)
	c.start(0, 1, 2)
	c.start(3)
	c.start(4) // neither has a replica
	knows := func(i int) (known bool) {
		if err := c.nodes[i].inLoop(t.Context(), func() { known = slices.Contains(c.nodes[i].core.order, 5) }); err != nil {
			t.Fatal(err)
		}
		return known
	}
	c.put(4, "a", "1")
	c.stop(4)
	for i := range 4 {
		until(t, "the fifth is not known", func() bool { return knows(i) })
	}
	c.remove(0, 4)
	for i := range 4 {
		until(t, "who was removed is still talked to", func() bool { return !knows(i) && c.nodes[i].peers.Load().t.Stores() == 3 })
		until(t, "gossip still looks for who was removed", func() bool {
			return !slices.ContainsFunc(c.nodes[i].Gossip(), func(e gossip.Event) bool { return e.Member.Store == 5 })
		})
	}
	c.put(3, "a", "2")
}

// One that is heard again is answered, and goes on with its session.
func TestForgottenStoreIsHeard(t *testing.T) {
	now := clock.Time(time.Minute)
	r, err := router.New(router.Config{Store: 2, StoreStart: 1})
	if err != nil {
		t.Fatal(err)
	}
	c := &Core{cfg: CoreConfig{StoreID: 2, StoreStart: 1}, many: true, now: now, store: &ranges.Store{}, router: r, peers: newPeers()}
	a, b := linked(t, now)
	c.links[1], c.order = b, []metapb.StoreID{1}
	c.Left([]metapb.StoreID{1})
	c.tickLeft()
	if len(c.order) != 1 {
		t.Fatal("one that is heard was forgotten")
	}
	session := b.session
	c.now = now.Add(forgetAfter)
	c.tickLeft()
	if len(c.order) != 0 || !slices.Equal(c.forgotten, []metapb.StoreID{1}) {
		t.Fatalf("talks to %v, forgot %v", c.order, c.forgotten)
	}
	for range 2 { // the second answers what is said to the first
		if err := c.Step(a.hello(c.now)); err != nil {
			t.Fatal(err)
		}
		a.step(b.hello(c.now), c.now)
	}
	if !slices.Equal(c.order, []metapb.StoreID{1}) || !b.ready() || b.session <= session {
		t.Fatalf("talks to %v, session %d after %d", c.order, b.session, session)
	}
}

// Three stores are full. A fourth one has no room if it was removed.
func TestRemovedStoreHasNoRoom(t *testing.T) {
	c := &Core{peers: newPeers()}
	for id := metapb.StoreID(2); id <= 4; id++ {
		c.meetStore(id)
		c.links[id].peerFull = id < 4
	}
	c.full = true
	c.cfg.StoreID = 1
	if !c.NoneTakes() {
		t.Error("one of four can take nothing that three have to")
	}
	c.links[3].peerFull = false
	if c.NoneTakes() {
		t.Error("two of four can")
	}
	c.Left([]metapb.StoreID{4})
	if !c.NoneTakes() {
		t.Error("one of three can not")
	}
}
