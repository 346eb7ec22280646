package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
)

// Figure is what one run of a workload gave on one system.
type Figure struct {
	Workload  string
	System    string
	Run       int
	PerSecond float64
	P50Millis float64
	P99Millis float64
	CPUMicros float64            // server CPU per operation
	RSSMB     float64            // when the workload had ended
	More      map[string]float64 `json:",omitempty"` // the workload's own figures, unit last
	Parts     map[string]float64 `json:",omitempty"` // what CPUMicros went to, with -where
}

func (f Figure) String() string {
	s := fmt.Sprintf("%s %s run %d: %.0f/s p50 %.2f ms p99 %.2f ms cpu %.0f us rss %.0f MB",
		f.Workload, f.System, f.Run, f.PerSecond, f.P50Millis, f.P99Millis, f.CPUMicros, f.RSSMB)
	for _, name := range slices.Sorted(maps.Keys(f.More)) {
		s += fmt.Sprintf(" %s %.1f", name, f.More[name])
	}
	return s
}

// median takes every figure by itself.
func median(figures []Figure) Figure {
	of := func(get func(Figure) float64) float64 {
		var all []float64
		for _, f := range figures {
			all = append(all, get(f))
		}
		slices.Sort(all)
		return all[len(all)/2]
	}
	m := Figure{
		Workload:  figures[0].Workload,
		System:    figures[0].System,
		PerSecond: of(func(f Figure) float64 { return f.PerSecond }),
		P50Millis: of(func(f Figure) float64 { return f.P50Millis }),
		P99Millis: of(func(f Figure) float64 { return f.P99Millis }),
		CPUMicros: of(func(f Figure) float64 { return f.CPUMicros }),
		RSSMB:     of(func(f Figure) float64 { return f.RSSMB }),
		More:      make(map[string]float64),
		Parts:     make(map[string]float64),
	}
	for name := range figures[0].More {
		m.More[name] = of(func(f Figure) float64 { return f.More[name] })
	}
	for _, f := range figures {
		for name := range f.Parts {
			m.Parts[name] = of(func(f Figure) float64 { return f.Parts[name] })
		}
	}
	return m
}

// printTable shows medians, one line per workload and system, and what part of
// etcd's figure each is.
func printTable(w io.Writer, figures []Figure) {
	var order []string
	groups := make(map[string][]Figure)
	for _, f := range figures {
		key := f.Workload + " " + f.System
		if _, ok := groups[key]; !ok {
			order = append(order, key)
		}
		groups[key] = append(groups[key], f)
	}
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(tw, "workload\tsystem\truns\tops/s\tp50 ms\tp99 ms\tCPU us/op\tRSS MB\tops/etcd\tp50/etcd\tp99/etcd\tCPU/etcd\t")
	for _, key := range order {
		m := median(groups[key])
		ratios := "-\t-\t-\t-"
		if base, ok := groups[m.Workload+" "+etcdLike(m.System)]; ok {
			e := median(base)
			ratios = strings.Join([]string{
				ratio(m.PerSecond, e.PerSecond), ratio(m.P50Millis, e.P50Millis), ratio(m.P99Millis, e.P99Millis), ratio(m.CPUMicros, e.CPUMicros),
			}, "\t")
		}
		fmt.Fprintf(tw, "%s\t%s\t%d\t%.0f\t%.2f\t%.2f\t%.0f\t%.0f\t%s\t\n",
			m.Workload, m.System, len(groups[key]), m.PerSecond, m.P50Millis, m.P99Millis, m.CPUMicros, m.RSSMB, ratios)
	}
	tw.Flush()
	for _, key := range order {
		m := median(groups[key])
		for _, name := range slices.Sorted(maps.Keys(m.More)) {
			fmt.Fprintf(w, "%s %s: %s = %.2f\n", m.Workload, m.System, name, m.More[name])
		}
	}
}

func ratio(a, b float64) string {
	if b == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f", a/b)
}
