package watchfeed

import (
	"context"
	"fmt"
	"math/rand"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/proto/cmdpb"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/txnpb"
)

// benchHub is a hub over some ranges, and a store that puts.
type benchHub struct {
	*Hub
	rev    atomic.Int64
	ranges int
}

func newBenchHub(tb testing.TB, ranges int) *benchHub {
	return newBenchHubOn(tb, ranges, engine.NewMem(), 1)
}

func newBenchHubOn(tb testing.TB, ranges int, eng engine.Engine, rev int64) *benchHub {
	b := &benchHub{ranges: ranges}
	b.rev.Store(rev)
	hub, err := NewHub(HubConfig{
		Core:    CoreConfig{Reader: eng},
		Current: func() (Revision, Revision) { return Revision(b.rev.Load()), -1 },
		Removal: func() Revision { return -1 },
	})
	if err != nil {
		tb.Fatal(err)
	}
	b.Hub = hub
	tb.Cleanup(hub.Stop)
	s := Step{Current: Revision(rev), Compacted: -1}
	for i := range ranges {
		d := &metapb.Descriptor{RangeId: uint64(i + 2), Generation: 1, Start: keys.User(b.start(i))}
		if i == 0 {
			d.Start = keys.UserSpan(nil, nil).Start
		}
		if i+1 < ranges {
			d.End = keys.User(b.start(i + 1))
		}
		s.Descriptors = append(s.Descriptors, d)
		s.Bounds = append(s.Bounds, RangeBound{d.ID(), NoBound})
	}
	hub.Feed(s)
	return b
}

func (b *benchHub) start(i int) []byte { return fmt.Appendf(nil, "k%06d", i*1000000/b.ranges) }

// put applies a put of key k<n>.
func (b *benchHub) put(n int, value []byte) {
	rev := b.rev.Load() + 1
	m := &txnpb.Mutation{Key: fmt.Appendf(nil, "k%06d", n), Value: value, CreateRevision: rev, Version: 1}
	id := metapb.RangeID(n*b.ranges/1000000 + 2)
	b.rev.Store(rev)
	b.Feed(Step{
		Applied: []RangeUpdates{{Range: id, Updates: []*cmdpb.Update{{Revision: rev, Mutations: []*txnpb.Mutation{m}}}}},
		Bounds:  []RangeBound{{id, NoBound}}, Current: Revision(rev), Compacted: -1,
	})
}

// One put to 10,000 watchers of one prefix, on 100 streams: what the hub and
// the streams' queues cost for each event delivered. An op is a delivery.
func BenchmarkFanOut(b *testing.B) {
	const streams, each = 100, 100
	h := newBenchHub(b, 64)
	var wg sync.WaitGroup
	var got atomic.Int64
	arrived := make(chan struct{}, 1)
	ctx, cancel := context.WithCancel(b.Context())
	for range streams {
		s, err := h.Open(StreamConfig{})
		if err != nil {
			b.Fatal(err)
		}
		for i := range each {
			if err := s.Create(CreateRequest{ID: int64(i), Key: []byte("k"), End: []byte("l")}); err != nil {
				b.Fatal(err)
			}
		}
		wg.Go(func() {
			var buf []Response
			for {
				rs, err := s.Recv(ctx, buf)
				if err != nil {
					return
				}
				if n := got.Add(int64(len(rs))); n%(streams*each) == 0 {
					arrived <- struct{}{}
				}
				buf = rs
			}
		})
	}
	<-arrived // created
	value := make([]byte, 256)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if i%(streams*each) == 0 {
			h.put(i%1000000, value)
			<-arrived
		}
	}
	if fell := h.Stats().FellBehind; fell > 0 {
		b.Errorf("%d watchers fell behind", fell)
	}
	cancel()
	wg.Wait()
}

// What a put costs that nobody watches.
func BenchmarkUnwatched(b *testing.B) {
	h := newBenchHub(b, 64)
	value := make([]byte, 256)
	rng := rand.New(rand.NewSource(1))
	b.ReportAllocs()
	for b.Loop() {
		h.put(rng.Intn(1000000), value)
	}
}

// What an idle watch takes in memory: of keys, and of spans.
func BenchmarkIdleWatch(b *testing.B) {
	for name, end := range map[string]string{"key": "", "span": "0"} {
		b.Run(name, func(b *testing.B) {
			before, resident := heapBytes(), residentBytes(b)
			h := newBenchHub(b, 64)
			const streams = 100
			var open []*Stream
			for range streams {
				s, err := h.Open(StreamConfig{})
				if err != nil {
					b.Fatal(err)
				}
				open = append(open, s)
			}
			n := 0
			var buf []Response
			for b.Loop() {
				s := open[n%streams]
				req := CreateRequest{ID: int64(n / streams), Key: fmt.Appendf(nil, "k%06d/some-name", n)}
				if end != "" {
					req.End = append(append([]byte{}, req.Key...), end...)
				}
				if err := s.Create(req); err != nil {
					b.Fatal(err)
				}
				if n++; n%1000 == 0 {
					for _, s := range open {
						rs, err := s.Recv(b.Context(), buf)
						if err != nil {
							b.Fatal(err)
						}
						buf = rs[:0]
					}
				}
			}
			b.StopTimer()
			b.ReportMetric(float64(heapBytes()-before)/float64(n), "heap-B/watch")
			b.ReportMetric(float64(residentBytes(b)-resident)/float64(n), "rss-B/watch")
			runtime.KeepAlive(open)
		})
	}
}

// residentBytes is what the process has in memory.
func residentBytes(b *testing.B) int64 {
	raw, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		b.Skip(err)
	}
	var size, resident int64
	if _, err := fmt.Sscan(string(raw), &size, &resident); err != nil {
		b.Fatal(err)
	}
	return resident * int64(os.Getpagesize())
}

func heapBytes() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// What the end of a stream costs whose 50,000 watches all wait for reads of the
// engine: the hub does nothing else meanwhile.
func BenchmarkCloseBehind(b *testing.B) {
	for name, format := range map[string]string{"keys": "k%d", "one key": "k"} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				w := newWorld(b, rand.New(rand.NewSource(1)), CoreConfig{RingBytesMax: 1})
				w.write(map[string]string{"k": "v"})
				w.apply(true)
				c := w.open(StreamConfig{})
				for i := range 50000 {
					key := []byte(format)
					if name == "keys" {
						key = fmt.Appendf(nil, format, i)
					}
					w.core.Create(c.id, &CreateRequest{ID: int64(i), Key: key, Start: 2}, w.current)
				}
				w.core.Ready()
				b.StartTimer()
				w.core.Close(c.id)
			}
		})
	}
}
