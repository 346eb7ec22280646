package lease

import (
	"fmt"
	"math/rand"
	"runtime"
	"testing"
	"time"

	"github.com/flotilladb/flotilla/internal/clock"
	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/proto/cmdpb"
	"github.com/flotilladb/flotilla/proto/metapb"
)

// What a lease may cost in memory. A million of them is an ordinary load.
const (
	leaseBytesMax    = 200 // table and expirer, one span registered
	attachedBytesMax = 120 // beside the key
)

func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// leases fills a table with n records of one span each, in random order of id or
// in order.
func leases(tb testing.TB, n int, ordered bool) (*Table, []ID) {
	rng := rand.New(rand.NewSource(1))
	table, ids := NewTable(metapb.Span{}), make([]ID, n)
	span := keys.UserSpan([]byte("/registry/events/"), []byte("/registry/minions/"))
	for i := range ids {
		if ids[i] = ID(rng.Int63()); ordered {
			ids[i] = ID(i + 1)
		}
		r := Record{ID: ids[i], TTL: 3600, Number: uint64(i + 1), Spans: []metapb.Span{span}}
		if err := table.Apply([]*cmdpb.Row{r.Row()}); err != nil {
			tb.Fatal(err)
		}
	}
	return table, ids
}

func led(tb testing.TB, table *Table) *Expirer {
	e, err := NewExpirer(DefaultExpirerConfig())
	if err != nil {
		tb.Fatal(err)
	}
	e.Begin(0, table, nil)
	for e.Tick(0) {
	}
	return e
}

// TestMemory holds the sizes at several numbers of leases: a map is at its worst
// just after it has grown.
func TestMemory(t *testing.T) {
	for _, n := range []int{100_000, 118_000, 150_000} {
		for _, ordered := range []bool{true, false} {
			before := heap()
			table, ids := leases(t, n, ordered)
			mid := heap()
			e := led(t, table)
			after := heap()
			idBytes := float64(8 * n)
			perTable, perExpirer := (float64(mid-before)-idBytes)/float64(n), float64(after-mid)/float64(n)
			t.Logf("%d leases, ordered=%t: %.0f B in the table, %.0f B in the expirer", n, ordered, perTable, perExpirer)
			if perTable+perExpirer > leaseBytesMax {
				t.Errorf("a lease takes %.0f B, at most %d", perTable+perExpirer, leaseBytesMax)
			}
			before = heap()
			index := NewIndex(metapb.Span{})
			total := 0
			for i, id := range ids {
				key := fmt.Appendf(nil, "/registry/events/%08d", i)
				total += len(key)
				index.Attach(key, id)
			}
			perKey := (float64(heap()-before) - float64(total)) / float64(n)
			t.Logf("%d keys, ordered=%t: %.0f B each beside the key", n, ordered, perKey)
			if perKey > attachedBytesMax {
				t.Errorf("an attached key takes %.0f B, at most %d", perKey, attachedBytesMax)
			}
			runtime.KeepAlive(table)
			runtime.KeepAlive(e)
			runtime.KeepAlive(index)
			runtime.KeepAlive(ids)
		}
	}
}

func BenchmarkRenewed(b *testing.B) {
	table, ids := leases(b, 1_000_000, false)
	e := led(b, table)
	b.ReportAllocs()
	now, i := clock.Time(0), 0
	for b.Loop() {
		now += 50_000
		if _, err := e.Renewed(ids[i%len(ids)], now); err != nil {
			b.Fatal(err)
		}
		i++
	}
}

// BenchmarkTick is the longest that a tick may take: a million renewed leases
// were queued for the same moment.
func BenchmarkTick(b *testing.B) {
	table, ids := leases(b, 1_000_000, false)
	e := led(b, table)
	now, longest := clock.Time(0), time.Duration(0)
	for b.Loop() {
		b.StopTimer()
		now = now.Add(3400 * time.Second)
		for _, id := range ids {
			if _, err := e.Renewed(id, now); err != nil {
				b.Fatal(err)
			}
		}
		now = now.Add(150 * time.Second)
		b.StartTimer()
		for more := true; more; {
			at := time.Now()
			more = e.Tick(now)
			longest = max(longest, time.Since(at))
		}
	}
	b.ReportMetric(float64(longest.Microseconds()), "µs/longest")
}

func BenchmarkApplyGrant(b *testing.B) {
	table, _ := leases(b, 1, true)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		i++
		r := Record{ID: ID(i), TTL: 60, Number: uint64(i)}
		if err := table.Apply([]*cmdpb.Row{r.Row()}); err != nil {
			b.Fatal(err)
		}
	}
}
