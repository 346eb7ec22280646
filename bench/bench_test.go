package main

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// The report of etcd's tool, as version 3.6.8 prints it with --precise.
const report = `
Summary:
  Total:	2.3456 secs.
  Slowest:	0.0900 secs.
  Requests/sec:	12345.6789

Latency distribution:
  10% in 0.001 secs.
  50% in 0.00425 secs.
  99% in 0.031 secs.
  99.9% in 0.05 secs.
`

func TestParseReport(t *testing.T) {
	f, err := parseReport(report)
	if err != nil {
		t.Fatal(err)
	}
	if f.PerSecond != 12345.6789 || f.P50Millis != 4.25 || f.P99Millis != 31 {
		t.Fatalf("read %+v", f)
	}
	// Of two reports the last counts, also where it has no percentile that is 0.
	f, err = parseReport(report + strings.Replace(report, "  50% in 0.00425 secs.\n", "", 1))
	if err != nil || f.P50Millis != 0 || f.P99Millis != 31 {
		t.Fatalf("read %+v, %v", f, err)
	}
	if _, err := parseReport(report + "\nError distribution:\n  [3]\tetcdserver: no leader\n"); err == nil {
		t.Fatal("a report with errors was taken")
	}
	if _, err := parseReport("connection refused"); err == nil {
		t.Fatal("no report was taken for one")
	}
}

func TestFigureOf(t *testing.T) {
	var took []time.Duration
	for i := range 101 {
		took = append(took, time.Duration(100-i)*time.Millisecond)
	}
	if f := figureOf(took, 2*time.Second); f.PerSecond != 50.5 || f.P50Millis != 50 || f.P99Millis != 99 {
		t.Fatalf("got %+v", f)
	}
}

func TestTable(t *testing.T) {
	var out strings.Builder
	printTable(&out, []Figure{
		{Workload: "put", System: "etcd", Run: 1, PerSecond: 100, P50Millis: 2, P99Millis: 4, CPUMicros: 50},
		{Workload: "put", System: "flotilla", Run: 1, PerSecond: 1, P50Millis: 1, P99Millis: 1, CPUMicros: 1},
		{Workload: "put", System: "flotilla", Run: 2, PerSecond: 150, P50Millis: 1, P99Millis: 1, CPUMicros: 25, More: map[string]float64{}},
		{Workload: "put", System: "flotilla", Run: 3, PerSecond: 900, P50Millis: 1, P99Millis: 1, CPUMicros: 99},
	})
	line := strings.Fields(strings.Split(out.String(), "\n")[2])
	want := "put flotilla 3 150 1.00 1.00 25 0 1.50 0.50 0.25 0.50"
	if got := strings.Join(line, " "); got != want {
		t.Fatalf("got  %s\nwant %s", got, want)
	}
}

func TestChoose(t *testing.T) {
	if _, err := choose("put,nothing"); err == nil {
		t.Fatal("an unknown workload was taken")
	}
	if got, err := choose("range,put"); err != nil || len(got) != 2 || got[0].name != "range" {
		t.Fatalf("chose %v, %v", got, err)
	}
	if got, err := choose("lease,watchlat"); err != nil || len(got) != 4 || got[3].name != "watchlat" {
		t.Fatalf("chose %v, %v", got, err)
	}
	seen := map[string]bool{}
	for _, name := range workloadNames() {
		if seen[name] {
			t.Errorf("two are called %s", name)
		}
		seen[name] = true
	}
}

func TestBars(t *testing.T) {
	figures := []Figure{
		{Workload: "a", System: "etcd", Run: 1, PerSecond: 100, CPUMicros: 10},
		{Workload: "a", System: "flotilla", Run: 1, PerSecond: 120, CPUMicros: 7, More: map[string]float64{"growth_mb": 5, "wrong": 2}},
	}
	var out strings.Builder
	printBars(&out, figures, []bar{
		{workload: "a", system: "flotilla", figure: "ops/s", least: true, limit: 1.3, ofEtcd: true},
		{workload: "a", system: "flotilla", figure: "ops/s", least: true, limit: 120},
		{workload: "a", system: "flotilla", figure: "CPU us/op", limit: 0.7, ofEtcd: true},
		{workload: "a", system: "flotilla", figure: "growth_mb", limit: 4},
		{workload: "b", system: "flotilla", figure: "growth_mb", limit: 4},
	})
	want := `bar MISSED  a flotilla run 1: 2 things went wrong
bar MISSED  a flotilla: ops/s 120 >= 130, 1.3 x etcd's
bar reached a flotilla: ops/s 120 >= 120
bar reached a flotilla: CPU us/op 7 <= 7, 0.7 x etcd's
bar MISSED  a flotilla: growth_mb 5 <= 4
`
	if out.String() != want {
		t.Fatalf("got\n%swant\n%s", out.String(), want)
	}
}

// Every bar is about a workload and a system that it runs on.
func TestBarsHaveWorkloads(t *testing.T) {
	for _, b := range append(watchBars(), clusterBars()...) {
		chosen, err := choose(b.workload)
		base := b.of
		if b.ofEtcd {
			base = etcdLike(b.system)
		}
		if err != nil || len(chosen) != 1 || !slices.Contains(chosen[0].systems, b.system) ||
			base != "" && !slices.Contains(chosen[0].systems, base) {
			t.Errorf("%+v: %v", b, err)
		}
	}
}

// The places where a keyspace is cut rise, and lie where etcd's tool writes.
func TestKeyAt(t *testing.T) {
	for _, n := range []int{64, 1000, 3000, 10_000} {
		last := ""
		for i := range n {
			key := string(keyAt(i, n))
			if key <= last || key[0] < 0x80 || key[0]%2 != 0 || len(key) == 3 && (key[1] < 0x80 || key[2] < 0x80) {
				t.Fatalf("cut %d of %d is at %x, behind %x", i, n, key, last)
			}
			if in := string(keyIn(i, n, "x")); in < key || i+1 < n && in >= string(keyAt(i+1, n)) {
				t.Fatalf("key %x is not in part %d of %d", in, i, n)
			}
			last = key
		}
	}
}
