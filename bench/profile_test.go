package main

import (
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
)

// Paths go from the strings of a profile, their last part stays, and nothing else changes.
func TestTrimStrings(t *testing.T) {
	profile := func(strings ...string) (b []byte) {
		b = protowire.AppendVarint(protowire.AppendTag(b, 9, protowire.VarintType), 7)
		for _, s := range strings {
			b = protowire.AppendString(protowire.AppendTag(b, profileStrings, protowire.BytesType), s)
		}
		return protowire.AppendString(protowire.AppendTag(b, 2, protowire.BytesType), "/not/a/string")
	}
	got, err := trimStrings(profile("", "main.run", "/home/me/main.go", "a/b.(*T).f"))
	if err != nil {
		t.Fatal(err)
	}
	if want := profile("", "main.run", "main.go", "a/b.(*T).f"); string(got) != string(want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if _, err := trimStrings([]byte{0xff}); err == nil {
		t.Error("what is no profile was taken")
	}
}
