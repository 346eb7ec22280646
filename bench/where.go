package main

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// part is something that servers do, by functions that are on the stack only then.
type part struct {
	name  string
	stack *regexp.Regexp
}

// serverParts are tried in order: what is done for something else comes first.
func serverParts() []part {
	var parts []part
	for _, p := range [][2]string{
		{"garbage collection", `gcBgMarkWorker|gcAssist|bgsweep|bgscavenge|gcStart|gcMark(Done|Termination)`},
		{"log: sync", `SyncData`},
		{"log: write", `LogWriter\)\.flush|\.commitWrite`},
		{"flush and compaction", `runCompaction|\.flush1|\.compact1`},
		{"memtable: insert", `memTable\)\.(apply|prepare)`},
		{"engine: commit, the rest", `pebble.*\.Apply|engine.*Commit|runSyncs`},
		{"read what a write replaces", `mvcc.*EngineState\)\.Get|mvcc\.put|NewEngineState`},
		{"evaluate, the rest", `range.*\)\.(Evaluate|evaluate\w*)`},
		{"propose", `Replica\)\.(granted|finish|propose)|Group\)\.Propose`},
		{"raft: step", `stepRaft|\.StepFrom|Group\)\.Step`},
		{"raft: ready", `RawNode\)\.(Ready|HasReady)`},
		{"group: ready, synced", `Group\)\.(Ready|HasReady|Synced)|Core\)\.Synced`},
		{"apply", `\.applyEntr|Store\)\.Advance|Core\)\.Advance`},
		{"collect, the rest", `Store\)\.Collect|Replica\)\.collect`},
		{"watches: publish", `watchfeed|\.publish`},
		{"peers: encode, decode", `peerLink\)|internal/wire`},
		{"peers: send, receive", `internal/rpc`},
		{"loop, the rest", `node\.\(\*(Core|Node)\)\.(Step|Request|Ready|step|takeTurn|receive|loop|answer)`},
		{"gRPC: read", `HandleStreams|serveStreams$`},
		{"gRPC: write", `loopyWriter`},
		{"handlers", `internal/etcdapi|/router\.`},
		{"gRPC: the rest", `google\.golang\.org/grpc`},
		{"scheduler", `runtime\.(mcall|schedule|park_m|findRunnable|mstart|sysmon|gosched_m|goexit0)`},
	} {
		parts = append(parts, part{p[0], regexp.MustCompile(`(?m)` + p[1])})
	}
	return parts
}

const otherPart = "other"

// shares returns which share of the processor time each part has, of all that profiles hold.
func shares(ctx context.Context, profiles []string) (map[string]float64, error) {
	out, err := exec.CommandContext(ctx, "go", append([]string{"tool", "pprof", "-traces", "-unit", "us"}, profiles...)...).Output()
	if err != nil {
		return nil, fmt.Errorf("go tool pprof: %w", err)
	}
	times, all := byPart(string(out))
	if all == 0 {
		return nil, fmt.Errorf("no samples in %s", strings.Join(profiles, ", "))
	}
	for name := range times {
		times[name] /= all
	}
	return times, nil
}

// byPart adds up the samples of each part, in what pprof prints as traces.
func byPart(traces string) (times map[string]float64, all float64) {
	times = make(map[string]float64)
	parts := serverParts()
	eachTrace(traces, func(micros float64, stack string) {
		name := otherPart
		if i := slices.IndexFunc(parts, func(p part) bool { return p.stack.MatchString(stack) }); i >= 0 {
			name = parts[i].name
		}
		times[name] += micros
		all += micros
	})
	return times, all
}

// eachTrace calls fn for the samples in what pprof prints as traces: after a line of dashes
// the time and the innermost function, then a line for each of its callers.
func eachTrace(out string, fn func(micros float64, stack string)) {
	var stack []string
	micros := 0.0
	end := func() {
		if len(stack) > 0 {
			fn(micros, strings.Join(stack, "\n"))
		}
		stack = nil
	}
	lines := bufio.NewScanner(strings.NewReader(out))
	lines.Buffer(nil, len(out)+1)
	begun := false
	for lines.Scan() {
		line := strings.TrimSuffix(strings.TrimSpace(lines.Text()), " (inline)")
		switch fields := strings.Fields(line); {
		case strings.HasPrefix(line, "-----"):
			end()
			begun = true
		case !begun || line == "":
		case len(stack) == 0 && len(fields) >= 2 && strings.HasSuffix(fields[0], "us"):
			micros, _ = strconv.ParseFloat(strings.TrimSuffix(fields[0], "us"), 64)
			stack = append(stack, strings.Join(fields[1:], " "))
		case len(stack) > 0:
			stack = append(stack, line)
		}
	}
	end()
}

// partsOf says what a server's time for an operation went to, by the profiles that were
// written since a moment, and the figure of its processor time.
func (b *bench) partsOf(ctx context.Context, since time.Time, micros float64) (map[string]float64, error) {
	files, err := filepath.Glob(filepath.Join(b.profiles, "*.prof"))
	if err != nil {
		return nil, err
	}
	files = slices.DeleteFunc(files, func(f string) bool {
		info, err := os.Stat(f)
		return err != nil || info.ModTime().Before(since)
	})
	parts, err := shares(ctx, files)
	for name := range parts {
		parts[name] *= micros
	}
	return parts, err
}

// printParts shows where the servers' time for an operation goes, in microseconds: a column
// for each system, medians.
func printParts(w io.Writer, figures []Figure) {
	byWorkload := make(map[string]map[string][]Figure)
	var order, systems []string
	for _, f := range figures {
		if len(f.Parts) == 0 {
			continue
		}
		if byWorkload[f.Workload] == nil {
			byWorkload[f.Workload] = make(map[string][]Figure)
			order = append(order, f.Workload)
		}
		byWorkload[f.Workload][f.System] = append(byWorkload[f.Workload][f.System], f)
		if !slices.Contains(systems, f.System) {
			systems = append(systems, f.System)
		}
	}
	for _, workload := range order {
		medians := make(map[string]map[string]float64)
		names := make(map[string]float64)
		for system, all := range byWorkload[workload] {
			medians[system] = median(all).Parts
			for name, micros := range medians[system] {
				names[name] = max(names[name], micros)
			}
		}
		tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
		fmt.Fprintf(tw, "%s: CPU us/op\t%s\t\n", workload, strings.Join(systems, "\t"))
		for _, name := range slices.SortedFunc(maps.Keys(names), func(a, b string) int {
			return cmp.Or(cmp.Compare(names[b], names[a]), cmp.Compare(a, b))
		}) {
			fmt.Fprint(tw, name)
			for _, system := range systems {
				fmt.Fprintf(tw, "\t%.1f", medians[system][name])
			}
			fmt.Fprintln(tw, "\t")
		}
		tw.Flush()
	}
}
