package node

import (
	"context"
	"fmt"
	"log/slog"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// open starts a node on a folder of its own.
func open(t testing.TB, dir string) *Node {
	t.Helper()
	n, err := Open(t.Context(), Config{Dir: dir, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func closeNode(t *testing.T, n *Node) {
	t.Helper()
	if err := n.Stop(context.Background()); err != nil {
		t.Fatal(err)
	}
}

func put(t *testing.T, kv *KV, key, value string, wantRev int64) {
	t.Helper()
	resp, err := kv.Put(t.Context(), &pb.PutRequest{Key: []byte(key), Value: []byte(value)})
	if err != nil {
		t.Fatal(err)
	}
	if resp.Header.Revision != wantRev {
		t.Fatalf("put %s got revision %d, want %d", key, resp.Header.Revision, wantRev)
	}
}

// A fresh node is at revision 1; keys are found on both sides of a split, and
// again after a restart, which goes on without a hole.
func TestPutSplitRestart(t *testing.T) {
	dir := t.TempDir()
	n := open(t, dir)
	kv := n.KV()
	for i := range 20 {
		put(t, kv, fmt.Sprintf("k%02d", i), "v", int64(2+i))
	}
	for i, at := range []string{"k10", "k05", "k15"} {
		done, err := n.client.Split(t.Context(), []byte(at))
		if err != nil || !done.Split {
			t.Fatalf("split %s: %v, %v", at, done, err)
		}
		put(t, kv, at, "after the split", int64(22+i))
	}
	list := func(want int64) {
		t.Helper()
		resp, err := kv.Range(t.Context(), &pb.RangeRequest{Key: []byte("k"), RangeEnd: []byte("l"), Limit: 7})
		if err != nil {
			t.Fatal(err)
		}
		if len(resp.Kvs) != 7 || resp.Count != 20 || !resp.More || resp.Header.Revision != want {
			t.Fatalf("list: %d keys, count %d, more %v, revision %d, want 7, 20, true, %d",
				len(resp.Kvs), resp.Count, resp.More, resp.Header.Revision, want)
		}
	}
	list(24)
	closeNode(t, n)

	n = open(t, dir)
	kv = n.KV()
	list(24)
	put(t, kv, "k07", "after the restart", 25)
	if ids := n.core.Store().IDs(); len(ids) != 5 {
		t.Fatalf("ranges after the restart: %v, want 5", ids)
	}
	closeNode(t, n)
}
