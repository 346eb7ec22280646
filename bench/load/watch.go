package load

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Modes of a watch run.
const (
	WatchLatency  = "latency"  // puts at a rate; how late the events are
	WatchIdle     = "idle"     // many watches and hardly a put; memory
	WatchProgress = "progress" // RequestProgress on idle keys while others are written
	WatchSlow     = "slow"     // latency, while one watcher reads nothing for the duration
	WatchResume   = "resume"   // events first, then watches from the first of them
)

// WatchConfig says what to do.
type WatchConfig struct {
	Target
	Mode     string
	Watchers int
	Streams  int
	On       string // OnKey, OnPrefix or OnAll
	PrevKV   bool

	Prefix     string // of all keys that are written
	Keys       int
	Groups     int     // of keys; see GroupStart
	PerSecond  float64 // puts
	Duration   time.Duration
	Workers    int // requests at a time, at most
	ValueBytes int

	Events       int           // resume: how many to go back
	PutsPerTxn   int           // resume: how many events have one revision
	AsksPerSec   float64       // progress
	Settle       time.Duration // idle: how long the server may tidy up before its memory counts
	PatienceTime time.Duration // for what has not been delivered when the puts have ended
}

// DefaultWatchConfig returns a small run of a mode.
func DefaultWatchConfig(mode string) WatchConfig {
	c := WatchConfig{
		Target: Target{Conns: 1}, Mode: mode, Watchers: 1, Streams: 1, On: OnPrefix,
		Prefix: "bench/w/", Keys: 10_000, Groups: 1, PerSecond: 1000, Duration: 10 * time.Second, Workers: 256, ValueBytes: 256,
		Events: 100_000, PutsPerTxn: 1, AsksPerSec: 100, Settle: 10 * time.Second, PatienceTime: 30 * time.Second,
	}
	switch mode {
	case WatchIdle:
		c.Watchers, c.Streams, c.On, c.Conns, c.PerSecond, c.Duration = 10_000, 10, OnKey, 10, 100, time.Second
	case WatchProgress:
		c.PerSecond = 2000
	case WatchSlow:
		c.Watchers, c.Streams, c.ValueBytes = 10, 10, 1024
	}
	return c
}

// Validate reports what is wrong with a configuration.
func (c *WatchConfig) Validate() error {
	if err := c.Target.Validate(); err != nil {
		return err
	}
	switch c.Mode {
	case WatchLatency, WatchIdle, WatchProgress, WatchSlow, WatchResume:
	default:
		return fmt.Errorf("mode %q: want %s, %s, %s, %s or %s", c.Mode, WatchLatency, WatchIdle, WatchProgress, WatchSlow, WatchResume)
	}
	switch c.On {
	case OnKey, OnPrefix, OnAll:
	default:
		return fmt.Errorf("on %q: want %s, %s or %s", c.On, OnKey, OnPrefix, OnAll)
	}
	switch {
	case c.Watchers <= 0 || c.Streams <= 0 || c.Streams > c.Watchers:
		return errors.New("watchers and streams: want at least 1, and no stream without a watcher")
	case c.Keys <= 0 || c.Groups <= 0 || c.Groups > 1000:
		return errors.New("keys and groups: want at least 1, and at most 1000 groups")
	case !(c.PerSecond > 0) || !(c.AsksPerSec > 0) || c.Duration <= 0 || c.Workers <= 0:
		return errors.New("rates, duration and workers: want more than 0")
	case c.Events <= 0 || c.PutsPerTxn <= 0 || c.PutsPerTxn > c.Keys:
		return errors.New("events and puts in a transaction: want at least 1, and no key twice in a transaction")
	case c.Prefix == "" || c.ValueBytes < 0 || c.Settle < 0 || c.PatienceTime < 0:
		return errors.New("a prefix is needed, and sizes and times of 0 or more")
	}
	return nil
}

func (c *WatchConfig) keyspace() keyspace { return keyspace{c.Prefix, c.Keys, c.Groups} }

func (c *WatchConfig) putsTotal() int { return max(1, int(c.PerSecond*c.Duration.Seconds())) }

// writeConnsMax bounds the connections that puts go over, which are others than
// those of the watches: what is measured is the server.
const writeConnsMax = 8

// Watch makes a run. The error is about the run; what the server did wrong is in
// the report.
func Watch(ctx context.Context, c WatchConfig) (*Report, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	r := newReport("watch " + c.Mode)
	r.set("watchers", float64(c.Watchers))
	r.set("streams", float64(c.Streams))
	var err error
	switch c.Mode {
	case WatchLatency:
		err = c.latency(ctx, r)
	case WatchIdle:
		err = c.idle(ctx, r)
	case WatchProgress:
		err = c.progress(ctx, r)
	case WatchSlow:
		err = c.slow(ctx, r)
	case WatchResume:
		err = c.resume(ctx, r)
	}
	if err != nil {
		return nil, fmt.Errorf("bench watch %s: %w", c.Mode, err)
	}
	return r, nil
}

// write makes all puts of a run at their rate and returns when the last was
// answered.
func (c *WatchConfig) write(ctx context.Context, p *puts) error {
	conns, done, err := c.dial(min(c.Conns, writeConnsMax))
	if err != nil {
		return err
	}
	defer done()
	g := newGroup(ctx)
	p.start(g, conns, c.Workers, c.PerSecond)
	return g.wait()
}

func (c *WatchConfig) latency(ctx context.Context, r *Report) error {
	conns, done, err := c.dial(c.Conns)
	if err != nil {
		return err
	}
	defer done()
	p := newPuts(c.keyspace(), c.putsTotal(), c.ValueBytes)
	g := newGroup(ctx)
	defer g.end()
	streams, err := openStreams(g, conns, c.Streams, c.Watchers, p, c.PrevKV)
	if err != nil {
		return err
	}
	if err := begin(g, streams, c.On, 0); err != nil {
		return err
	}
	before, err := c.usage()
	if err != nil {
		return err
	}
	start := time.Now()
	if err := c.write(g.ctx, p); err != nil {
		return err
	}
	if err := awaitAll(g, streams, c.On, p, c.PatienceTime); err != nil {
		return err
	}
	elapsed := time.Since(start) - linger
	events := sum(streams, delivered)
	r.set("delivered", float64(events))
	r.set("delivered_per_s", float64(events)/elapsed.Seconds())
	if err := r.usageSince(&c.Target, before, events, 0, "event", ""); err != nil {
		return err
	}
	if err := g.end(); err != nil {
		return err
	}
	p.report(r)
	tally(r, streams, c.On, p)
	return nil
}

// idle creates watches on keys that nobody writes, but for a few, at the end, to
// see that they live.
func (c *WatchConfig) idle(ctx context.Context, r *Report) error {
	conns, done, err := c.dial(c.Conns)
	if err != nil {
		return err
	}
	defer done()
	if c.On == OnKey {
		c.Keys = max(c.Keys, c.Watchers) // each its own
	}
	p := newPuts(c.keyspace(), c.putsTotal(), c.ValueBytes)
	g := newGroup(ctx)
	defer g.end()
	before, err := c.usage()
	if err != nil {
		return err
	}
	streams, err := openStreams(g, conns, c.Streams, c.Watchers, p, c.PrevKV)
	if err != nil {
		return err
	}
	start := time.Now()
	if err := begin(g, streams, c.On, 0); err != nil {
		return err
	}
	r.set("created_per_s", float64(c.Watchers)/time.Since(start).Seconds())
	if !pause(g.ctx, c.Settle) {
		return g.failed()
	}
	if err := r.usageSince(&c.Target, before, int64(c.Watchers), int64(c.Watchers), "create", "watch"); err != nil {
		return err
	}
	if err := c.write(g.ctx, p); err != nil {
		return err
	}
	if err := awaitAll(g, streams, c.On, p, c.PatienceTime); err != nil {
		return err
	}
	if err := g.end(); err != nil {
		return err
	}
	p.report(r)
	tally(r, streams, c.On, p)
	return nil
}
