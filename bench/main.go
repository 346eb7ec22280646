package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
)

// options are the command line.
type options struct {
	runs      int
	quick     bool
	workloads string
	systems   string
	json      string
	bin       string
	dir       string
	keys      int
	megabytes int
	prepare   string
	ranges    int
	profiles  string
	where     bool
	trim      string
}

func parse() options {
	var o options
	flag.IntVar(&o.runs, "runs", 5, "runs of each workload on each system; the table shows medians")
	flag.BoolVar(&o.quick, "quick", false, "one run, with a tenth of the operations")
	flag.StringVar(&o.workloads, "workloads", "kv", "comma-separated, whole suites or single ones of: "+strings.Join(workloadNames(), ","))
	flag.StringVar(&o.systems, "systems", "null,etcd,flotilla,flotilla64", "comma-separated; flotilla64 has 64 ranges over the keyspace, those with a 3 have three nodes")
	flag.StringVar(&o.json, "json", "", "file for every single figure")
	flag.StringVar(&o.bin, "bin", "bin", "folder of the programs")
	flag.StringVar(&o.dir, "dir", "bench/results/data", "folder for the servers' data; must be on a disk that syncs")
	flag.IntVar(&o.keys, "keys", 2_000_000, "keys of the workload big")
	flag.IntVar(&o.megabytes, "megabytes", 5000, "what restart10k writes before the restart")
	flag.StringVar(&o.prepare, "prepare", "", "addresses of a running cluster, comma-separated: cut it into -ranges and spread the leaders, nothing else")
	flag.IntVar(&o.ranges, "ranges", 1000, "how many ranges -prepare makes")
	flag.StringVar(&o.profiles, "profiles", "", "folder for processor profiles of the servers, of loads by etcd's tool; they take time from what is measured")
	flag.BoolVar(&o.where, "where", false, "say what the servers' processor time goes to, by such profiles")
	flag.StringVar(&o.trim, "trim", "", "a merged profile: take the paths of this machine out of it, nothing else")
	flag.Parse()
	if o.quick {
		o.runs = 1
		o.keys /= 10
	}
	return o
}

func main() {
	debug.SetGCPercent(400) // the loaders share the processors with the servers
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, parse()); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) error {
	if o.prepare != "" {
		return prepare(ctx, strings.Split(o.prepare, ","), o.ranges)
	}
	if o.trim != "" {
		return trim(o.trim)
	}
	chosen, err := choose(o.workloads)
	if err != nil {
		return err
	}
	if o.where && o.profiles == "" {
		if o.profiles, err = os.MkdirTemp("", "profiles-"); err != nil {
			return err
		}
		defer os.RemoveAll(o.profiles)
	}
	// A workload that fails costs its own figure, not those of the hour before.
	var figures []Figure
	var failed error
	for n := 1; n <= o.runs; n++ {
		for _, w := range chosen {
			for _, name := range strings.Split(o.systems, ",") {
				if !slices.Contains(w.systems, name) || ctx.Err() != nil {
					continue
				}
				f, err := measure(ctx, o, w, name)
				if err != nil {
					failed = fmt.Errorf("%s on %s, run %d: %w", w.name, name, n, err)
					fmt.Fprintln(os.Stderr, failed)
					continue
				}
				f.Workload, f.System, f.Run = w.name, name, n
				fmt.Fprintln(os.Stderr, f)
				figures = append(figures, f)
			}
		}
	}
	printTable(os.Stdout, figures)
	printParts(os.Stdout, figures)
	printBars(os.Stdout, figures, append(watchBars(), clusterBars()...))
	if o.quick {
		fmt.Println("The bars are for runs of full size; this one was a tenth.")
	}
	if o.json == "" {
		return failed
	}
	out, err := json.MarshalIndent(figures, "", "  ")
	if err != nil {
		return err
	}
	return errors.Join(failed, os.WriteFile(o.json, out, 0o644))
}

// measure starts a system on an empty folder, runs one workload, and ends it.
func measure(ctx context.Context, o options, w workload, name string) (Figure, error) {
	if err := os.MkdirAll(o.dir, 0o755); err != nil {
		return Figure{}, err
	}
	dir, err := os.MkdirTemp(o.dir, name+"-")
	if err != nil {
		return Figure{}, err
	}
	defer os.RemoveAll(dir)
	s, err := newServer(o.bin, name, dir)
	if err != nil {
		return Figure{}, err
	}
	if err := s.start(ctx); err != nil {
		return Figure{}, err
	}
	defer s.stop()
	if err := s.split(ctx); err != nil {
		return Figure{}, fmt.Errorf("%w; the server's last lines:\n%s", err, s.logTail())
	}
	f, err := w.run(ctx, &bench{options: o, server: s})
	if err != nil {
		return Figure{}, fmt.Errorf("%w; the server's last lines:\n%s", err, s.logTail())
	}
	f.RSSMB = s.rssMB()
	return f, nil
}
