package mvcc

import (
	"fmt"
	"math/rand"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/proto/txnpb"
)

const benchKeys = 1_000_000

func benchKey(i int) []byte { return fmt.Appendf(nil, "/registry/pods/default/pod-%08d", i) }

func openPebble(t testing.TB) engine.Engine {
	eng, err := engine.OpenPebble(engine.Config{Dir: t.TempDir(), BallastBytes: -1})
	must(t, err)
	t.Cleanup(func() { must(t, eng.Close()) })
	return eng
}

// benchEngine is Pebble with a million keys of 256 bytes, every other number.
func benchEngine(b *testing.B) engine.Engine {
	eng := openPebble(b)
	value := make([]byte, 256)
	rand.New(rand.NewSource(1)).Read(value)
	batch := eng.NewBatch()
	for i := range benchKeys {
		rev := Revision(i + 2)
		AppendMutation(batch, rev, &txnpb.Mutation{Key: benchKey(2 * i), Value: value, CreateRevision: int64(rev), Version: 1})
		if batch.Len() > 1<<20 {
			must(b, eng.Commit(batch, false))
			batch.Reset()
		}
	}
	must(b, eng.Commit(batch, false))
	must(b, batch.Close())
	must(b, eng.Flush())
	return eng
}

func BenchmarkStore(b *testing.B) {
	eng := benchEngine(b)
	const rev = Revision(benchKeys + 1)
	value := make([]byte, 256)
	rng := rand.New(rand.NewSource(2))
	puts := make([]*pb.PutRequest, 1<<14)
	for i := range puts {
		puts[i] = &pb.PutRequest{Key: benchKey(2*rng.Intn(benchKeys) + 1), Value: value}
	}
	exists := make([][]byte, 1<<14)
	for i := range exists {
		exists[i] = benchKey(2 * rng.Intn(benchKeys))
	}
	// Batches of 40 puts, one iterator each, three batches under way.
	put := func(b *testing.B, req func(i int) *pb.PutRequest) {
		b.ReportAllocs()
		o := NewOverlay()
		var st *EngineState
		var over State
		batch := uint64(0)
		for i := range b.N {
			if i%40 == 0 {
				if st != nil {
					must(b, st.Close())
					o.Fill(batch, rev+Revision(i))
					if batch > 3 {
						o.Applied(batch - 3)
					}
				}
				batch++
				st = NewEngineState(eng, nil, nil)
				over = o.Over(st)
			}
			at := OpenRevision + Revision(i%40)
			res, err := Evaluate(over, Env{Revision: at, Known: rev, Compacted: -1}, req(i))
			if err != nil || !res.Changed {
				b.Fatal(err)
			}
			o.Add(batch, at, res.Mutations)
		}
		must(b, st.Close())
	}
	b.Run("PutNewKey", func(b *testing.B) {
		put(b, func(i int) *pb.PutRequest { return puts[i%len(puts)] })
	})
	b.Run("PutOldKey", func(b *testing.B) {
		put(b, func(i int) *pb.PutRequest { return &pb.PutRequest{Key: exists[i%len(exists)], Value: value} })
	})
	b.Run("PutHotKey", func(b *testing.B) {
		hot := &pb.PutRequest{Key: exists[0], Value: value}
		put(b, func(int) *pb.PutRequest { return hot })
	})
	b.Run("Append", func(b *testing.B) {
		b.ReportAllocs()
		batch := eng.NewBatch()
		m := &txnpb.Mutation{Key: exists[0], Value: value, CreateRevision: 5, Version: 1}
		for i := range b.N {
			if i%40 == 0 {
				batch.Reset()
			}
			AppendMutation(batch, rev, m)
		}
		must(b, batch.Close())
	})
	b.Run("Get", func(b *testing.B) {
		b.ReportAllocs()
		for i := range b.N {
			if kv, err := Get(eng, exists[i%len(exists)], rev); kv == nil || err != nil {
				b.Fatal(kv, err)
			}
		}
	})
	b.Run("GetMissing", func(b *testing.B) {
		b.ReportAllocs()
		for i := range b.N {
			if kv, err := Get(eng, puts[i%len(puts)].Key, rev); kv != nil || err != nil {
				b.Fatal(kv, err)
			}
		}
	})
	for _, keysOnly := range []bool{true, false} {
		b.Run(fmt.Sprintf("Page500/keysonly=%v", keysOnly), func(b *testing.B) {
			b.ReportAllocs()
			for i := range b.N {
				page, err := ReadPage(eng, exists[i%len(exists)], nil, rev, PageOptions{LimitRows: 500, KeysOnly: keysOnly})
				if err != nil || len(page.KVs) == 0 {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("Count", func(b *testing.B) {
		x := NewCountIndex(nil, nil)
		for {
			task, err := x.Begin(eng, 100_000)
			must(b, err)
			if task == nil {
				break
			}
			must(b, task.Run())
			must(b, x.Finish(task))
		}
		b.ReportAllocs()
		b.ResetTimer()
		for i := range b.N {
			if n, err := x.Count(eng, exists[i%len(exists)], nil, rev); n == 0 || err != nil {
				b.Fatal(n, err)
			}
		}
	})
	b.Run("CountBuildStep4096", func(b *testing.B) {
		x := NewCountIndex(nil, nil)
		for range b.N {
			task, err := x.Begin(eng, 4096)
			must(b, err)
			if task == nil {
				x = NewCountIndex(nil, nil)
				continue
			}
			must(b, task.Run())
			must(b, x.Finish(task))
		}
	})
}
