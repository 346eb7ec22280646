package recipes

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/leasing"
	"go.etcd.io/etcd/client/v3/mirror"
	"go.etcd.io/etcd/client/v3/namespace"
	"go.etcd.io/etcd/client/v3/ordering"
)

// writeSomewhere puts and deletes over the whole alphabet until it has done so n
// times.
func writeSomewhere(ctx context.Context, kv clientv3.KV, rng *rand.Rand, name string, n int) error {
	key := func() string { return fmt.Sprintf("%c/%s/%d", 'a'+rng.IntN(26), name, rng.IntN(10)) }
	for i := range n {
		var err error
		switch rng.IntN(5) {
		case 0:
			_, err = kv.Delete(ctx, key())
		case 1:
			from := 'a' + rng.IntN(26)
			_, err = kv.Delete(ctx, fmt.Sprintf("%c/%s/5", from, name), clientv3.WithRange(fmt.Sprintf("%c/%s/7", from+1, name)))
		case 2:
			one, other := key(), key()
			if one == other {
				continue
			}
			_, err = kv.Txn(ctx).Then(clientv3.OpPut(one, strconv.Itoa(i)), clientv3.OpPut(other, strconv.Itoa(i))).Commit()
		default:
			_, err = kv.Put(ctx, key(), strconv.Itoa(i))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// A mirror that is taken while others write ends up with the same pairs.
func TestMirror(t *testing.T) {
	s := start(t)
	ctx := soon(t)
	must(t, writeSomewhere(ctx, s, rand.New(rand.NewPCG(1, 0)), "mirror", 300))
	var wg sync.WaitGroup
	for w := range 4 {
		c := s.client(t)
		wg.Go(func() {
			if err := writeSomewhere(ctx, c, rand.New(rand.NewPCG(2, uint64(w))), "mirror", 300); err != nil {
				t.Error(err)
			}
		})
	}
	syncer := mirror.NewSyncer(s.client(t), "", 0)
	copied := make(map[string]string)
	base, errs := syncer.SyncBase(ctx)
	for resp := range base {
		for _, kv := range resp.Kvs {
			copied[string(kv.Key)] = string(kv.Value)
		}
	}
	must(t, <-errs)
	updates := syncer.SyncUpdates(ctx)
	wg.Wait()
	end := s.put(t, "zz", "the end")
	follow(t, updates, copied, end)
	if want := pairs(t, s, ""); !maps.Equal(copied, want) {
		t.Fatalf("the mirror holds %d pairs, the server %d:\n%v\n%v", len(copied), len(want), copied, want)
	}
}

// follow brings a copy to a revision.
func follow(t *testing.T, updates clientv3.WatchChan, copied map[string]string, end int64) {
	t.Helper()
	last := int64(0)
	for wr := range updates {
		must(t, wr.Err())
		for _, e := range wr.Events {
			if e.Kv.ModRevision < last {
				t.Fatalf("revision %d came after %d", e.Kv.ModRevision, last)
			}
			last = e.Kv.ModRevision
			if e.Type == clientv3.EventTypeDelete {
				delete(copied, string(e.Kv.Key))
			} else {
				copied[string(e.Kv.Key)] = string(e.Kv.Value)
			}
		}
		if last >= end {
			return
		}
	}
	t.Fatalf("the watch ended at %d, before %d", last, end)
}

// Clients that cache by leasing see each other's writes.
func TestLeasing(t *testing.T) {
	s := start(t)
	ctx := soon(t)
	const clients, rounds = 3, 40
	var kvs []clientv3.KV
	for range clients {
		kv, closeKV, err := leasing.NewKV(s.client(t), "leasing/")
		must(t, err)
		t.Cleanup(closeKV)
		kvs = append(kvs, kv)
	}
	for i := range rounds {
		key := fmt.Sprintf("%c/cached", 'a'+i%5)
		_, err := kvs[i%clients].Put(ctx, key, strconv.Itoa(i))
		must(t, err)
		for c, kv := range kvs {
			resp, err := kv.Get(ctx, key)
			must(t, err)
			if len(resp.Kvs) != 1 || string(resp.Kvs[0].Value) != strconv.Itoa(i) {
				t.Fatalf("client %d reads %v of %s, want %d", c, resp.Kvs, key, i)
			}
		}
	}
	txn, err := kvs[0].Txn(ctx).
		If(clientv3.Compare(clientv3.Value("a/cached"), "=", strconv.Itoa(rounds-5))).
		Then(clientv3.OpPut("b/cached", "txn"), clientv3.OpDelete("c/cached"), clientv3.OpGet("a/cached")).Commit()
	must(t, err)
	if !txn.Succeeded {
		t.Fatalf("the transaction took its other branch: %v", txn)
	}
	want := pairs(t, s, "b/")
	for c, kv := range kvs {
		if got := pairs(t, kv, "b/"); !maps.Equal(got, want) || got["b/cached"] != "txn" {
			t.Errorf("client %d reads %v, want %v", c, got, want)
		}
		if got := pairs(t, kv, "c/"); len(got) != 0 {
			t.Errorf("client %d reads %v, which was deleted", c, got)
		}
	}
}

// Serializable reads through the ordering client never go back.
func TestOrdering(t *testing.T) {
	s := start(t)
	ctx := soon(t)
	kv := ordering.NewKV(s.client(t), func(op clientv3.Op, _ clientv3.OpResponse, rev int64) error {
		return fmt.Errorf("a read of %q came before revision %d", op.KeyBytes(), rev)
	})
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := writeSomewhere(ctx, s, rand.New(rand.NewPCG(3, 0)), "ordering", 400); err != nil {
			t.Error(err)
		}
	})
	last := int64(0)
	for i := range 400 {
		resp, err := kv.Get(ctx, fmt.Sprintf("%c/", 'a'+i%26), clientv3.WithPrefix(), clientv3.WithSerializable())
		must(t, err)
		if resp.Header.Revision < last {
			t.Fatalf("revision %d after %d", resp.Header.Revision, last)
		}
		last = resp.Header.Revision
		_, err = kv.Txn(ctx).Then(clientv3.OpGet("a/ordering/1"), clientv3.OpGet("z/ordering/1")).Commit()
		must(t, err)
	}
	wg.Wait()
}

// A client in a namespace sees that, and nothing beside it.
func TestNamespace(t *testing.T) {
	s := start(t)
	ctx := soon(t)
	inner := s.client(t)
	inner.KV = namespace.NewKV(inner.KV, "inside/")
	inner.Watcher = namespace.NewWatcher(inner.Watcher, "inside/")
	inner.Lease = namespace.NewLease(inner.Lease, "inside/")
	watched := inner.Watch(ctx, "", clientv3.WithPrefix(), clientv3.WithRev(1), clientv3.WithPrevKV())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := writeSomewhere(ctx, s, rand.New(rand.NewPCG(4, 0)), "outside", 200); err != nil {
			t.Error(err)
		}
	})
	must(t, writeSomewhere(ctx, inner, rand.New(rand.NewPCG(5, 0)), "x", 200))
	wg.Wait() // its deletes from i/ to j/ take keys inside with them
	grant, err := inner.Grant(ctx, 60)
	must(t, err)
	_, err = inner.Put(ctx, "leased", "x", clientv3.WithLease(grant.ID))
	must(t, err)
	ttl, err := inner.TimeToLive(ctx, grant.ID, clientv3.WithAttachedKeys())
	must(t, err)
	if len(ttl.Keys) != 1 || string(ttl.Keys[0]) != "leased" {
		t.Errorf("the lease has %q", ttl.Keys)
	}
	end, err := inner.Put(ctx, "zz", "the end")
	must(t, err)
	copied := make(map[string]string)
	follow(t, watched, copied, end.Header.Revision)
	if want := pairs(t, inner, ""); !maps.Equal(copied, want) {
		t.Fatalf("watched %v, read %v", copied, want)
	}
	for key, value := range copied {
		if got, _ := s.get(t, "inside/"+key); got != value {
			t.Errorf("%q is %q inside and %q outside", key, value, got)
		}
	}
}

// A watch over everything and one for each letter see the same events, from the
// first revision and from the middle, with the pairs before them.
func TestWatchesAgree(t *testing.T) {
	s := start(t)
	ctx := soon(t)
	all := s.Watch(ctx, "\x00", clientv3.WithFromKey(), clientv3.WithPrevKV())
	var letters []clientv3.WatchChan
	other := s.client(t)
	for c := 'a'; c <= '{'; c++ {
		letters = append(letters, other.Watch(ctx, string(c)+"/", clientv3.WithPrefix(), clientv3.WithPrevKV(), clientv3.WithRev(1)))
	}
	var wg sync.WaitGroup
	for w := range 4 {
		c := s.client(t)
		wg.Go(func() {
			if err := writeSomewhere(ctx, c, rand.New(rand.NewPCG(6, uint64(w))), "agree", 400); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	end := int64(0)
	for c := 'a'; c <= '{'; c++ {
		end = s.put(t, string(c)+"/end", "x")
	}
	want := eventsUntil(t, all, func(e *clientv3.Event) bool { return e.Kv.ModRevision == end })
	var got []string
	for c, letter := range letters {
		last := string(rune('a'+c)) + "/end"
		got = append(got, eventsUntil(t, letter, func(e *clientv3.Event) bool { return string(e.Kv.Key) == last })...)
	}
	sameSet(t, got, want)
	late := eventsUntil(t, s.client(t).Watch(ctx, "\x00", clientv3.WithFromKey(), clientv3.WithPrevKV(), clientv3.WithRev(1)),
		func(e *clientv3.Event) bool { return e.Kv.ModRevision == end })
	sameSet(t, late, want)
	for i := range want {
		if late[i] != want[i] {
			t.Fatalf("event %d was %s when it happened and is %s now", i, want[i], late[i])
		}
	}
}

// eventsUntil reads a watch up to an event, each event as a text that can be
// compared, and holds it to its promises.
func eventsUntil(t *testing.T, watch clientv3.WatchChan, end func(*clientv3.Event) bool) (of []string) {
	t.Helper()
	last := int64(0)
	before := make(map[string]string)
	for {
		var wr clientv3.WatchResponse
		select {
		case wr = <-watch:
		case <-time.After(patience):
			t.Fatalf("nothing came after revision %d", last)
		}
		must(t, wr.Err())
		if len(wr.Events) > 0 && wr.Events[0].Kv.ModRevision <= last {
			t.Fatalf("revision %d came in a response of its own after %d", wr.Events[0].Kv.ModRevision, last)
		}
		for _, e := range wr.Events {
			key := string(e.Kv.Key)
			if prev, known := before[key]; known != (e.PrevKv != nil) || known && prev != string(e.PrevKv.Value) {
				t.Fatalf("%s came with %v before it, there was %q (%t)", e.Kv, e.PrevKv, prev, known)
			}
			if last = e.Kv.ModRevision; e.Type == clientv3.EventTypeDelete {
				delete(before, key)
			} else {
				before[key] = string(e.Kv.Value)
			}
			of = append(of, fmt.Sprintf("%s %q=%q at %d created %d version %d",
				e.Type, key, e.Kv.Value, e.Kv.ModRevision, e.Kv.CreateRevision, e.Kv.Version))
			if end(e) {
				return of
			}
		}
	}
}

// sameSet compares without regard to order.
func sameSet(t *testing.T, got, want []string) {
	t.Helper()
	count := make(map[string]int)
	for _, e := range want {
		count[e]++
	}
	for _, e := range got {
		if count[e]--; count[e] < 0 {
			t.Fatalf("one watch saw %s, the other did not", e)
		}
	}
	if len(got) != len(want) {
		t.Fatalf("one watch saw %d events, the other %d", len(got), len(want))
	}
}
