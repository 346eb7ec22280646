package main

import (
	"context"
	"errors"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/flotilladb/flotilla/bench/load"
)

func newBench(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Make load for a server that speaks etcd's API, and check what it does",
		Args:  cobra.ArbitraryArgs,
		RunE:  needCommand,
	}
	cmd.AddCommand(newBenchWatch(a), newBenchLease(a))
	return cmd
}

// benchFlags are the flags of every run.
type benchFlags struct {
	clientFlags
	mode string
}

func (b *benchFlags) add(cmd *cobra.Command, t *load.Target, modes ...string) {
	fs := cmd.Flags()
	fs.StringVar(&b.endpoints, "endpoints", "127.0.0.1:2379", "gRPC endpoints, separated by commas; connections go to them in turn")
	fs.StringVarP(&b.output, "output", "o", "table", "table or json")
	fs.StringVar(&b.mode, "mode", modes[0], strings.Join(modes, ", "))
	fs.IntVar(&t.Conns, "conns", t.Conns, "connections")
	fs.IntVar(&t.PID, "pid", 0, "process id of the server, if its CPU and memory are to be measured")
}

func (b *benchFlags) target(cmd *cobra.Command, t *load.Target) error {
	if err := b.check(cmd); err != nil {
		return err
	}
	t.Endpoints = b.targets()
	return nil
}

// defaults takes those of the mode where no flag says otherwise: the mode is
// known only when all flags are read.
func defaults(fs *pflag.FlagSet, reset func()) error {
	given := map[string]string{}
	fs.Visit(func(f *pflag.Flag) { given[f.Name] = f.Value.String() })
	reset()
	for name, value := range given {
		if err := fs.Set(name, value); err != nil {
			return err
		}
	}
	return nil
}

// errWrong is the end of a run in which the server did what it must not.
var errWrong = errors.New("the server did what it must not: see the figures")

func (a *app) printReport(output string, r *load.Report, err error) error {
	if err != nil {
		return err
	}
	if output == "json" {
		err = a.printJSON(r)
	} else {
		err = r.Print(a.out)
	}
	if err == nil && r.Wrong() > 0 {
		return errWrong
	}
	return err
}

// runBench makes a run of either kind.
func runBench(cmd *cobra.Command, validate func() error, run func(context.Context) (*load.Report, error)) (*load.Report, error) {
	if err := validate(); err != nil {
		return nil, &usageError{cmd, err}
	}
	return run(cmd.Context())
}

func newBenchWatch(a *app) *cobra.Command {
	c := load.DefaultWatchConfig(load.WatchLatency)
	flags := &benchFlags{}
	cmd := &cobra.Command{
		Use:   "watch",
		Short: "Watch under writes at a fixed rate",
		Long: `Watch under writes at a fixed rate. Modes:

  latency   how late events are, from when a put was due and from its reply
  idle      many watches and hardly a put: memory (needs --pid)
  progress  RequestProgress on idle keys while others are written
  slow      latency, while one watcher reads nothing for the duration, then reads on
  resume    writes events first, then watches from the first of them

The exit code is 1 if an event is missing, comes twice, out of order or in parts.`,
		Args: exactly(0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			err := defaults(cmd.Flags(), func() { c = load.DefaultWatchConfig(flags.mode) })
			if err != nil {
				return err
			}
			if err := flags.target(cmd, &c.Target); err != nil {
				return err
			}
			r, err := runBench(cmd, c.Validate, func(ctx context.Context) (*load.Report, error) { return load.Watch(ctx, c) })
			return a.printReport(flags.output, r, err)
		},
	}
	flags.add(cmd, &c.Target, load.WatchLatency, load.WatchIdle, load.WatchProgress, load.WatchSlow, load.WatchResume)
	fs := cmd.Flags()
	fs.IntVar(&c.Watchers, "watchers", c.Watchers, "watchers")
	fs.IntVar(&c.Streams, "streams", c.Streams, "streams that they share")
	fs.StringVar(&c.On, "on", c.On, "what each watches: key (one of them), prefix (of all keys) or all")
	fs.BoolVar(&c.PrevKV, "prev-kv", c.PrevKV, "ask for the previous value")
	fs.StringVar(&c.Prefix, "prefix", c.Prefix, "prefix of the keys that are written")
	fs.IntVar(&c.Keys, "keys", c.Keys, "keys")
	fs.IntVar(&c.Groups, "groups", c.Groups, "groups of keys: 000/, 001/ ... after the prefix; cut ranges there")
	fs.Float64Var(&c.PerSecond, "rate", c.PerSecond, "puts a second")
	fs.DurationVar(&c.Duration, "duration", c.Duration, "how long to put")
	fs.IntVar(&c.Workers, "workers", c.Workers, "puts at a time, at most")
	fs.IntVar(&c.ValueBytes, "value-size", c.ValueBytes, "bytes of a value")
	fs.IntVar(&c.Events, "events", c.Events, "resume: events to go back")
	fs.IntVar(&c.PutsPerTxn, "puts-per-txn", c.PutsPerTxn, "resume: events of one revision")
	fs.Float64Var(&c.AsksPerSec, "ask-rate", c.AsksPerSec, "progress: asks a second")
	fs.DurationVar(&c.Settle, "settle", c.Settle, "idle: time before the memory is looked at")
	fs.DurationVar(&c.PatienceTime, "patience", c.PatienceTime, "time for the last events to come")
	return cmd
}

func newBenchLease(a *app) *cobra.Command {
	c := load.DefaultLeaseConfig(load.LeaseGrant)
	flags := &benchFlags{}
	cmd := &cobra.Command{
		Use:   "lease",
		Short: "Grant, renew and lose leases",
		Long: `Grant, renew and lose leases. Modes:

  grant      many leases with keys: memory (needs --pid)
  keepalive  renewals at a fixed rate: latency from when they were due, CPU
  storm      all leases expire at once under puts at a fixed rate

The exit code is 1 if a lease is lost or dies early, a key stays, or the keys of
one lease go at two revisions.`,
		Args: exactly(0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			err := defaults(cmd.Flags(), func() { c = load.DefaultLeaseConfig(flags.mode) })
			if err != nil {
				return err
			}
			if err := flags.target(cmd, &c.Target); err != nil {
				return err
			}
			r, err := runBench(cmd, c.Validate, func(ctx context.Context) (*load.Report, error) { return load.Lease(ctx, c) })
			return a.printReport(flags.output, r, err)
		},
	}
	flags.add(cmd, &c.Target, load.LeaseGrant, load.LeaseKeepAlive, load.LeaseStorm)
	fs := cmd.Flags()
	fs.IntVar(&c.Leases, "leases", c.Leases, "leases")
	fs.IntVar(&c.KeysPerLease, "keys-per-lease", c.KeysPerLease, "keys of each")
	fs.DurationVar(&c.TTL, "ttl", c.TTL, "time to live, in whole seconds")
	fs.IntVar(&c.Streams, "streams", c.Streams, "streams of keepalives")
	fs.Float64Var(&c.PerSecond, "rate", c.PerSecond, "keepalives, or puts of a storm, a second")
	fs.DurationVar(&c.Duration, "duration", c.Duration, "keepalive: how long")
	fs.IntVar(&c.Workers, "workers", c.Workers, "requests at a time, at most")
	fs.IntVar(&c.ValueBytes, "value-size", c.ValueBytes, "bytes of a value")
	fs.StringVar(&c.Prefix, "prefix", c.Prefix, "prefix of the leases' keys")
	fs.IntVar(&c.Groups, "groups", c.Groups, "groups of keys: 000/, 001/ ... after the prefix; cut ranges there")
	fs.DurationVar(&c.Settle, "settle", c.Settle, "grant: time before the memory is looked at")
	fs.DurationVar(&c.PatienceTime, "patience", c.PatienceTime, "time for the last answers and deletes to come")
	return cmd
}
