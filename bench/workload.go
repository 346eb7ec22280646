package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// bench is one workload on one running server.
type bench struct {
	options
	server *server
}

// scaled is a number of operations, a tenth of it in quick mode.
func (b *bench) scaled(n int) int {
	if b.quick {
		return n / 10
	}
	return n
}

type workload struct {
	name    string
	what    string
	systems []string
	run     func(ctx context.Context, b *bench) (Figure, error)
}

// suites are the workloads by suite; each can be chosen as a whole.
func suites() map[string][]workload {
	return map[string][]workload{"kv": workloads(), "watch": watchWorkloads(), "lease": leaseWorkloads(), "cluster": clusterWorkloads()}
}

func workloads() []workload {
	all := append([]string{"null", "etcd", "flotilla", "flotilla64"}, three...)
	real := append([]string{"etcd", "flotilla", "flotilla64"}, three...)
	pair := []string{"etcd", "flotilla"}
	return []workload{
		{"put", "put of 256 B to random keys, 50 connections, 500 clients", all, toolPut(50, 500, 100_000, "--key-space-size", "10000000")},
		{"putseq", "the same to rising keys", all, toolPut(50, 500, 100_000, "--key-space-size", "10000000", "--sequential-keys")},
		{"range", "linearizable read of one key, 50 connections, 500 clients", all, toolRange(50, 500, 100_000)},
		{"put1", "put of 256 B by one client", all, toolPut(1, 1, 5_000, "--key-space-size", "10000000")},
		{"range1", "linearizable read by one client", all, toolRange(1, 1, 20_000)},
		{"hot", "put of 256 B to one key, 50 connections, 500 clients", pair, toolPut(50, 500, 100_000, "--key-space-size", "1")},
		{"txnone", "transaction of 10 puts inside one range, 100 clients", all, txnPuts(func(i, j int) byte { return 0x80 })},
		{"txnspread", "transaction of 10 puts over 8 ranges, 100 clients", real, txnPuts(func(i, j int) byte { return byte(0x80 + 16*(j%8)) })},
		{"big", "keys of 256 B: memory, restart after kill -9, pages of 500 keys", pair, big},
		{"compact", "compaction of a million versions under 2,000 puts/s", pair, compact},
	}
}

func workloadNames() []string {
	var names []string
	for suite, all := range suites() {
		names = append(names, suite)
		for _, w := range all {
			names = append(names, w.name)
		}
	}
	slices.Sort(names)
	return names
}

// choose finds workloads by their name or that of their suite.
func choose(list string) ([]workload, error) {
	var chosen []workload
	for _, name := range strings.Split(list, ",") {
		before := len(chosen)
		for _, suite := range []string{"kv", "watch", "lease", "cluster"} {
			for _, w := range suites()[suite] {
				if name == w.name || name == suite {
					chosen = append(chosen, w)
				}
			}
		}
		if len(chosen) == before {
			return nil, fmt.Errorf("no workload %q", name)
		}
	}
	return chosen, nil
}
