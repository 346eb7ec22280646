package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A stand-in for a node says what it was called with and waits for its end.
const standIn = `#!/bin/sh
echo "$@"
trap 'exit 0' TERM
echo ready
while :; do sleep 0.1; done
`

func TestCluster(t *testing.T) {
	dir := t.TempDir()
	binary := filepath.Join(dir, "node")
	if err := os.WriteFile(binary, []byte(standIn), 0o755); err != nil {
		t.Fatal(err)
	}
	c := &localCluster{dir: filepath.Join(dir, "data"), nodes: 3, port: 2379, binary: binary, extra: []string{"--log-level=debug"}}
	out := &lineWriter{words: "Ctrl-C", seen: make(chan struct{})}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- c.run(ctx, &app{out: out, err: out}) }()
	<-out.seen
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"m0  127.0.0.1:2379  pid ", "m2  127.0.0.1:2579  pid ", "endpoints 127.0.0.1:2379,127.0.0.1:2479,127.0.0.1:2579"} {
		if !strings.Contains(out.all.String(), want) {
			t.Errorf("%q lacks %q", out.all.String(), want)
		}
	}
}

// Every node is given the same cluster and a place of its own in it.
func TestClusterArgs(t *testing.T) {
	c := &localCluster{dir: "d", nodes: 3, port: 2379, extra: []string{"--log-level=debug"}}
	got := strings.Join(c.args(1), " ")
	want := "server --name=m1 --data-dir=d/m1 --listen-client-urls=http://127.0.0.1:2479 --advertise-client-urls=http://127.0.0.1:2479 " +
		"--listen-peer-urls=http://127.0.0.1:2480 --initial-advertise-peer-urls=http://127.0.0.1:2480 " +
		"--initial-cluster=m0=http://127.0.0.1:2380,m1=http://127.0.0.1:2480,m2=http://127.0.0.1:2580 " +
		"--initial-cluster-token=local-cluster --log-level=debug"
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// Nodes that end by themselves, and one that cannot be started, are no reason to
// wait for ever.
func TestClusterFails(t *testing.T) {
	dir := t.TempDir()
	for binary, says := range map[string]string{"/bin/false": "no node is left", filepath.Join(dir, "none"): "start m0"} {
		var out strings.Builder
		c := &localCluster{dir: dir, nodes: 2, port: 2379, binary: binary}
		if err := c.run(t.Context(), &app{out: &out, err: &out}); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", binary, err)
		}
	}
}
