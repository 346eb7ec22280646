package mvcc

import (
	"bytes"
	"encoding/hex"
	"errors"
	"testing"
)

// oldValues are bytes that are on somebody's disk. They must decode for ever.
var oldValues = []struct {
	name, hex string
	v         Value
}{
	{"tombstone", "01", Value{Tombstone: true}},
	{"first version, empty", "00000000000000000201", Value{Create: 2, Version: 1}},
	{"value", "00000000000000000203" + "68656c6c6f", Value{Create: 2, Version: 3, Raw: []byte("hello")}},
	{"lease", "020102030405060708ac02" + "7fffffffffffffff" + "76", Value{Create: 0x0102030405060708, Version: 300, Lease: 1<<63 - 1, Raw: []byte("v")}},
	{"negative lease", "02000000000000000901" + "fffffffffffffffe", Value{Create: 9, Version: 1, Lease: -2}},
}

func TestOldValues(t *testing.T) {
	for _, c := range oldValues {
		want, err := hex.DecodeString(c.hex)
		must(t, err)
		got := AppendValue(nil, &c.v)
		if !bytes.Equal(got, want) {
			t.Errorf("%s: encoded %x, want %x", c.name, got, want)
		}
		if ValueLen(&c.v) != len(want) {
			t.Errorf("%s: length %d, want %d", c.name, ValueLen(&c.v), len(want))
		}
		v, err := DecodeValue(want)
		if err != nil || v.Tombstone != c.v.Tombstone || v.Create != c.v.Create || v.Version != c.v.Version ||
			v.Lease != c.v.Lease || !bytes.Equal(v.Raw, c.v.Raw) {
			t.Errorf("%s: decoded %+v, %v", c.name, v, err)
		}
		if IsTombstone(want) != c.v.Tombstone {
			t.Errorf("%s: IsTombstone is wrong", c.name)
		}
	}
}

func TestBadValues(t *testing.T) {
	for name, in := range map[string]string{
		"nothing":                  "",
		"tombstone with contents":  "0100",
		"tombstone with lease":     "03",
		"unknown flag":             "04000000000000000201",
		"short":                    "000000000000000002",
		"no version":               "00000000000000000200",
		"no create revision":       "00000000000000000001",
		"negative create revision": "00ffffffffffffffff01",
		"long form of the version": "0000000000000000028100",
		"endless version":          "000000000000000002ffffffffffffffffffff01",
		"short lease":              "0200000000000000020100000000",
		"lease 0":                  "020000000000000002010000000000000000",
	} {
		b, err := hex.DecodeString(in)
		must(t, err)
		if v, err := DecodeValue(b); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: decoded %+v, %v", name, v, err)
		}
	}
}

func FuzzDecodeValue(f *testing.F) {
	for _, c := range oldValues {
		b, _ := hex.DecodeString(c.hex)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := DecodeValue(b)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Fatalf("error %v", err)
			}
			return
		}
		if again := AppendValue(nil, &v); !bytes.Equal(again, b) {
			t.Fatalf("%x decodes and encodes as %x", b, again)
		}
		if IsTombstone(b) != v.Tombstone {
			t.Fatalf("%x: IsTombstone is wrong", b)
		}
	})
}
