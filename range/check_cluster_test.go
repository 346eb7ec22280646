package ranges

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/proto/metapb"
)

// checkSum is what a replica hashed for a check.
type checkSum struct {
	index uint64
	sum   []byte
	err   error
}

// takeCheckpoints hashes states when something else has happened meanwhile: the rest
// of a turn at least.
func (n *clusterStore) takeCheckpoints(all []Checkpoint) error {
	for _, p := range all {
		if p.Hash == nil {
			continue
		}
		sum := checkSum{index: p.Index}
		for done := false; !done && sum.err == nil; {
			_, done, sum.err = p.Hash.Step(1 + n.c.rng.IntN(100))
		}
		if sum.err == nil {
			sum.sum = p.Hash.Sum()
		}
		if err := p.Hash.Close(); err != nil {
			return err
		}
		n.store.CheckpointClosed()
		if err := n.c.checked(n, p, sum); err != nil {
			return err
		}
	}
	return nil
}

// checked compares a hash with those of others. Nobody has hashed anything else.
func (c *storeCluster) checked(n *clusterStore, p Checkpoint, sum checkSum) error {
	if sum.err != nil {
		return fmt.Errorf("store %d: %w", n.id, sum.err)
	}
	if c.sums == nil {
		c.sums = make(map[CheckID]map[metapb.StoreID]checkSum)
	}
	if c.sums[p.Check] == nil {
		c.sums[p.Check] = make(map[metapb.StoreID]checkSum)
	}
	for other, o := range c.sums[p.Check] { // any order
		if other == c.damaged || n.id == c.damaged {
			continue
		}
		if o.index != sum.index || !bytes.Equal(o.sum, sum.sum) {
			return fmt.Errorf("check %v: store %d has %x at %d, store %d has %x at %d",
				p.Check, n.id, sum.sum, sum.index, other, o.sum, o.index)
		}
		c.compared++
	}
	c.sums[p.Check][n.id] = sum
	return nil
}

// beginCheck has some range that a store leads checked.
func (c *storeCluster) beginCheck(n *clusterStore) {
	ids := n.store.IDs()
	if len(ids) == 0 {
		return
	}
	c.ids++
	_ = n.store.BeginCheck(ids[c.rng.IntN(len(ids))], n.start<<32+c.ids)
}

// Replicas that went through crashes, splits, moves and snapshots have the same hash
// at the same entry.
func TestChecksAgree(t *testing.T) {
	compared, seeds := 0, uint64(*clusterSeeds)
	for seed := *clusterFrom; seed < *clusterFrom+seeds; seed++ {
		moves, stores := seed%2 == 0, metapb.StoreID(3)
		if moves {
			stores = 4
		}
		c, err := newStoreClusterOf(seed, soundCluster, stores)
		if err == nil {
			c.moves, c.checks = moves, true
			err = c.play(8000)
		}
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		compared += c.compared
	}
	t.Logf("%d pairs of hashes", compared)
	if compared < int(seeds)*20 {
		t.Errorf("only %d pairs of hashes were compared", compared)
	}
}

// changeValue changes the value of a key in a store's engine, as a bad disk would.
func changeValue(t *testing.T, eng engine.Engine, key string) {
	t.Helper()
	b := eng.NewBatch()
	span := keys.VersionSpan([]byte(key), []byte(key+"\x00"))
	it, err := eng.NewIter(engine.IterOptions{Lower: span.Start, Upper: span.End})
	if err != nil {
		t.Fatal(err)
	}
	for ok := it.First(); ok; ok = it.Next() {
		value, err := it.Value()
		if err != nil {
			t.Fatal(err)
		}
		value = bytes.Clone(value)
		value[len(value)-1]++
		b.Set(it.Key(), value)
	}
	if b.Empty() {
		t.Fatalf("there is no %s", key)
	}
	if err := errors.Join(it.Close(), eng.Commit(b, true)); err != nil {
		t.Fatal(err)
	}
}

// until lets the cluster run until something is so.
func (c *storeCluster) until(t *testing.T, d time.Duration, what string, done func() bool) {
	t.Helper()
	for end := c.now + d; !done(); {
		if c.now > end {
			t.Fatalf("not in %v: %s: %s", d, what, c.describe(2))
		}
		if err := c.step(); err != nil {
			t.Fatal(err)
		}
	}
}

// A row that was changed in one store's engine shows in the next check. What is
// condemned gives its leadership away, leads no more and stays out of service.
func TestCheckFindsChangedRow(t *testing.T) {
	c := calmCluster(t, 1)
	if err := c.checkServing(); err != nil { // writes "k"
		t.Fatal(err)
	}
	bad := c.holder(2)
	c.damaged = bad.id
	changeValue(t, bad.eng, "k")
	if err := bad.store.BeginCheck(2, 1); err != nil {
		t.Fatal(err)
	}
	sums := func() map[metapb.StoreID]checkSum { return c.sums[CheckID{2, bad.id, 1}] }
	c.until(t, time.Second, "all hash", func() bool { return len(sums()) == 3 })
	for other, sum := range sums() { // any order
		if other != bad.id && bytes.Equal(sum.sum, sums()[bad.id].sum) {
			t.Fatal("the changed row is not in the hash")
		}
	}
	r := bad.store.Replica(2)
	if !bad.store.Condemn(2, r.id, false) || bad.store.Shown(2) || r.Leads() || bad.store.HoldsLease(2) {
		t.Fatal("it is still in service")
	}
	c.until(t, 500*time.Millisecond, "another one leads", func() bool { n := c.holder(2); return n != nil && n != bad })
	if err := c.run(time.Second); err != nil {
		t.Fatal(err)
	}
	// It stays out of service after a start, and leads nothing when the leader is gone.
	bad.crash()
	if err := bad.open(); err != nil {
		t.Fatal(err)
	}
	if bad.store.Shown(2) || !bad.store.Shown(1) {
		t.Fatal("it forgot that it is out of service")
	}
	old := c.holder(2)
	old.crash()
	c.until(t, 5*time.Second, "the third leads", func() bool {
		if bad.store.Replica(2).group.IsLeader() {
			t.Fatal("it leads")
		}
		n := c.holder(2)
		return n != nil && n != bad
	})
	if n := c.holder(2); n == old {
		t.Fatal("who is gone leads")
	}
}
