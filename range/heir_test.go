package ranges

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/peerpb"
)

// A store was away, its replica needs a snapshot, and that takes its time. By the number of
// entries, which are large, it lacks little. It is not that one that is to lead instead, be it
// that somebody says so: the transfer would keep transactions away, and be given up, and asked
// for again by the planner, since that store leads the least.
func TestHeirNeedsNoSnapshot(t *testing.T) {
	c, leader, follower, third := clusterThatWentOn(t)
	if err := third.open(); err != nil {
		t.Fatal(err)
	}
	key := snapshotKey{2, metapb.ReplicaID(leader.store.Replica(2).desc.ReplicaOn(third.id).ReplicaId)}
	slow := func() {
		c.net = slices.DeleteFunc(c.net, func(p clusterPacket) bool { return p.to == third.id && p.chunk != nil })
	}
	c.until(t, 5*time.Second, "the third is to get a snapshot", func() bool {
		slow()
		return leader.store.Live(third.id) && leader.senders[key] != nil
	})
	if heirs := leader.store.Heirs(2); !slices.Equal(heirs, []metapb.StoreID{follower.id}) {
		t.Errorf("heirs of store %d are %v; store %d needs a snapshot", leader.id, heirs, third.id)
	}
	if err := leader.store.Transfer(2, third.id); !errors.Is(err, peerpb.ErrRefused) || leader.store.Replica(2).Transferring() {
		t.Errorf("a transfer to it begins: %v", err)
	}
	c.until(t, 20*time.Second, "it is one when it has got that", func() bool { return len(leader.store.Heirs(2)) == 2 })
	if err := leader.store.Transfer(2, third.id); err != nil {
		t.Error(err)
	}
	c.until(t, 5*time.Second, "the third leads", func() bool { return c.holder(2) == third })
}

// What a replica acknowledges does not come for long, as where its store's disk stands still,
// while its store is heard of. Who was to lead in vain is not chosen again as long as there is
// another: each time nothing is written for seconds.
func TestHeirThatBalked(t *testing.T) {
	c := calmCluster(t, 1)
	leader := c.holder(2)
	r := leader.store.Replica(2)
	heir, other := c.nodes[leader.id%3], c.nodes[(leader.id+1)%3]
	stalls := true
	slow := func() {
		c.net = slices.DeleteFunc(c.net, func(p clusterPacket) bool { return stalls && p.from == heir.id && p.raft != nil })
	}
	acked := c.acked
	c.putAt(t, leader, "first", slow, func() bool { return c.acked > acked })
	if err := leader.store.Transfer(2, heir.id); err != nil {
		t.Fatal(err)
	}
	c.until(t, 10*time.Second, "it is given up", func() bool {
		slow()
		return !r.Transferring()
	})
	if r.Leader() != leader.id {
		t.Fatalf("store %d leads", r.Leader())
	}
	if heirs := leader.store.Heirs(2); !slices.Equal(heirs, []metapb.StoreID{other.id}) {
		t.Errorf("the heirs are %v, store %d did not get to it", heirs, heir.id)
	}
	stalls = false
	other.crash()
	c.until(t, 5*time.Second, "the other is missed", func() bool { return !leader.store.Live(other.id) })
	if heirs := leader.store.Heirs(2); !slices.Equal(heirs, []metapb.StoreID{heir.id}) {
		t.Errorf("without the other one the heirs are %v", heirs)
	}
}
