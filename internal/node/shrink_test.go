package node

import (
	"errors"
	"testing"

	"github.com/flotilladb/flotilla/proto/adminpb"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/peerpb"
)

// The last replica but one is taken away, and whoever asked for it is told so. The last
// one stays.
func TestRemoveToTheLastReplica(t *testing.T) {
	c := newNetCluster(t, 3)
	c.start(0, 1, 2)
	c.put(0, "a", "1")
	for _, store := range []uint64{3, 2} {
		resp, err := c.nodes[0].MoveReplica(t.Context(), &adminpb.MoveReplicaRequest{RangeId: uint64(DataRange), FromStoreId: store})
		if err != nil {
			t.Fatalf("the replica of store %d is taken away: %v", store, err)
		}
		if resp.Descriptor_.ReplicaOn(metapb.StoreID(store)) != nil {
			t.Fatalf("it is there: %v", resp.Descriptor_)
		}
	}
	_, err := c.nodes[0].MoveReplica(t.Context(), &adminpb.MoveReplicaRequest{RangeId: uint64(DataRange), FromStoreId: 1})
	if !errors.Is(err, peerpb.ErrLastReplica) {
		t.Errorf("the last one is taken away: %v", err)
	}
	c.put(2, "a", "2")
}
