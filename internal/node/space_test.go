package node

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// What a compaction removes gives its space back though nothing is written any
// more. A range without garbage beside it does no harm.
func TestSpaceComesBack(t *testing.T) {
	n := open(t, t.TempDir())
	defer closeNode(t, n)
	kv := n.KV()
	rng := rand.New(rand.NewPCG(1, 1))
	value := make([]byte, 256<<10)
	var rev int64
	for i := range 200 {
		for j := range value {
			value[j] = byte(rng.Uint32())
		}
		resp, err := kv.Put(t.Context(), &pb.PutRequest{Key: fmt.Appendf(nil, "k%d", i%4), Value: value})
		if err != nil {
			t.Fatal(err)
		}
		rev = resp.Header.Revision
	}
	if _, err := n.client.Split(t.Context(), []byte("k2")); err != nil {
		t.Fatal(err)
	}
	if err := n.eng.Flush(); err != nil {
		t.Fatal(err)
	}
	before := n.eng.Stats().LogicalBytes
	if before < 40<<20 {
		t.Fatalf("%d bytes before", before)
	}
	if _, err := kv.Compact(t.Context(), &pb.CompactionRequest{Revision: rev, Physical: true}); err != nil {
		t.Fatal(err)
	}
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for n.eng.Stats().LogicalBytes > before/4 {
		select {
		case <-deadline:
			t.Fatalf("%d bytes before, %d after", before, n.eng.Stats().LogicalBytes)
		case <-tick.C:
		}
	}
	for i := range 4 {
		resp, err := kv.Range(t.Context(), &pb.RangeRequest{Key: fmt.Appendf(nil, "k%d", i)})
		if err != nil || len(resp.Kvs) != 1 || len(resp.Kvs[0].Value) != len(value) {
			t.Fatalf("k%d: %v", i, err)
		}
	}
}
