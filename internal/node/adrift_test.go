package node

import (
	"errors"
	"sync"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/flotilladb/flotilla/proto/adminpb"
)

// move has the replicas of the first two ranges go from one store to another.
func (c *netCluster) move(by int, from, to uint64) {
	c.t.Helper()
	var wg sync.WaitGroup
	errs := make([]error, 2)
	for i := range errs {
		wg.Go(func() {
			_, errs[i] = c.nodes[by].MoveReplica(c.t.Context(), &adminpb.MoveReplicaRequest{RangeId: uint64(i + 1), FromStoreId: from, ToStoreId: to})
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		c.t.Fatalf("from %d to %d: %v", from, to, err)
	}
}

// While a node is away all replicas of the ranges that it has go elsewhere, so that none of the
// stores that it knows to have them can tell. It finds who can, serves, and its own replicas go.
func TestAllMovedWhileAway(t *testing.T) {
	c := newNetCluster(t, 6)
	c.start(0, 1, 2)
	for i := 3; i < 6; i++ {
		c.start(i)
	}
	c.put(0, "a", "1")
	c.stop(2)
	c.move(0, 3, 4)
	c.move(0, 1, 5)
	c.move(0, 2, 6)
	c.put(0, "a", "2")
	c.start(2)
	c.put(2, "a", "3")
	until(t, "it still has the replicas", func() (none bool) {
		if err := c.nodes[2].inLoop(t.Context(), func() { none = len(c.nodes[2].core.Store().IDs()) == 0 }); err != nil {
			t.Fatal(err)
		}
		return none
	})
	got, err := c.nodes[2].KV().Range(t.Context(), &pb.RangeRequest{Key: []byte("a"), Serializable: true})
	if err != nil || len(got.Kvs) != 1 || string(got.Kvs[0].Value) != "3" {
		t.Fatalf("it reads %v, %v", got, err)
	}
}
