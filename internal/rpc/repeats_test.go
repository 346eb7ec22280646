package rpc

import (
	"bytes"
	"log/slog"
	"testing"
)

// Several peers that are refused again and again do not fill the log between them.
func TestRepeatsOfSeveral(t *testing.T) {
	var out bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&out, nil))
	var r repeats
	for range 100 {
		for store := range 3 {
			r.log(logger, "store", store, "error", "another cluster")
		}
	}
	if n := bytes.Count(out.Bytes(), []byte("\n")); n != 3 {
		t.Errorf("three peers that are refused a hundred times are %d lines", n)
	}
	// What they say is bounded, whatever it is.
	for i := range 10 * repeatsMax {
		r.log(logger, "address", i)
	}
	if n := len(r.told); n > repeatsMax {
		t.Errorf("%d lines are remembered", n)
	}
}
