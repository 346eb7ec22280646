package watchfeed

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand"
	"slices"
	"testing"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/mvcc"
	"github.com/flotilladb/flotilla/proto/txnpb"
)

// Two halves that are joined are what one scan is, window after window, wherever the cut
// is and however few versions one of them has. Each window goes on by a revision at least.
func TestHalves(t *testing.T) {
	rng := rand.New(rand.NewSource(1))
	removal := func() Revision { return -1 }
	scratch := new(mvcc.HistoryScratch)
	for range 200 {
		eng := engine.NewMem()
		batch := eng.NewBatch()
		var want []string
		last := Revision(2 + rng.Intn(60))
		for rev := Revision(2); rev <= last; rev++ {
			for sub := range uint32(1 + rng.Intn(3)) {
				key := fmt.Appendf(nil, "k%02d%d", rng.Intn(30), sub)
				m := &txnpb.Mutation{Key: key, Sub: sub, Value: make([]byte, rng.Intn(200)), CreateRevision: int64(rev), Version: 1}
				mvcc.AppendMutation(batch, rev, m)
				want = append(want, fmt.Sprintf("%d.%d %s", rev, sub, key))
			}
		}
		if err := eng.Commit(batch, false); err != nil {
			t.Fatal(err)
		}
		whole := Scan{
			ID: 7, Start: []byte("k"), End: []byte("l"), To: last, BytesMax: 1 + rng.Intn(4000), Prev: rng.Intn(2) == 0,
			Middle: fmt.Appendf(nil, "k%02d", rng.Intn(30)),
		}
		var got []string
		for whole.From < last {
			left, right := whole.Halves()
			r := whole.Join([]Scanned{
				left.Do(eng, removal, scratch), right.Do(eng, removal, scratch),
			})
			if r.Err != nil || r.ID != 7 || r.Through <= whole.From || r.Through > last {
				t.Fatalf("from %d through %d, id %d: %v", whole.From, r.Through, r.ID, r.Err)
			}
			for _, ev := range r.Events {
				got = append(got, fmt.Sprintf("%d.%d %s", ev.Revision, ev.Sub, ev.Key))
			}
			whole.From = r.Through
		}
		if !slices.Equal(got, want) {
			t.Fatalf("cut at %s, %d bytes:\n%v, want\n%v", whole.Middle, whole.BytesMax, got, want)
		}
	}
}

// A hub reads the halves side by side, and a watch gets all that is in them, in order.
func TestResumeOverHalves(t *testing.T) {
	const versions = 3000 * (halvesFrom / 1000)
	eng, err := engine.OpenPebble(engine.Config{Dir: t.TempDir(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := eng.Close(); err != nil {
			t.Error(err)
		}
	})
	fill(t, eng, versions, 1_000_000)
	h := newBenchHubOn(t, 8, eng, versions+1)
	s, err := h.Open(StreamConfig{})
	if err == nil {
		err = s.Create(CreateRequest{Key: []byte("k"), End: []byte("l"), Start: 2})
	}
	if err != nil {
		t.Fatal(err)
	}
	for next := int64(2); next < versions+2; {
		rs, err := s.Recv(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		for i := range rs {
			for _, ev := range rs[i].Events {
				if ev.Revision != next {
					t.Fatalf("revision %d, want %d", ev.Revision, next)
				}
				next++
			}
		}
	}
	if h.Stats().Scans == 0 {
		t.Fatal("nothing was read from the engine")
	}
}

// A watch resumed far back: random keys, 256 bytes, everything from the engine.
// An op is a million events.
func BenchmarkResume(b *testing.B) {
	const versions, keyspace = 1000000, 500000
	eng, err := engine.OpenPebble(engine.Config{Dir: b.TempDir(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	defer eng.Close()
	fill(b, eng, versions, keyspace)
	for _, prev := range []bool{false, true} {
		b.Run(fmt.Sprintf("prev=%v", prev), func(b *testing.B) {
			h := newBenchHubOn(b, 64, eng, versions+1)
			for b.Loop() {
				resume(b, h.Hub, versions, prev)
			}
			b.ReportMetric(float64(b.N*versions)/b.Elapsed().Seconds(), "events/s")
			b.ReportMetric(float64(h.Stats().Scans), "scans")
		})
	}
}

// resume takes all events from the first on.
func resume(b *testing.B, h *Hub, want int, prev bool) {
	s, err := h.Open(StreamConfig{})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	if err := s.Create(CreateRequest{Key: []byte("k"), End: []byte("l"), Start: 2, PrevKV: prev}); err != nil {
		b.Fatal(err)
	}
	var buf []Response
	for got := 0; got < want; {
		rs, err := s.Recv(context.Background(), buf)
		if err != nil {
			b.Fatal(err)
		}
		for i := range rs {
			got += len(rs[i].Events)
		}
		buf = rs
	}
}

func fill(b testing.TB, eng engine.Engine, versions, keyspace int) {
	rng := rand.New(rand.NewSource(1))
	seen := make([]struct{ create, version int64 }, keyspace)
	batch := eng.NewBatch()
	defer batch.Close()
	for i := range versions {
		n := rng.Intn(keyspace)
		rev := int64(i + 2)
		if seen[n].version++; seen[n].version == 1 {
			seen[n].create = rev
		}
		value := make([]byte, 256)
		rng.Read(value)
		mvcc.AppendMutation(batch, Revision(rev), &txnpb.Mutation{
			Key: fmt.Appendf(nil, "k%06d", n), Value: value, CreateRevision: seen[n].create, Version: seen[n].version,
		})
		if i%1000 == 999 {
			if err := eng.Commit(batch, false); err != nil {
				b.Fatal(err)
			}
			batch.Reset()
		}
	}
}
