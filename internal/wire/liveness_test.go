package wire

import (
	"bytes"
	"reflect"
	"testing"

	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/raftgroup"
)

func TestLivenessRoundTrip(t *testing.T) {
	for seed := range uint64(200) {
		f, m := newFiller(seed), &raftgroup.LivenessMessage{}
		if seed > 0 {
			f.fill(reflect.ValueOf(m).Elem())
		}
		from, to := metapb.StoreID(f.number()), metapb.StoreID(f.number())
		b, err := AppendLiveness([]byte("x"), from, to, m)
		if err != nil {
			t.Fatal(err)
		}
		gotFrom, gotTo, got, err := DecodeLiveness(b[1:])
		if err != nil || gotFrom != from || gotTo != to || show(got) != show(m) {
			t.Fatalf("sent %d %d %s\ncame %d %d %s, %v", from, to, show(m), gotFrom, gotTo, show(got), err)
		}
	}
}

func FuzzDecodeLiveness(f *testing.F) {
	for seed := range uint64(5) {
		fill, m := newFiller(seed), &raftgroup.LivenessMessage{}
		fill.fill(reflect.ValueOf(m).Elem())
		b, err := AppendLiveness(nil, 1, 2, m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b[:len(b)-sumLen])
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		sealed := seal(bytes.Clone(body))
		from, to, m, err := DecodeLiveness(sealed)
		if err != nil {
			return
		}
		if again, err := AppendLiveness(nil, from, to, m); err != nil || !bytes.Equal(again, sealed) {
			t.Fatalf("%x is written %x, %v", sealed, again, err)
		}
	})
}
