package lease

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand"
	"reflect"
	"slices"
	"testing"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/proto/cmdpb"
	"github.com/flotilladb/flotilla/proto/metapb"
)

// pair is a table and an index, their twins of maps, and the engine that has the
// rows.
type pair struct {
	table   *Table
	index   *Index
	records map[ID]Record
	keys    map[string]ID
	span    metapb.Span
}

func newPair(span metapb.Span) *pair {
	return &pair{NewTable(span), NewIndex(span), map[ID]Record{}, map[string]ID{}, span}
}

// TestTableTwin changes, splits and sweeps tables and indexes at random, side by
// side with plain maps, and loads them again from an engine.
func TestTableTwin(t *testing.T) {
	rng := rand.New(rand.NewSource(2))
	for range 40 {
		eng := engine.NewMem()
		pairs := []*pair{newPair(metapb.Span{})}
		for range 300 {
			p := pairs[rng.Intn(len(pairs))]
			switch rng.Intn(12) {
			case 0:
				if right := p.split(rng); right != nil {
					pairs = append(pairs, right)
				}
			case 1, 2:
				p.table.Sweep(1 + rng.Intn(4))
				p.index.Sweep(1 + rng.Intn(4))
			default:
				p.change(t, eng, rng)
			}
			p.check(t, eng, rng)
		}
		for _, p := range pairs {
			for p.table.Sweep(3) || p.index.Sweep(3) {
			}
			p.check(t, eng, rng)
			if p.table.Len() != len(p.records) || p.index.Len() != len(p.keys) {
				t.Fatalf("swept, they hold %d and %d, want %d and %d", p.table.Len(), p.index.Len(), len(p.records), len(p.keys))
			}
		}
	}
}

func randomID(rng *rand.Rand) ID { return cmp.Or(ID(rng.Intn(40)-10), math.MinInt64) }

func (p *pair) split(rng *rand.Rand) *pair {
	at := keys.Lease(int64(randomID(rng)))
	switch rng.Intn(3) {
	case 0:
		at = keys.User([]byte{byte('a' + rng.Intn(26))})
	case 1:
		at = append(at, byte(rng.Intn(2)))[:1+rng.Intn(9)] // no address of a lease, but between two
	}
	if !p.span.Contains(at) || bytes.Equal(at, p.span.Start) {
		return nil
	}
	right := newPair(metapb.Span{Start: at, End: p.span.End})
	right.table, right.index = p.table.Split(right.span), p.index.Split(right.span)
	p.span.End = at
	for id, r := range p.records {
		if right.span.Contains(keys.Lease(int64(id))) {
			right.records[id] = r
			delete(p.records, id)
		}
	}
	for key, id := range p.keys {
		if right.span.Contains(keys.User([]byte(key))) {
			right.keys[key] = id
			delete(p.keys, key)
		}
	}
	return right
}

func (p *pair) change(t *testing.T, eng *engine.Mem, rng *rand.Rand) {
	b := eng.NewBatch()
	id, key := randomID(rng), []byte{byte('a' + rng.Intn(26)), byte('a' + rng.Intn(2))}
	if p.span.Contains(keys.Lease(int64(id))) {
		r := Record{ID: id, TTL: 1 + rng.Int63n(100), Number: rng.Uint64()}
		row := r.Row()
		if p.records[id] = r; rng.Intn(3) == 0 {
			row = DeleteRow(id)
			delete(p.records, id)
			b.Delete(keys.Row(row.Address))
		} else {
			b.Set(keys.Row(row.Address), row.Value)
		}
		if err := p.table.Apply([]*cmdpb.Row{row, {Address: keys.System("x")}}); err != nil {
			t.Fatal(err)
		}
	}
	if p.span.Contains(keys.User(key)) {
		if old, ok := p.keys[string(key)]; ok {
			p.index.Detach(key, old)
			delete(p.keys, string(key))
			b.Delete(keys.Leased(key))
		}
		if rng.Intn(3) > 0 {
			p.index.Attach(key, id)
			p.keys[string(key)] = id
			b.Set(keys.Leased(key), AppendLeased(nil, id))
		}
	}
	if err := eng.Commit(b, false); err != nil {
		t.Fatal(err)
	}
}

func (p *pair) check(t *testing.T, eng *engine.Mem, rng *rand.Rand) {
	t.Helper()
	table, index := p.table, p.index
	if rng.Intn(10) == 0 {
		table, index = NewTable(metapb.Span{}), NewIndex(metapb.Span{})
		if err := cmp.Or(table.Load(eng, p.span), index.Load(eng, p.span)); err != nil {
			t.Fatal(err)
		}
	}
	from := randomID(rng)
	var want, got []Record
	for _, id := range sortedIDs(p.records) {
		if uint64(id) >= uint64(from) {
			want = append(want, p.records[id])
		}
	}
	table.Ascend(from, func(r Record) bool { got = append(got, r); return true })
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("in %q from %d:\n%+v, want\n%+v", p.span, from, got, want)
	}
	id := randomID(rng)
	if r, ok := table.Get(id); ok != table.Has(id) || !reflect.DeepEqual(r, p.records[id]) {
		t.Fatalf("%d is %+v, want %+v", id, r, p.records[id])
	}
	var wantKeys []string
	for key, of := range p.keys {
		if of == id {
			wantKeys = append(wantKeys, key)
		}
	}
	slices.Sort(wantKeys)
	if got := fmt.Sprintf("%s", index.Keys(id)); got != fmt.Sprintf("%s", wantKeys) {
		t.Fatalf("%d has the keys %s, want %s", id, got, wantKeys)
	}
}

func sortedIDs(m map[ID]Record) []ID {
	ids := make([]ID, 0, len(m))
	for id := range m {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b ID) int { return cmp.Compare(uint64(a), uint64(b)) })
	return ids
}

func TestApplyRefusesDamage(t *testing.T) {
	table := NewTable(metapb.Span{})
	for _, row := range []*cmdpb.Row{
		{Address: []byte("t1"), Deleted: true},
		{Address: keys.Lease(1)},
		{Address: keys.Lease(1), Value: []byte{9}},
	} {
		if err := table.Apply([]*cmdpb.Row{row}); err == nil {
			t.Errorf("%v was taken in", row)
		}
	}
}

func TestFirstID(t *testing.T) {
	long := append(keys.Lease(math.MaxInt64), 0)
	for _, c := range []struct {
		addr  []byte
		first uint64
		ok    bool
	}{
		{[]byte("s"), 0, true}, {[]byte("t"), 0, true}, {[]byte("u"), 0, false},
		{[]byte{'t', 1}, 1 << 56, true}, {long, 1 << 63, true},
		{append(binary.BigEndian.AppendUint64([]byte("t"), math.MaxUint64), 0), math.MaxUint64 + 0, false},
	} {
		first, ok := firstID(c.addr)
		if ok != c.ok || ok && first != c.first {
			t.Errorf("%x: %d %t", c.addr, first, ok)
		}
	}
}

// TestPack gives back what was put in, whatever of it is packed.
func TestPack(t *testing.T) {
	table := NewTable(metapb.Span{})
	key := keys.User([]byte("a key"))
	point := metapb.Span{Start: key, End: append(slices.Clone(key), 0)}
	for i, spans := range [][]metapb.Span{
		nil,
		{point},
		{{Start: []byte{}, End: []byte{0}}},
		{{Start: key, End: append(slices.Clone(key), 0, 0)}},
		{{Start: key, End: append(slices.Clone(key), 1)}},
		{{Start: key}},
		{point, {Start: append(slices.Clone(key), 9), End: append(slices.Clone(key), 9, 0)}},
	} {
		for _, want := range []Record{
			{ID: 7, TTL: 1, Number: 1, Spans: spans},
			{ID: 7, TTL: TTLMax, Number: math.MaxUint64, Remaining: TTLMax, Spans: spans},
		} {
			if err := table.Apply([]*cmdpb.Row{want.Row()}); err != nil {
				t.Fatal(err)
			}
			got, ok := table.Get(7)
			if !ok || string(EncodeRecord(&got)) != string(EncodeRecord(&want)) || got.ID != want.ID {
				t.Errorf("spans %d: put %v in, got %v", i, want, got)
			}
		}
	}
}
