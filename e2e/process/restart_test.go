package process

import (
	"math/rand/v2"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// The node is killed at random moments under load, also while it starts. What
// was answered is there afterwards, and revisions only grow.
func TestKill(t *testing.T) {
	rng := rand.New(rand.NewPCG(*seed, 0))
	node := newNode(t, filepath.Join(t.TempDir(), "data"))
	l := newLedger()
	start(t, node)
	splitAt(t, node, "a/04", "a/08", "b", "z/04", "z/08")
	for i := range *kills {
		stop := make(chan struct{})
		load := l.load(node, stop)
		if *etcd == "" {
			side := rand.New(rand.NewPCG(*seed, uint64(i)))
			load.Go(func() { splits(node, side, stop) })
		}
		<-time.After(time.Duration(rng.IntN(500)) * time.Millisecond)
		node.Kill()
		close(stop)
		load.Wait()
		if rng.IntN(4) == 0 {
			if err := node.Launch(); err != nil {
				t.Fatal(err)
			}
			<-time.After(time.Duration(rng.IntN(100)) * time.Millisecond)
			node.Kill()
		}
		start(t, node)
		if err := l.check(short(t), kv(t, node), rng); err != nil {
			t.Fatalf("after kill %d of seed %d: %v\n%s", i+1, *seed, err, node.Tail())
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	t.Logf("%d kills, %d writes answered, revision %d", *kills, len(l.mu.writes), l.mu.highest)
	if len(l.mu.writes) < 10**kills {
		t.Fatalf("only %d writes in %d rounds", len(l.mu.writes), *kills)
	}
}

// An orderly stop, also under load, leaves no hole in the revisions. Every
// request of the load writes each of its keys once, so the versions of the keys
// that only single puts touch, and of the others, add up to the revision.
func TestOrderlyRestart(t *testing.T) {
	node := newNode(t, filepath.Join(t.TempDir(), "data"))
	start(t, node)
	splitAt(t, node, "a/04", "a/08", "b", "z/04", "z/08")
	l := newLedger()
	rng := rand.New(rand.NewPCG(*seed, 0))
	for round := range 5 {
		stop := make(chan struct{})
		load := l.load(node, stop)
		<-time.After(300 * time.Millisecond)
		if err := node.Stop(); err != nil {
			t.Fatalf("stop: %v\n%s", err, node.Tail())
		}
		close(stop)
		load.Wait()
		start(t, node)
		client := kv(t, node)
		if err := l.check(short(t), client, rng); err != nil {
			t.Fatal(err)
		}
		// Every write of the load puts an "a" key, so their versions count them.
		resp, err := client.Range(short(t), &pb.RangeRequest{Key: []byte("a"), RangeEnd: []byte("b")})
		if err != nil {
			t.Fatal(err)
		}
		writes := int64(0)
		for _, kv := range resp.Kvs {
			writes += kv.Version
		}
		if resp.Header.Revision != writes+1 {
			t.Fatalf("round %d: %d writes, but revision %d\n%s", round, writes, resp.Header.Revision, node.Tail())
		}
		if round > 0 && writes == 0 {
			t.Fatal("the load wrote nothing")
		}
	}
}

// Nothing writes: the revision after a stop or a kill is the one before.
func TestIdleRestart(t *testing.T) {
	node := newNode(t, filepath.Join(t.TempDir(), "data"))
	start(t, node)
	client := kv(t, node)
	for i := range 20 {
		if _, err := client.Put(short(t), &pb.PutRequest{Key: strconv.AppendInt(nil, int64(i), 10)}); err != nil {
			t.Fatal(err)
		}
	}
	for i, end := range []func() error{node.Stop, func() error { node.Kill(); return nil }, node.Stop} {
		if err := end(); err != nil {
			t.Fatal(err)
		}
		start(t, node)
		resp, err := kv(t, node).Put(short(t), &pb.PutRequest{Key: []byte("next")})
		if err != nil {
			t.Fatal(err)
		}
		if want := int64(22 + i); resp.Header.Revision != want {
			t.Fatalf("restart %d: revision %d, want %d", i, resp.Header.Revision, want)
		}
	}
}
