package raftgroup

import (
	"bytes"
	"encoding/hex"
	"math/rand/v2"
	"testing"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/flotilladb/flotilla/internal/keys"
)

// TestOldBytes holds the rows as they are on disks. A change of it needs a new
// format and a reader for this one.
func TestOldBytes(t *testing.T) {
	entryKey := keys.RaftLog(7, 300)
	n, end := entryRowLen(len(entryKey), 6, 1000, []byte("hello"))
	entry := make([]byte, n)
	putEntryRow(entryKey, entry, raftpb.EntryNormal, 6, end, []byte("hello"))
	hardKey, hard := encodeHardState(7, hardState{term: 6, vote: 3, commit: 299})
	cutKey, cut := encodeTruncated(7, position{index: 10, term: 5, end: 70_000})
	confKey, conf, err := encodeConfState(7, raftpb.EnsureConfState(&raftpb.ConfState{Voters: []uint64{1, 2, 3}, Learners: []uint64{4}}))
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name     string
		key, row []byte
		want     string
	}{
		{"entry", entryKey, entry, "0167e3a5cc0006890868656c6c6f"},
		{"hard state", hardKey, hard, "01ad22be240603ab02"},
		{"truncated", cutKey, cut, "010c4b32300a05f0a204"},
		{"conf state", confKey, conf, "01ad65f25a08010802080310042800"},
	} {
		if got := hex.EncodeToString(tc.row); got != tc.want {
			t.Errorf("%s: wrote %s, want %s", tc.name, got, tc.want)
		}
	}

	old := func(s string) []byte {
		b, err := hex.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	e, gotEnd, err := decodeEntryRow(entryKey, old("0167e3a5cc0006890868656c6c6f"))
	if err != nil || e.GetIndex() != 300 || e.GetTerm() != 6 || string(e.GetData()) != "hello" || gotEnd != 1000+19+14 {
		t.Errorf("entry: %v, end %d, %v", e, gotEnd, err)
	}
	if hs, err := decodeHardState(hardKey, old("01ad22be240603ab02")); err != nil || hs != (hardState{6, 3, 299}) {
		t.Errorf("hard state: %v %v", hs, err)
	}
	if p, err := decodeTruncated(cutKey, old("010c4b32300a05f0a204")); err != nil || p != (position{10, 5, 70_000}) {
		t.Errorf("truncated: %v %v", p, err)
	}
	if cs, err := decodeConfState(confKey, old("01ad65f25a08010802080310042800")); err != nil || len(cs.Voters) != 3 || cs.Learners[0] != 4 {
		t.Errorf("conf state: %v %v", cs, err)
	}
}

// TestEntryRowLen tries the lengths around which an end needs one byte more,
// which its own row may cause.
func TestEntryRowLen(t *testing.T) {
	key := keys.RaftLog(7, 1)
	for _, edge := range []uint64{0, 1 << 7, 1 << 14, 1 << 21, 1 << 28, 1 << 35} {
		for d := range uint64(80) {
			before := edge + d - min(edge, 40)
			n, end := entryRowLen(len(key), 1, before, []byte("data"))
			if end != before+uint64(len(key)+n) {
				t.Fatalf("before %d: row of %d ends at %d", before, n, end)
			}
			row := make([]byte, n)
			putEntryRow(key, row, raftpb.EntryConfChangeV2, 1, end, []byte("data"))
			e, gotEnd, err := decodeEntryRow(key, row)
			if err != nil || gotEnd != end || string(e.GetData()) != "data" || e.GetType() != raftpb.EntryConfChangeV2 {
				t.Fatalf("before %d: %v, end %d, %v", before, e, gotEnd, err)
			}
		}
	}
}

// TestEveryFlippedBitIsFound damages every bit of every kind of row.
func TestEveryFlippedBitIsFound(t *testing.T) {
	key := keys.RaftLog(7, 300)
	row := entryRow(key, "hello")
	hardKey, hard := encodeHardState(7, hardState{term: 6, vote: 3, commit: 299})
	for _, tc := range []struct{ key, row []byte }{{key, row}, {hardKey, hard}} {
		if _, err := openRow(tc.key, tc.row); err != nil {
			t.Fatal(err)
		}
		for bit := range 8 * len(tc.row) {
			bad := bytes.Clone(tc.row)
			bad[bit/8] ^= 1 << (bit % 8)
			if _, err := openRow(tc.key, bad); err == nil {
				t.Fatalf("bit %d of %x flipped: not found", bit, tc.row)
			}
		}
		for n := range tc.row {
			if _, err := openRow(tc.key, tc.row[:n]); err == nil {
				t.Fatalf("%x cut to %d bytes: not found", tc.row, n)
			}
		}
	}
}

func FuzzDecodeRows(f *testing.F) {
	key := keys.RaftLog(7, 300)
	f.Add(entryRow(key, "hello")[rowHeadLen:])
	f.Add([]byte{})
	f.Add(bytes.Repeat([]byte{0xff}, 40))
	f.Fuzz(func(t *testing.T, body []byte) {
		// The right checksum, so that the decoders behind it see the bytes.
		row := append(make([]byte, rowHeadLen), body...)
		sealRow(key, row)
		if e, end, err := decodeEntryRow(key, row); err == nil {
			n := rowHeadLen + 1 + uvarintLen(e.GetTerm()) + uvarintLen(end) + len(e.GetData())
			if n > len(row) || e.GetIndex() != 300 {
				t.Fatalf("%v of %d bytes out of %d", e, n, len(row))
			}
		}
		_, _ = decodeHardState(key, row)
		_, _ = decodeTruncated(key, row)
		if cs, err := decodeConfState(key, row); err == nil && cs.AutoLeave == nil {
			t.Fatal("conf state without AutoLeave")
		}
	})
}

// TestCacheTwin compares the cache with a map on random input.
func TestCacheTwin(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var c entryCache
	twin := make(map[uint64]uint64) // index to size
	next := uint64(1)               // index after the last entry
	first := func() uint64 { return next - uint64(len(twin)) }
	for step := range 20_000 {
		switch n := rng.IntN(20); {
		case n < 12:
			size := 1 + rng.Uint64N(100)
			c.add(cachedEntry{entry: newEntry(next, 1, raftpb.EntryNormal, nil), size: size})
			twin[next] = size
			next++
		case n < 14:
			from := next - rng.Uint64N(uint64(len(twin)+1))
			c.dropFrom(from)
			for ; next > from; next-- {
				delete(twin, next-1)
			}
		case n < 16:
			to := first() + rng.Uint64N(uint64(len(twin)+2)) - 1
			c.dropTo(to)
			for i := first(); i <= to && len(twin) > 0; i++ {
				delete(twin, i)
			}
		default:
			bytesMax, to := rng.Uint64N(3000), first()+rng.Uint64N(uint64(len(twin)+1))
			c.limit(bytesMax, to)
			for i := first(); i <= to && len(twin) > 0 && sum(twin) > bytesMax; i++ {
				delete(twin, i)
			}
		}
		if c.len() != len(twin) || c.bytes != sum(twin) {
			t.Fatalf("step %d: %d entries of %d bytes, want %d of %d", step, c.len(), c.bytes, len(twin), sum(twin))
		}
		for i := max(first(), 3) - 3; i < next+3; i++ {
			got, ok := c.get(i)
			if want, has := twin[i]; ok != has || ok && (got.entry.GetIndex() != i || got.size != want) {
				t.Fatalf("step %d: get(%d) = %v, %t", step, i, got, ok)
			}
		}
	}
}

func sum(m map[uint64]uint64) (n uint64) {
	for _, v := range m {
		n += v
	}
	return n
}
