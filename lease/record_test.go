package lease

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math"
	"math/rand"
	"reflect"
	"testing"

	"github.com/flotilladb/flotilla/proto/metapb"
)

// goldenRecords hold bytes as they are on disks: they must be read for ever.
func goldenRecords() map[string]Record {
	return map[string]Record{
		"010a010000": {ID: 7, TTL: 10, Number: 1},
		"0180b4c4c321ac02c80101026b61026b7a": {ID: -1, TTL: TTLMax, Number: 300, Remaining: 200,
			Spans: []metapb.Span{{Start: []byte("ka"), End: []byte("kz")}}},
		"0101ffffffffffffffffff010002017501760177" + "00": {ID: math.MinInt64, TTL: 1, Number: math.MaxUint64,
			Spans: []metapb.Span{{Start: []byte("u"), End: []byte("v")}, {Start: []byte("w"), End: []byte{}}}},
	}
}

func TestGoldenRecords(t *testing.T) {
	for text, want := range goldenRecords() {
		b, err := hex.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		got, err := DecodeRecord(want.ID, b)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s is %+v, %v; want %+v", text, got, err, want)
		}
		if again := EncodeRecord(&want); !bytes.Equal(again, b) {
			t.Errorf("%+v is %x, want %s", want, again, text)
		}
	}
	if b := AppendLeased(nil, -2); hex.EncodeToString(b) != "fffffffffffffffe" {
		t.Errorf("a leased row is %x", b)
	}
}

func TestCorruptRecords(t *testing.T) {
	for text, why := range map[string]string{
		"":                                "unknown version",
		"020a010000":                      "unknown version",
		"01":                              "bad number",
		"018a00010000":                    "bad number", // not the shortest form
		"0100010000":                      "number out of bounds",
		"010a01000000":                    "bytes behind the end",
		"010a01000101750175":              "spans out of order", // empty span
		"010a010002017501770176" + "0178": "spans out of order", // overlap
		"010a0100020175017601760177":      "spans out of order", // they touch
		"010a01000201750001760177":        "spans out of order", // behind the end of the keyspace
		"010a010001057501":                "short span",
		"010a0100ff01":                    "more spans than bytes",
	} {
		b, _ := hex.DecodeString(text)
		_, err := DecodeRecord(1, b)
		var corrupt *CorruptError
		if !errors.Is(err, ErrCorrupt) || !errors.As(err, &corrupt) || corrupt.Why != why {
			t.Errorf("%s: %v, want %s", text, err, why)
		}
	}
	for _, b := range [][]byte{nil, make([]byte, 8), make([]byte, 9)} {
		if _, err := DecodeLeased(b); !errors.Is(err, ErrCorrupt) {
			t.Errorf("leased row %x: %v", b, err)
		}
	}
}

func FuzzDecodeRecord(f *testing.F) {
	for text := range goldenRecords() {
		b, _ := hex.DecodeString(text)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := DecodeRecord(1, b)
		if err != nil {
			return
		}
		if again := EncodeRecord(&r); !bytes.Equal(again, b) {
			t.Fatalf("%x is read, and written as %x", b, again)
		}
	})
}

// TestRegisterTwin compares registered spans with a set of single letters.
func TestRegisterTwin(t *testing.T) {
	rng := rand.New(rand.NewSource(1))
	for range 300 {
		r, letters := Record{ID: 1, TTL: 1}, map[byte]bool{}
		for range 12 {
			from, to := 'a'+rng.Intn(26), 'a'+rng.Intn(27)
			span := metapb.Span{Start: []byte{byte(from)}, End: []byte{byte(to)}}
			if to == 'a'+26 {
				span.End = nil
			}
			changes := false
			for c := from; c < to; c++ {
				changes = changes || !letters[byte(c)]
				letters[byte(c)] = true
			}
			if to == 'a'+26 { // nobody knows the letters up there
				changes = changes || !letters['~']
				letters['~'] = true
			}
			before := EncodeRecord(&r)
			old := r
			if got := r.Register(span); got != changes {
				t.Fatalf("registering [%c, %c) changes: %t, want %t: %+v", from, to, got, changes, r)
			}
			if !bytes.Equal(EncodeRecord(&old), before) {
				t.Fatal("the old spans were changed")
			}
			for c := byte('a'); c <= 'z'; c++ {
				if r.Covers(metapb.Span{Start: []byte{c}, End: []byte{c + 1}}) != letters[c] {
					t.Fatalf("%c: want %t in %+v", c, letters[c], r)
				}
			}
			if _, err := DecodeRecord(1, EncodeRecord(&r)); err != nil {
				t.Fatalf("not in normal form: %+v", r)
			}
		}
	}
}
