package fields

import (
	"fmt"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
)

func walk(b []byte) (got string, err error) {
	err = Walk(b,
		func(num Number, v uint64) { got += fmt.Sprintf("%d=%d ", num, v) },
		func(num Number, s string) { got += fmt.Sprintf("%d=%q ", num, s) })
	return got, err
}

func TestWalk(t *testing.T) {
	b := AppendNumber(nil, 1, 300)
	b = AppendNumber(b, 2, 0)
	b = AppendText(b, 3, "x")
	b = protowire.AppendFixed32(protowire.AppendTag(b, 9, protowire.Fixed32Type), 7) // of a newer version
	b = AppendText(b, 3, "")
	const want = `1=300 3="x" 3="" `
	if got, err := walk(b); err != nil || got != want {
		t.Fatalf("got %s, %v, want %s", got, err, want)
	}
	for n := range b {
		got, err := walk(b[:n])
		if err == nil && len(got) >= len(want) || want[:len(got)] != got {
			t.Errorf("cut at %d: got %s, %v", n, got, err)
		}
	}
	if _, err := walk(b[:2]); err == nil {
		t.Error("half a number is taken")
	}
}
