package node

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/flotilladb/flotilla/mvcc"
	"github.com/flotilladb/flotilla/proto/adminpb"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/peerpb"
)

// undecide has every node but the first differ from all others in a range of its own
// keys, and waits until nobody serves it.
func (c *netCluster) undecide() {
	c.t.Helper()
	c.stopAll()
	for i := range c.nodes {
		if i > 0 {
			changeRows(c.t, c.dirs[i], fmt.Sprintf("k0%d", i), fmt.Sprintf("k0%d", i+1))
		}
	}
	c.start(0, 1, 2)
	c.every(func(i int) {
		until(c.t, "a replica of the range is in service", func() bool { return c.show(i, 2).Undecided })
	})
}

// refused has every node refuse puts and reads of the range, and say why.
func (c *netCluster) refused(want error) {
	c.t.Helper()
	c.every(func(i int) {
		if _, err := c.nodes[i].KV().Put(soon(c.t), &pb.PutRequest{Key: []byte("k")}); !errors.Is(err, want) {
			c.t.Errorf("put through node %d: %v", i, err)
		}
		if _, err := c.nodes[i].KV().Range(soon(c.t), &pb.RangeRequest{Key: []byte("k01")}); !errors.Is(err, want) {
			c.t.Errorf("read through node %d: %v", i, err)
		}
	})
}

func (c *netCluster) show(i int, id metapb.RangeID) *adminpb.RangeInfo {
	c.t.Helper()
	in, err := c.nodes[i].ShowRange(c.t.Context(), &adminpb.ShowRangeRequest{RangeId: uint64(id)})
	if err != nil {
		c.t.Fatal(err)
	}
	return in
}

// trust asks a node to trust a store's replica, as often as it takes.
func (c *netCluster) trust(i int, id metapb.RangeID, store metapb.StoreID) (err error) {
	c.t.Helper()
	until(c.t, "the store does not come to an end", func() bool {
		_, err = c.nodes[i].TrustReplica(c.t.Context(), &adminpb.TrustReplicaRequest{RangeId: uint64(id), StoreId: uint64(store)})
		return !errors.Is(err, peerpb.ErrTrustUnderWay)
	})
	return err
}

// checksOften have replicas compared, and replaced.
func checksOften(cfg *Config) { cfg.NoPlanner, cfg.CheckInterval = false, 400*time.Millisecond }

// Where replicas differ without a majority nothing is served until an operator names
// one. It serves then, and is what all have, whoever led the range.
func TestOperatorDecides(t *testing.T) {
	for heir := range 2 {
		t.Run(fmt.Sprint(heir+1), func(t *testing.T) {
			t.Parallel()
			c := newNetCluster(t, 3)
			c.tune = checksOften
			c.start(0, 1, 2)
			for i := range 10 {
				c.put(i%3, fmt.Sprintf("k%02d", i), "value")
			}
			if err := c.trust(0, 2, 1); !errors.Is(err, peerpb.ErrNotUndecided) {
				t.Fatalf("all is well: %v", err)
			}
			c.undecide()
			c.refused(mvcc.ErrCorrupt)
			for _, q := range []struct {
				id    metapb.RangeID
				store metapb.StoreID
				want  error
			}{{2, 9, peerpb.ErrUnknownStore}, {7, 1, peerpb.ErrNoReplica}, {1, 1, peerpb.ErrNotUndecided}} {
				if err := c.trust(2, q.id, q.store); !errors.Is(err, q.want) {
					t.Fatalf("range %d store %d: %v", q.id, q.store, err)
				}
			}
			if err := c.trust((heir+1)%3, 2, metapb.StoreID(heir+1)); err != nil {
				t.Fatal(err)
			}
			// The others have no say any more: they are gone, or were given up.
			if err := c.trust(0, 2, metapb.StoreID((heir+1)%3+1)); !errors.Is(err, peerpb.ErrGivenUp) && !errors.Is(err, peerpb.ErrNoReplica) && !errors.Is(err, peerpb.ErrNotUndecided) {
				t.Fatalf("another one: %v", err)
			}
			c.healed(heir)
		})
	}
}

// healed waits until all nodes have what one had, which undecide changed, and serve it.
func (c *netCluster) healed(heir int) {
	c.t.Helper()
	for i := range c.nodes {
		if i != heir {
			c.replacedOn(i, 2, uint64(i+1))
		}
	}
	c.every(func(i int) {
		until(c.t, "the range is out of service", func() bool {
			in := c.show(i, 2)
			return !in.Undecided && len(in.CorruptReplicaIds) == 0 && in.LiveKeys >= 10
		})
		for k := range 10 {
			want := "value"
			if k == heir && heir > 0 {
				want = "valud"
			}
			key := fmt.Sprintf("k%02d", k)
			if got := c.get(i, key); got != want {
				c.t.Fatalf("node %d has %s=%s", i, key, got)
			}
		}
	})
	c.put((heir+1)%3, "after", "value")
	w := c.watch(heir, 2)
	if got := w.until(12); len(got) != 12 {
		c.t.Fatalf("the watch shows %q", got)
	}
}

// A store that knows of nothing else hears by itself that its replica was given up,
// and whoever asked may go away. What was begun for one is not ended for another.
func TestOperatorDecidesWhileStoresAreAway(t *testing.T) {
	t.Parallel()
	c := newNetCluster(t, 3)
	c.tune = checksOften
	c.start(0, 1, 2)
	for i := range 10 {
		c.put(i%3, fmt.Sprintf("k%02d", i), "value")
	}
	c.undecide()
	// Too few are there.
	c.stopAll()
	c.start(0, 1)
	c.stop(1)
	if _, err := c.nodes[0].TrustReplica(t.Context(), &adminpb.TrustReplicaRequest{RangeId: 2, StoreId: 1}); !errors.Is(err, peerpb.ErrTrustUnderWay) {
		t.Fatalf("nobody else is there: %v", err)
	}
	c.stop(0)
	c.start(0, 1)
	// The third is away: those who are there are enough. All of them begin anew at once.
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(300*time.Millisecond, cancel)
	_, _ = c.nodes[1].TrustReplica(ctx, &adminpb.TrustReplicaRequest{RangeId: 2, StoreId: 2})
	c.stopAll()
	c.start(0, 1)
	if err := c.trust(0, 2, 2); err != nil && !errors.Is(err, peerpb.ErrNotUndecided) {
		t.Fatal(err)
	}
	c.stop(0)
	c.start(0, 2)
	if err := c.trust(0, 2, 3); errors.Is(err, nil) {
		t.Fatal("two replicas that differ are trusted")
	}
	c.healed(1)
}
