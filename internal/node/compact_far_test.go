package node

import (
	"context"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// A node without a replica of the system range knows of a compaction that was asked for
// through it, and so ends the wait for what is to be removed here.
func TestFarPhysicalCompaction(t *testing.T) {
	c := newNetCluster(t, 4)
	c.start(0, 1, 2)
	c.put(0, "k", "old")
	last := c.put(1, "k", "new")
	c.start(3)
	far := c.nodes[3]
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := far.KV().Compact(ctx, &pb.CompactionRequest{Revision: last, Physical: true}); err != nil {
		t.Fatal(err)
	}
	if _, compacted := far.Current(); int64(compacted) != last {
		t.Errorf("compacted up to %d, known to be up to %d", last, compacted)
	}
}
