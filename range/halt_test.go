package ranges

import (
	"errors"
	"testing"
	"time"

	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/peerpb"
)

// Nobody proposes what not all members read. Where somebody did, a replica of an older
// version stops at that entry and shows nothing, its range goes on with the others, and a
// newer version goes on where it stands.
func TestReplicaOfOlderVersionStops(t *testing.T) {
	c := calmCluster(t, 1)
	if err := c.checkServing(); err != nil {
		t.Fatal(err)
	}
	lead := c.holder(2)
	lead.store.SetFormat(metapb.FormatFirst)
	if err := lead.store.BeginCheck(2, 1); !errors.Is(err, peerpb.ErrWaitsForUpgrade) {
		t.Fatalf("a check that not all know: %v", err)
	}
	var old *clusterStore
	for _, n := range c.nodes {
		if n != lead {
			old = n
		}
	}
	old.crash()
	old.reads = metapb.FormatFirst
	if err := old.open(); err != nil {
		t.Fatal(err)
	}
	c.until(t, 5*time.Second, "all is applied there", func() bool {
		return old.store.Replica(2).state.index == lead.store.Replica(2).state.index && lead == c.holder(2)
	})
	lead.store.SetFormat(metapb.FormatNewest)
	if err := lead.store.BeginCheck(2, 2); err != nil {
		t.Fatal(err)
	}
	c.until(t, 5*time.Second, "it stops", func() bool { return len(old.halted) == 1 })
	if h := old.halted[0]; h.Range != 2 || h.Index != old.store.Replica(2).state.index+1 {
		t.Errorf("it stopped as %+v, at %d", h, old.store.Replica(2).state.index)
	}
	if old.store.Shown(2) || !old.store.Shown(1) || old.store.Replica(2).Condemned() {
		t.Error("what it has is shown, or is said to be corrupt")
	}
	// Its vote counts as before: the range goes on without the third store.
	for _, n := range c.nodes {
		if n != lead && n != old {
			n.crash()
		}
	}
	at := old.store.Replica(2).state.index
	if err := lead.store.BeginCheck(2, 3); err != nil {
		t.Fatal(err)
	}
	c.until(t, 5*time.Second, "the leader goes on", func() bool { return lead.store.Replica(2).state.index > at+1 })
	if err := c.run(time.Second); err != nil {
		t.Fatal(err)
	}
	if old.store.Replica(2).state.index != at {
		t.Error("something behind the entry was applied")
	}
	old.crash()
	old.reads = 0
	if err := old.open(); err != nil {
		t.Fatal(err)
	}
	c.until(t, 5*time.Second, "the newer version goes on", func() bool {
		return old.store.Shown(2) && old.store.Replica(2).state.index == lead.store.Replica(2).state.index
	})
}
