package watchfeed

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand"
	"testing"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/mvcc"
	"github.com/flotilladb/flotilla/proto/txnpb"
)

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

func fill(b *testing.B, eng engine.Engine, versions, keyspace int) {
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
