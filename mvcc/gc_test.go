package mvcc

import (
	"fmt"
	"math/rand"
	"slices"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// collect removes what a compaction no longer needs.
func (w *world) collect(from, to Revision, budget CollectBudget) (steps, deleted int) {
	c := NewCollector(nil, nil, from, to)
	for {
		steps++
		b := w.eng.NewBatch()
		n, done, err := c.Step(w.eng, b, budget)
		must(w.t, err)
		must(w.t, w.eng.Commit(b, false))
		deleted += n
		if done {
			return steps, deleted
		}
		if steps > 100_000 {
			w.t.Fatal("the collection does not end")
		}
	}
}

// leaves says, the slow way, which versions a compaction leaves.
func leaves(versions []Version, to Revision) []Version {
	newest := make(map[string]int)
	for i, v := range versions {
		if v.Revision <= to {
			newest[string(v.Key)] = i
		}
	}
	var out []Version
	for i, v := range versions {
		if v.Revision >= to || newest[string(v.Key)] == i && !v.Tombstone {
			out = append(out, v)
		}
	}
	return out
}

func TestCollect(t *testing.T) {
	for seed := range int64(60) {
		rng := rand.New(rand.NewSource(seed))
		w := newWorld(t)
		g := &generator{rng: rng}
		from := Revision(0)
		for range 6 {
			for range rng.Intn(40) {
				g.rev = int64(w.rev)
				if req := g.write(); Validate(req, 128) == nil {
					_, _ = w.do(req)
				}
			}
			to := max(w.rev-Revision(rng.Intn(10)), from)
			before := len(w.stored())
			_, deleted := w.collect(from, to, CollectBudget{RowsMax: 1 + rng.Intn(12)})
			want := leaves(w.versions, to)
			slices.SortFunc(want, func(a, b Version) int { return compareVersions(&a, &b) })
			got := w.stored()
			if !slices.EqualFunc(got, want, sameVersion) {
				t.Fatalf("seed %d, collect (%d, %d]:\ngot  %v\nwant %v", seed, from, to, got, want)
			}
			if before-deleted != len(got) {
				t.Fatalf("seed %d: %d deletes for %d rows", seed, deleted, before-len(got))
			}
			from = to
		}
	}
}

// A step that ends amid a key's versions leaves the key readable, and a
// collection begun again from the start removes the rest.
func TestCollectInterrupted(t *testing.T) {
	for budget := 1; budget < 12; budget++ {
		w := newWorld(t)
		for i := range 20 {
			_, err := w.do(&pb.PutRequest{Key: []byte("k"), Value: fmt.Append(nil, i)})
			must(t, err)
		}
		_, err := w.do(&pb.DeleteRangeRequest{Key: []byte("k")})
		must(t, err)
		to := w.rev + 1
		c := NewCollector(nil, nil, 0, to)
		b := w.eng.NewBatch()
		_, _, err = c.Step(w.eng, b, CollectBudget{RowsMax: budget})
		must(t, err)
		must(t, w.eng.Commit(b, false))
		if kv, err := Get(w.eng, []byte("k"), Latest); kv != nil || err != nil {
			t.Fatalf("budget %d: the key came back: %v, %v", budget, kv, err)
		}
		w.collect(0, to, CollectBudget{RowsMax: budget})
		if left := w.stored(); len(left) != 0 {
			t.Fatalf("budget %d: left %v", budget, left)
		}
	}
}

// A crash may keep any number of a collection's steps; one that begins again
// from the same revision removes all that the first would have.
func TestCollectAfterCrash(t *testing.T) {
	for seed := range int64(300) {
		rng := rand.New(rand.NewSource(seed))
		w := newWorld(t)
		g := &generator{rng: rng}
		from := Revision(0)
		for range 4 {
			for range rng.Intn(30) {
				g.rev = int64(w.rev)
				if req := g.write(); Validate(req, 128) == nil {
					_, _ = w.do(req)
				}
			}
			to := max(w.rev-Revision(rng.Intn(10)), from)
			c := NewCollector(nil, nil, from, to)
			for range rng.Intn(12) {
				b := w.eng.NewBatch()
				_, _, err := c.Step(w.eng, b, CollectBudget{RowsMax: 1 + rng.Intn(3)})
				must(t, err)
				must(t, w.eng.Commit(b, false))
			}
			w.collect(from, to, CollectBudget{RowsMax: 1 + rng.Intn(12)})
			want := leaves(w.versions, to)
			slices.SortFunc(want, func(a, b Version) int { return compareVersions(&a, &b) })
			if got := w.stored(); !slices.EqualFunc(got, want, sameVersion) {
				t.Fatalf("seed %d, collect (%d, %d] twice:\ngot  %v\nwant %v", seed, from, to, got, want)
			}
			from = to
		}
	}
}

// A collection stays inside its span.
func TestCollectSpan(t *testing.T) {
	w := randomWorld(t, rand.New(rand.NewSource(3)), 200)
	c := NewCollector([]byte("b"), []byte("d"), 0, w.rev)
	b := w.eng.NewBatch()
	for done := false; !done; {
		var err error
		b.Reset()
		_, done, err = c.Step(w.eng, b, CollectBudget{RowsMax: 7})
		must(t, err)
		must(t, w.eng.Commit(b, false))
	}
	inside := func(v Version) bool { return string(v.Key) >= "b" && string(v.Key) < "d" }
	var want []Version
	left := leaves(w.versions, w.rev)
	for _, v := range w.versions {
		if !inside(v) || slices.ContainsFunc(left, func(l Version) bool { return sameVersion(l, v) }) {
			want = append(want, v)
		}
	}
	if got := w.stored(); !slices.EqualFunc(got, want, sameVersion) {
		t.Fatalf("got  %v\nwant %v", got, want)
	}
}
