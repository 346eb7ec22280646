package node

import (
	"context"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/flotilladb/flotilla/internal/config"
	"github.com/flotilladb/flotilla/proto/adminpb"
	"github.com/flotilladb/flotilla/watchfeed"
)

// The largest request that a node may be told to take is carried by all that is said of it
// between nodes: as a request and an entry of the log, to a watch elsewhere with what was
// before, as history, and in a snapshot. What is not carried by one of them is not carried
// ever: a replica would never come, or a watch stand still.
func TestLargestRequest(t *testing.T) {
	c := newNetCluster(t, 4)
	c.start(0, 1, 2)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	first := c.put(0, "j", "")
	c.start(3)
	watch := func() *watchfeed.Stream {
		s, err := c.nodes[3].Watches().Open(watchfeed.StreamConfig{})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Create(watchfeed.CreateRequest{Key: []byte("k"), Start: first + 1, PrevKV: true}); err != nil {
			t.Fatal(err)
		}
		return s
	}
	shown := func(name string, s *watchfeed.Stream, count int) {
		for n := 0; n < count; {
			rs, err := s.Recv(ctx, nil)
			if err != nil {
				t.Fatalf("%s: %v after %d events", name, err, n)
			}
			for _, r := range rs {
				n += len(r.Events)
			}
		}
	}
	s := watch()
	value := make([]byte, config.MaxRequestBytesMax)
	writers := []int{0, 1, 3}
	for _, i := range writers {
		if _, err := c.nodes[i].KV().Put(ctx, &pb.PutRequest{Key: []byte("k"), Value: value, PrevKv: true}); err != nil {
			t.Fatalf("node %d: %v", i, err)
		}
	}
	shown("followed", s, len(writers))
	shown("read later", watch(), len(writers))
	if got, err := c.nodes[3].KV().Range(ctx, &pb.RangeRequest{Key: []byte("k")}); err != nil || len(got.Kvs) != 1 || len(got.Kvs[0].Value) != len(value) {
		t.Fatalf("read elsewhere: %v", err)
	}
	for id := uint64(1); id <= 2; id++ {
		if _, err := c.nodes[0].MoveReplica(ctx, &adminpb.MoveReplicaRequest{RangeId: id, FromStoreId: 3, ToStoreId: 4}); err != nil {
			t.Fatalf("move: %v", err)
		}
	}
}
