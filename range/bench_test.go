package ranges

import (
	"fmt"
	"syscall"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/peerpb"
)

// benchStore drives a store with as little around it as can be: what is measured
// is the pipeline, raft and the engine, without a sync.
type benchStore struct {
	b      *testing.B
	eng    engine.Engine
	store  *Store
	issued Revision
	done   int
	ids    []metapb.RangeID
	reqs   []*pb.PutRequest
}

func newBenchStore(b *testing.B, eng engine.Engine, ranges int) *benchStore {
	s := &benchStore{b: b, eng: eng, issued: 1}
	batch := eng.NewBatch()
	border := func(i int) []byte { return keys.User(fmt.Appendf(nil, "key%03d", i)) }
	for i := range ranges {
		d := &metapb.Descriptor{RangeId: uint64(i + 2), Generation: 1, NextReplicaId: 2, Start: border(i)}
		if i+1 < ranges {
			d.End = border(i + 1)
		}
		d.Replicas = []*metapb.Replica{{ReplicaId: 1, StoreId: 1, NodeId: 1}}
		s.must(Bootstrap(batch, d, 1))
		s.ids = append(s.ids, d.ID())
	}
	s.must(eng.Commit(batch, false))
	store, err := NewStore(Config{
		NodeID: 1, StoreID: 1, StoreStart: 1, Reader: eng, NewBatch: eng.NewBatch, System: noSystem{},
	})
	s.must(err)
	s.store = store
	s.must(store.Campaign())
	s.run()
	for i := range 1 << 14 {
		s.reqs = append(s.reqs, &pb.PutRequest{
			Key: fmt.Appendf(nil, "key%03d/%05d", i%ranges, i), Value: make([]byte, 256),
		})
	}
	return s
}

func (s *benchStore) must(err error) {
	if err != nil {
		s.b.Fatal(err)
	}
}

func (s *benchStore) run() {
	for s.store.HasWork() {
		s.store.Evaluate()
		for _, a := range s.store.Asks() {
			s.store.Granted(Grant{Ask: a, First: s.issued + 1, Current: s.issued, Epoch: 1, Compacted: -1})
			s.issued += Revision(a.N)
		}
		rd, err := s.store.Collect()
		s.must(err)
		if rd.Apply != nil {
			s.must(s.eng.Commit(rd.Apply, false))
			s.must(rd.Apply.Close())
		}
		s.store.Advance()
		s.store.Touched(func(r *Replica) { r.Bound() })
		s.done += len(s.store.Output().Replies)
		if rd.Append != nil {
			s.must(s.eng.Commit(rd.Append, false))
			s.must(rd.Append.Close())
			s.must(s.store.Synced(rd.Token))
		}
	}
}

// put runs one batch of n puts at each range.
func (s *benchStore) put(n int) {
	want := s.done + n*len(s.ids)
	for i := range n * len(s.ids) {
		at := want + i
		s.store.Request(&peerpb.Request{
			ID: uint64(at), Range: s.ids[at%len(s.ids)], Generation: 1,
			Body: &peerpb.Write{Req: s.reqs[at%len(s.reqs)]},
		})
	}
	s.run()
	if s.done != want {
		s.b.Fatalf("%d replies, want %d", s.done, want)
	}
}

// nullEngine takes writes and has nothing to read but what was there before.
type nullEngine struct{ *engine.Mem }

func (nullEngine) Commit(engine.Batch, bool) error { return nil }
func (e nullEngine) NewBatch() engine.Batch        { return &nullBatch{} }

// nullBatch drops what is written.
type nullBatch struct {
	buf      []byte
	n, count int
}

func (b *nullBatch) Set(k, v []byte) { b.n += len(k) + len(v); b.count++ }
func (b *nullBatch) SetDeferred(k, v int) (key, value []byte) {
	b.n, b.count = b.n+k+v, b.count+1
	if len(b.buf) < k+v {
		b.buf = make([]byte, k+v)
	}
	return b.buf[:k:k], b.buf[k : k+v]
}
func (b *nullBatch) Delete([]byte)              { b.count++ }
func (b *nullBatch) DeleteRange([]byte, []byte) { b.count++ }
func (b *nullBatch) Empty() bool                { return b.count == 0 }
func (b *nullBatch) Len() int                   { return b.n }
func (b *nullBatch) Count() int                 { return b.count }
func (b *nullBatch) Reset()                     { *b = nullBatch{buf: b.buf} }
func (b *nullBatch) Close() error               { return nil }

// BenchmarkPut is a put through the store. "null" writes nothing: what is left
// is the pipeline and raft.
func BenchmarkPut(b *testing.B) {
	for _, kind := range []string{"null", "mem", "pebble"} {
		for _, c := range []struct{ ranges, puts int }{{1, 1}, {1, 10}, {1, 100}, {64, 3}, {64, 8}} {
			b.Run(fmt.Sprintf("%s/ranges=%d/puts=%d", kind, c.ranges, c.puts), func(b *testing.B) {
				var eng engine.Engine = engine.NewMem()
				if kind == "pebble" {
					p, err := engine.OpenPebble(engine.Config{Dir: b.TempDir()})
					if err != nil {
						b.Fatal(err)
					}
					defer p.Close()
					eng = p
				}
				s := newBenchStore(b, eng, c.ranges)
				if kind == "null" {
					s.eng = nullEngine{eng.(*engine.Mem)}
					s.store.cfg.NewBatch = s.eng.NewBatch
					s.store.cfg.LogBytesMax = 1 << 60 // a cut reads the log
				}
				b.ReportAllocs()
				b.ResetTimer()
				begun := cpuTime(b)
				for range (b.N + c.ranges*c.puts - 1) / (c.ranges * c.puts) {
					s.put(c.puts)
				}
				b.ReportMetric(float64(cpuTime(b)-begun)/float64(b.N), "cpu-ns/op")
			})
		}
	}
}

// cpuTime is what the process has used, in nanoseconds: on a machine that others
// use as well it says more than the time that went by.
func cpuTime(b *testing.B) int64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return u.Utime.Nano() + u.Stime.Nano()
}
