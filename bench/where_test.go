package main

import (
	"strings"
	"testing"
)

// A sample counts for the first part whose functions are on its stack, and else for none.
func TestParts(t *testing.T) {
	const out = `File: flotilla
Type: cpu
-----------+-------------------------------------------------------
   10000us   runtime.mallocgc (inline)
             github.com/cockroachdb/pebble/v2.(*memTable).apply
             github.com/flotilladb/flotilla/engine.(*Pebble).Commit
             github.com/flotilladb/flotilla/internal/node.(*Node).step
-----------+-------------------------------------------------------
   20000us   google.golang.org/grpc/internal/transport.(*http2Server).HandleStreams
             google.golang.org/grpc.(*Server).serveStreams
-----------+-------------------------------------------------------
    2500us   runtime.nanotime
-----------+-------------------------------------------------------
`
	times, all := byPart(out)
	if times["memtable: insert"] != 10000 || times["gRPC: read"] != 20000 || times[otherPart] != 2500 || len(times) != 3 || all != 32500 {
		t.Errorf("got %v", times)
	}
}

func TestPrintParts(t *testing.T) {
	var b strings.Builder
	printParts(&b, []Figure{
		{Workload: "put", System: "flotilla3", Parts: map[string]float64{"apply": 1}},
		{Workload: "put", System: "flotilla3x64", Parts: map[string]float64{"apply": 5, "raft: step": 2}},
		{Workload: "range", System: "etcd"},
	})
	var got []string
	for line := range strings.Lines(b.String()) {
		got = append(got, strings.Join(strings.Fields(line), " "))
	}
	want := "put: CPU us/op flotilla3 flotilla3x64|apply 1.0 5.0|raft: step 0.0 2.0"
	if strings.Join(got, "|") != want {
		t.Errorf("got %q, want %q", strings.Join(got, "|"), want)
	}
}
