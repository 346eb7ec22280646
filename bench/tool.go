package main

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// toolTimeout bounds one call of etcd's benchmark tool.
const toolTimeout = 5 * time.Minute

func toolPut(conns, clients, total int, args ...string) func(context.Context, *bench) (Figure, error) {
	return func(ctx context.Context, b *bench) (Figure, error) {
		return b.tool(ctx, conns, clients, b.scaled(total), append([]string{"put", "--key-size", "8", "--val-size", "256"}, args...)...)
	}
}

func toolRange(conns, clients, total int) func(context.Context, *bench) (Figure, error) {
	return func(ctx context.Context, b *bench) (Figure, error) {
		conn, err := b.server.dial()
		if err != nil {
			return Figure{}, err
		}
		defer conn.Close()
		key := "\u00e9-key" // begins with 0xc3: in the middle of 64 ranges
		put := &pb.PutRequest{Key: []byte(key), Value: make([]byte, 256)}
		if _, err := pb.NewKVClient(conn).Put(ctx, put); err != nil {
			return Figure{}, err
		}
		return b.tool(ctx, conns, clients, b.scaled(total), "range", key, "--consistency", "l")
	}
}

// tool runs etcd's benchmark tool over all nodes and reads its report. A single
// connection goes to each node in turn: which of them leads is chance.
func (b *bench) tool(ctx context.Context, conns, clients, total int, args ...string) (Figure, error) {
	if conns > 1 || !b.server.cluster() {
		return b.toolOn(ctx, b.server.endpoints(), conns, clients, total, args...)
	}
	var sum Figure
	for _, addr := range b.server.endpoints() {
		f, err := b.toolOn(ctx, []string{addr}, conns, clients, total/len(b.server.nodes), args...)
		if err != nil {
			return Figure{}, err
		}
		n := float64(len(b.server.nodes))
		sum.PerSecond += f.PerSecond / n
		sum.P50Millis += f.P50Millis / n
		sum.P99Millis += f.P99Millis / n
		sum.CPUMicros += f.CPUMicros / n
	}
	return sum, nil
}

func (b *bench) toolOn(ctx context.Context, endpoints []string, conns, clients, total int, args ...string) (Figure, error) {
	ctx, cancel := context.WithTimeout(ctx, toolTimeout)
	defer cancel()
	args = append(args, "--endpoints", strings.Join(endpoints, ","), "--conns", strconv.Itoa(conns), "--clients", strconv.Itoa(clients),
		"--total", strconv.Itoa(total), "--precise")
	profiled, begun := b.profiling(ctx, endpoints), time.Now()
	before := b.server.cpu()
	out, err := exec.CommandContext(ctx, filepath.Join(b.bin, "benchmark"), args...).CombinedOutput()
	used := b.server.cpu() - before
	if err != nil {
		return Figure{}, fmt.Errorf("benchmark: %w\n%s", err, out)
	}
	if err := profiled(); err != nil {
		return Figure{}, err
	}
	f, err := parseReport(string(out))
	if err != nil {
		return Figure{}, fmt.Errorf("%w:\n%s", err, out)
	}
	f.CPUMicros = float64(used.Microseconds()) / float64(total)
	if b.where && b.server.flotilla() {
		f.Parts, err = b.partsOf(ctx, begun, f.CPUMicros)
	}
	return f, err
}

// parseReport reads what etcd's report package prints, the last of several reports. It
// leaves out a percentile of 0: an event that was there before the put's reply. Any error
// that a request met makes the figure worthless.
func parseReport(out string) (Figure, error) {
	if strings.Contains(out, "Error distribution") {
		return Figure{}, fmt.Errorf("requests failed")
	}
	var f Figure
	for line := range strings.Lines(out) {
		fields := strings.Fields(line)
		switch {
		case len(fields) == 1 && fields[0] == "Summary:":
			f = Figure{}
		case len(fields) == 2 && fields[0] == "Requests/sec:":
			f.PerSecond, _ = strconv.ParseFloat(fields[1], 64)
		case len(fields) == 4 && fields[1] == "in" && fields[0] == "50%":
			f.P50Millis = millis(fields[2])
		case len(fields) == 4 && fields[1] == "in" && fields[0] == "99%":
			f.P99Millis = millis(fields[2])
		}
	}
	if f.PerSecond == 0 || f.P99Millis == 0 {
		return Figure{}, fmt.Errorf("no figures in the report")
	}
	return f, nil
}

func millis(seconds string) float64 {
	s, _ := strconv.ParseFloat(seconds, 64)
	return s * 1000
}
