package main

import (
	"slices"
	"testing"
)

func TestChoose(t *testing.T) {
	kept, dropped := choose([]string{"--name=a=b", "--snapshot-count=1", "--enable-pprof", "--name-of-nothing", "1", "--name", "b"},
		"      --enable-pprof    serve profiles\n      --name string    name of this node\n")
	if !slices.Equal(kept, []string{"--name=a=b", "--enable-pprof", "--name", "b"}) || !slices.Equal(dropped, []string{"--snapshot-count=1", "--name-of-nothing", "1"}) {
		t.Errorf("kept %q, dropped %q", kept, dropped)
	}
}
