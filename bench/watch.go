package main

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/flotilladb/flotilla/bench/load"
	"github.com/flotilladb/flotilla/proto/adminpb"
)

// groups is how many groups of keys a load has whose server has 64 ranges.
const groups = 64

// scaledTime is a duration, a tenth of it in quick mode.
func (b *bench) scaledTime(d time.Duration) time.Duration {
	if b.quick {
		return d / 10
	}
	return d
}

func (b *bench) target(conns int) load.Target {
	return load.Target{Endpoints: []string{b.server.addr}, Conns: conns, PID: b.server.nodes[0].cmd.Process.Pid}
}

// splitGroups cuts a flotilla64 at the groups of a load's keys.
func (b *bench) splitGroups(ctx context.Context, prefix string) error {
	if b.server.name != "flotilla64" {
		return nil
	}
	conn, err := b.server.dial()
	if err != nil {
		return err
	}
	defer conn.Close()
	for i := 1; i < groups; i++ {
		req := &adminpb.SplitRangeRequest{Key: load.GroupStart(prefix, i)}
		if _, err := adminpb.NewAdminClient(conn).SplitRange(ctx, req); err != nil {
			return fmt.Errorf("split at group %d: %w", i, err)
		}
	}
	return nil
}

// watchLoad runs a mode of load.Watch. Change is given the mode's small run and
// makes it the workload.
func watchLoad(mode, rate, latency, cpu string, change func(b *bench, c *load.WatchConfig)) func(context.Context, *bench) (Figure, error) {
	return func(ctx context.Context, b *bench) (Figure, error) {
		c := load.DefaultWatchConfig(mode)
		c.Target, c.Groups = b.target(1), groups
		change(b, &c)
		if err := b.splitGroups(ctx, c.Prefix); err != nil {
			return Figure{}, err
		}
		r, err := load.Watch(ctx, c)
		return loadFigure(r, err, rate, latency, cpu)
	}
}

// leaseLoad does the same for load.Lease.
func leaseLoad(mode, rate, latency, cpu string, change func(b *bench, c *load.LeaseConfig)) func(context.Context, *bench) (Figure, error) {
	return func(ctx context.Context, b *bench) (Figure, error) {
		c := load.DefaultLeaseConfig(mode)
		c.Target, c.Groups = b.target(8), groups
		change(b, &c)
		if err := b.splitGroups(ctx, c.Prefix); err != nil {
			return Figure{}, err
		}
		r, err := load.Lease(ctx, c)
		return loadFigure(r, err, rate, latency, cpu)
	}
}

// loadFigure makes a figure of a report: the named ones for the table, all
// others beside it. What the server did wrong makes no figure worthless: it is
// a figure, and a bar.
func loadFigure(r *load.Report, err error, rate, latency, cpu string) (Figure, error) {
	if err != nil {
		return Figure{}, err
	}
	f := Figure{
		PerSecond: r.Get(rate), P50Millis: r.Get(latency + "_p50_ms"), P99Millis: r.Get(latency + "_p99_ms"), CPUMicros: r.Get(cpu),
		More: map[string]float64{"wrong": r.Wrong()},
	}
	for _, name := range r.Names() {
		f.More[name] = r.Get(name)
	}
	return f, nil
}

// watchWorkloads measure watches over ranges.
func watchWorkloads() []workload {
	pair, wide := []string{"etcd", "flotilla"}, []string{"etcd", "flotilla64"}
	const event, reply = "server_cpu_per_event_us", "delivery_from_reply"
	return []workload{
		{"watchlat", "watch on a prefix over 64 ranges, 1,000 puts/s", wide,
			watchLoad(load.WatchLatency, "delivered_per_s", reply, event, func(b *bench, c *load.WatchConfig) {
				c.Duration = b.scaledTime(30 * time.Second)
			})},
		{"watchfan", "10,000 watchers of one prefix on 100 streams, 10 puts/s", pair,
			watchLoad(load.WatchLatency, "delivered_per_s", reply, event, func(b *bench, c *load.WatchConfig) {
				c.Watchers, c.Streams, c.Conns, c.PerSecond = b.scaled(10_000), b.scaled(100), 10, 10
				c.Duration = b.scaledTime(30 * time.Second)
			})},
		{"watchidle", "a million idle watches on 100 streams", pair,
			watchLoad(load.WatchIdle, "created_per_s", reply, "server_cpu_per_create_us", func(b *bench, c *load.WatchConfig) {
				c.Watchers, c.Streams, c.Conns = b.scaled(1_000_000), b.scaled(100), 10
			})},
		{"watchprogress", "RequestProgress on idle keys under 2,000 puts/s over 64 ranges", wide,
			watchLoad(load.WatchProgress, "asked", "progress_from_due", "", func(b *bench, c *load.WatchConfig) {
				c.Duration = b.scaledTime(30 * time.Second)
			})},
		{"watchslow", "one watcher of eleven reads nothing for a minute under 1,000 puts/s of 1 KB", pair,
			watchLoad(load.WatchSlow, "puts", "others_during", "", func(b *bench, c *load.WatchConfig) {
				c.Duration = b.scaledTime(time.Minute)
			})},
		{"watchresume", "a watch from a million events back", wide,
			watchLoad(load.WatchResume, "delivered_per_s", "", event, func(b *bench, c *load.WatchConfig) {
				c.Events, c.Conns, c.PatienceTime = b.scaled(1_000_000), 8, 5*time.Minute
			})},
		{"watchtool", "etcd's benchmark watch: 1,000 watchers on 10 streams", pair,
			toolWatch(1000, "watch", "--streams", "10", "--watch-per-stream", "100", "--watched-key-total", "1")},
		{"watchtoollat", "etcd's benchmark watch-latency: 100 watchers on 10 streams", pair,
			toolWatch(100, "watch-latency", "--streams", "10", "--watchers-per-stream", "10", "--put-rate", "100")},
	}
}

func leaseWorkloads() []workload {
	pair := []string{"etcd", "flotilla"}
	return []workload{
		{"leasegrant", "a million leases of one key each", pair,
			leaseLoad(load.LeaseGrant, "granted_per_s", "", "server_cpu_per_lease_us", func(b *bench, c *load.LeaseConfig) {
				c.Leases = b.scaled(1_000_000)
			})},
		{"leasealive", "20,000 keepalives/s for 100,000 leases", pair,
			leaseLoad(load.LeaseKeepAlive, "keepalives_per_s", "keepalive_from_due", "server_cpu_per_keepalive_us", func(b *bench, c *load.LeaseConfig) {
				c.Leases, c.PerSecond, c.Duration, c.KeysPerLease = b.scaled(100_000), 20_000, b.scaledTime(30*time.Second), 0
			})},
		{"leasestorm", "100,000 leases expire at once under 1,000 puts/s", []string{"etcd", "flotilla", "flotilla64"},
			leaseLoad(load.LeaseStorm, "deleted_per_s", "put_during", "server_cpu_per_key_us", func(b *bench, c *load.LeaseConfig) {
				// Granting and renewing them must take less than the TTL.
				c.Leases, c.TTL = b.scaled(100_000), max(b.scaledTime(60*time.Second), 15*time.Second)
			})},
	}
}

// toolWatch runs a watch test of etcd's benchmark tool. The last part of its
// report is about the events.
func toolWatch(watchers int, args ...string) func(context.Context, *bench) (Figure, error) {
	return func(ctx context.Context, b *bench) (Figure, error) {
		ctx, cancel := context.WithTimeout(ctx, toolTimeout)
		defer cancel()
		puts := b.scaled(5000)
		args := append(args, "--endpoints", b.server.addr, "--precise", "--put-total", fmt.Sprint(puts))
		before := b.server.cpu()
		out, err := exec.CommandContext(ctx, filepath.Join(b.bin, "benchmark"), args...).CombinedOutput()
		if err != nil {
			return Figure{}, fmt.Errorf("benchmark: %w\n%s", err, out)
		}
		f, err := parseReport(string(out))
		f.CPUMicros = float64((b.server.cpu() - before).Microseconds()) / float64(puts*watchers)
		return f, err
	}
}
