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
	ofEtcd                   bool // the limit is a multiple of etcd's
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
		runs, etcd := groups[b.workload+" "+b.system], groups[b.workload+" "+etcdLike(b.system)]
		if len(runs) == 0 || b.ofEtcd && len(etcd) == 0 {
			continue
		}
		m, limit, of := median(runs), b.limit, ""
		if b.ofEtcd {
			e := median(etcd)
			limit, of = limit*e.figure(b.figure), fmt.Sprintf(", %g x etcd's", b.limit)
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
