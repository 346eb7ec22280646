package ranges

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/flotilladb/flotilla/proto/cmdpb"
	"github.com/flotilladb/flotilla/proto/txnpb"
)

// randomEntry makes an entry of up to some updates, now and then with what a plain
// one has not.
func randomEntry(rng *rand.Rand, updatesMax int) *cmdpb.Entry {
	e := &cmdpb.Entry{Term: uint64(rng.IntN(3)), Generation: rng.Uint64() >> rng.IntN(64)}
	for range rng.IntN(updatesMax + 1) {
		u := &cmdpb.Update{Revision: rng.Int64() >> rng.IntN(64)}
		for sub := range rng.IntN(4) {
			m := &txnpb.Mutation{Key: fmt.Appendf(nil, "k%d", rng.IntN(100)), Sub: uint32(sub), CreateRevision: rng.Int64N(9), Version: rng.Int64N(3), Lease: rng.Int64N(2)}
			if m.Tombstone = rng.IntN(4) == 0; !m.Tombstone && rng.IntN(4) != 0 {
				m.Value = bytes.Repeat([]byte{'v'}, 1+rng.IntN(40))
			}
			u.Mutations = append(u.Mutations, m)
		}
		e.Updates = append(e.Updates, u)
	}
	if rng.IntN(8) == 0 {
		e.Commands = append(e.Commands, &cmdpb.Command{Kind: &cmdpb.Command_Check{Check: &cmdpb.CheckCommand{}}})
	}
	return e
}

// TestDecodeEntry decodes what the generated code encodes, whole, cut off, damaged and
// with fields of later versions: the two always say the same, and what comes out does
// not change with the bytes that it came from.
func TestDecodeEntry(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	plain := 0
	for i := range 3000 {
		data, err := randomEntry(rng, 5).MarshalVT()
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case i%4 == 1 && len(data) > 0:
			data = data[:rng.IntN(len(data))]
		case i%4 == 2 && len(data) > 0:
			data[rng.IntN(len(data))] ^= 1 << rng.IntN(8)
		case i%16 == 3:
			data = protowire.AppendString(protowire.AppendTag(data, 99, protowire.BytesType), "later")
		}
		want := &cmdpb.Entry{}
		wantErr := want.UnmarshalVT(data)
		if _, _, ok := countEntry(data); ok {
			plain++
		}
		got, gotErr := decodeEntry(data)
		clear(data)
		if (gotErr == nil) != (wantErr == nil) {
			t.Fatalf("entry %d: %v, the generated code says %v", i, gotErr, wantErr)
		}
		if gotErr == nil && !proto.Equal(got, want) {
			t.Fatalf("entry %d: got %v, want %v", i, got, want)
		}
	}
	if plain < 1000 {
		t.Fatalf("%d of 3000 entries were plain", plain)
	}
}

// TestDecodeEntryAllocations bounds what an entry takes, whatever it holds.
func TestDecodeEntryAllocations(t *testing.T) {
	for updates, limit := range map[int]float64{1: 2, 100: 6} {
		e := &cmdpb.Entry{Term: 1, Generation: 1}
		for i := range updates {
			e.Updates = append(e.Updates, &cmdpb.Update{Revision: int64(i + 2), Mutations: []*txnpb.Mutation{{Key: []byte("key"), Value: []byte("value")}}})
		}
		data, err := e.MarshalVT()
		if err != nil {
			t.Fatal(err)
		}
		if n := testing.AllocsPerRun(100, func() { _, _ = decodeEntry(data) }); n > limit {
			t.Errorf("%d updates: %v allocations, want at most %v", updates, n, limit)
		}
	}
}

func BenchmarkDecodeEntry(b *testing.B) {
	for _, updates := range []int{1, 100} {
		e := &cmdpb.Entry{Term: 1, Generation: 1}
		for i := range updates {
			e.Updates = append(e.Updates, &cmdpb.Update{Revision: int64(i + 2), Mutations: []*txnpb.Mutation{{Key: []byte("key-1234"), Version: 1, CreateRevision: int64(i + 2), Value: make([]byte, 256)}}})
		}
		data, err := e.MarshalVT()
		if err != nil {
			b.Fatal(err)
		}
		for name, decode := range map[string]func([]byte) (*cmdpb.Entry, error){
			"one copy":  decodeEntry,
			"generated": func(data []byte) (*cmdpb.Entry, error) { e := &cmdpb.Entry{}; return e, e.UnmarshalVT(data) },
		} {
			b.Run(fmt.Sprintf("updates=%d/%s", updates, name), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if _, err := decode(data); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
