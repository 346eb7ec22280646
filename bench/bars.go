package main

import (
	"fmt"
	"io"
)

// bar is what a median must reach. The figure is one of More, or a column of the
// table by its name there.
type bar struct {
	workload, system, figure string
	least                    bool // else most
	limit                    float64
	ofEtcd                   bool   // the limit is a multiple of etcd's
	of                       string // the limit is a multiple of this system's
}

// watchBars are the bars for watches and leases, for a machine with two cores and
// runs of full size.
func watchBars() []bar {
	return []bar{
		{workload: "watchlat", system: "flotilla64", figure: "p50 ms", limit: 2},
		{workload: "watchlat", system: "flotilla64", figure: "p99 ms", limit: 8},
		{workload: "watchtoollat", system: "flotilla", figure: "p50 ms", limit: 1, ofEtcd: true},
		{workload: "watchtoollat", system: "flotilla", figure: "p99 ms", limit: 1, ofEtcd: true},
		{workload: "watchtool", system: "flotilla", figure: "ops/s", least: true, limit: 1.3, ofEtcd: true},
		{workload: "watchfan", system: "flotilla", figure: "CPU us/op", limit: 0.6, ofEtcd: true},
		{workload: "watchfan", system: "flotilla", figure: "watch_fell_behind", limit: 0},
		{workload: "watchfan", system: "flotilla", figure: "watch_scans", limit: 0},
		{workload: "watchidle", system: "flotilla", figure: "server_rss_growth_mb", limit: 300},
		{workload: "watchprogress", system: "flotilla64", figure: "p99 ms", limit: 10},
		{workload: "watchprogress", system: "flotilla64", figure: "unanswered", limit: 0},
		{workload: "watchslow", system: "flotilla", figure: "others_p99_ratio", limit: 1.5},
		{workload: "watchresume", system: "flotilla64", figure: "ops/s", least: true, limit: 150_000},
		{workload: "watchresume", system: "flotilla64", figure: "ops/s", least: true, limit: 1, ofEtcd: true},
		{workload: "leasegrant", system: "flotilla", figure: "server_rss_growth_mb", limit: 600},
		{workload: "leasealive", system: "flotilla", figure: "CPU us/op", limit: 0.6, ofEtcd: true},
		{workload: "leasestorm", system: "flotilla", figure: "put_p99_ratio", limit: 3},
		{workload: "leasestorm", system: "flotilla64", figure: "put_p99_ratio", limit: 3},
	}
}

// clusterBars are the bars of three nodes on one machine with two cores.
func clusterBars() []bar {
	return []bar{
		{workload: "put", system: "flotilla3", figure: "ops/s", least: true, limit: 2.5, ofEtcd: true},
		{workload: "put", system: "flotilla3", figure: "CPU us/op", limit: 0.4, ofEtcd: true},
		{workload: "put1", system: "flotilla3", figure: "p50 ms", limit: 0.8, ofEtcd: true},
		{workload: "range", system: "flotilla3", figure: "ops/s", least: true, limit: 1.3, ofEtcd: true},
		{workload: "txnone", system: "flotilla3", figure: "ops/s", least: true, limit: 2, ofEtcd: true},
		{workload: "put", system: "flotilla3x64", figure: "ops/s", least: true, limit: 0.8, of: "flotilla3"},
		{workload: "range", system: "flotilla3x64", figure: "ops/s", least: true, limit: 0.8, of: "flotilla3"},
		{workload: "put", system: "flotilla3x1000", figure: "ops/s", least: true, limit: 0.6, of: "flotilla3"},
		{workload: "idle10k", system: "flotilla3", figure: "idle_most_core_percent", limit: 5},
		{workload: "idle10k", system: "flotilla3", figure: "idle_most_rss_mb", limit: 250},
		{workload: "idle10k", system: "flotilla3", figure: "p50 ms", limit: 5},
		{workload: "kill3k", system: "flotilla3", figure: "writable_99_ms", limit: 1500},
		{workload: "kill3k", system: "flotilla3", figure: "writable_all_ms", limit: 3000},
		{workload: "restart10k", system: "flotilla3", figure: "restart_s", limit: 5},
		{workload: "rolling", system: "flotilla3x64", figure: "p99_ratio", limit: 5},
		{workload: "rolling", system: "flotilla3x64", figure: "failed", limit: 0},
		{workload: "saturated", system: "flotilla3x64", figure: "elections", limit: 0},
	}
}

// figure is a column of the table or one of More.
func (f *Figure) figure(name string) float64 {
	switch name {
	case "ops/s":
		return f.PerSecond
	case "p50 ms":
		return f.P50Millis
	case "p99 ms":
		return f.P99Millis
	case "CPU us/op":
		return f.CPUMicros
	}
	return f.More[name]
}

// printBars says of each bar whose workload ran whether it was reached. That the
// server did nothing wrong is a bar of every run, not of the median.
func printBars(w io.Writer, figures []Figure, bars []bar) {
	groups := make(map[string][]Figure)
	for _, f := range figures {
		key := f.Workload + " " + f.System
		groups[key] = append(groups[key], f)
		if wrong := f.More["wrong"]; wrong != 0 {
			fmt.Fprintf(w, "bar MISSED  %s run %d: %.0f things went wrong\n", key, f.Run, wrong)
		}
	}
	for _, b := range bars {
		base, whose := b.of, b.of
		if b.ofEtcd {
			base, whose = etcdLike(b.system), "etcd"
		}
		runs, other := groups[b.workload+" "+b.system], groups[b.workload+" "+base]
		if len(runs) == 0 || base != "" && len(other) == 0 {
			continue
		}
		m, limit, of := median(runs), b.limit, ""
		if base != "" {
			e := median(other)
			limit, of = limit*e.figure(b.figure), fmt.Sprintf(", %g x %s's", b.limit, whose)
		}
		got, verdict, sign := m.figure(b.figure), "reached", "<="
		if b.least {
			sign = ">="
		}
		if b.least && got < limit || !b.least && got > limit {
			verdict = "MISSED "
		}
		fmt.Fprintf(w, "bar %s %s %s: %s %.4g %s %.4g%s\n", verdict, b.workload, b.system, b.figure, got, sign, limit, of)
	}
}
