package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"os/signal"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/spf13/cobra"

	"github.com/flotilladb/flotilla/internal/config"
	"github.com/flotilladb/flotilla/internal/etcdapi"
	"github.com/flotilladb/flotilla/internal/node"
	"github.com/flotilladb/flotilla/internal/stop"
	"github.com/flotilladb/flotilla/placement"
	"github.com/flotilladb/flotilla/watchfeed"
)

// stopTimeout is how long an orderly stop may take before calls under way are
// cut off. Watches end at once; a stream of renewals lasts as long as its client.
const stopTimeout = 5 * time.Second

func newServer(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "server",
		Short: "Run a node",
		Long: "Run a node. Flags that etcd has too mean the same. A flag that is not given is\n" +
			"taken from the variable FLOTILLA_<NAME>, else from ETCD_<NAME>.",
		Args: exactly(0, ""),
	}
	flags := config.AddFlags(cmd.Flags())
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, err := flags.Load(a.environ)
		if err != nil {
			return &usageError{cmd, err}
		}
		logger, closeLog, err := newLogger(cfg, a.out, a.err)
		if err != nil {
			return err
		}
		defer closeLog()
		for _, w := range cfg.Warnings {
			logger.Warn(w)
		}
		if err := serve(cmd.Context(), cfg, a.environ, logger); err != nil {
			logger.Error("the node ends", "error", err)
			return err
		}
		return nil
	}
	return cmd
}

// serve runs a node until a signal, or until it fails. A second signal ends the
// process at once.
func serve(ctx context.Context, cfg *config.Config, environ []string, logger *slog.Logger) error {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	defer signal.Stop(signals)
	// Until the node is open a signal ends the attempt: it may wait for others for long.
	opening, giveUp := context.WithCancel(ctx)
	defer giveUp()
	watcher, first := stop.New(context.WithoutCancel(ctx)), make(chan os.Signal, 1)
	_ = watcher.Go("signals", func(ctx context.Context) { heed(ctx, signals, first, giveUp) }) // a new stopper refuses nothing
	defer watcher.Stop()
	floor, governed := tuneMemory(cfg, environ)
	defer runtime.KeepAlive(&floor)

	listeners, err := listen(cfg, logger)
	if err != nil {
		return err
	}
	defer listeners.close()
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	peerTLS, err := cfg.PeerTLS.Load()
	if err != nil {
		return err
	}
	n, err := node.Open(opening, node.Config{
		Members: cfg.Members, Join: cfg.JoinAddrs(), Existing: cfg.Existing(), PeerListener: listeners.peer, MorePeerListeners: listeners.morePeers, PeerTLS: peerTLS, NoPlanner: !cfg.Planner, Planner: placement.Limits{LostAfter: cfg.StoreLostAfter},
		CheckInterval: cfg.CorruptCheckTime, CheckBytesMax: cfg.CorruptCheckBytes,
		GossipAddr: cfg.ListenGossipAddr, GossipKey: cfg.GossipKey, NoGossip: !cfg.Gossip(),
		ElectionTimeout: cfg.ElectionTimeout, HeartbeatInterval: cfg.HeartbeatInterval,
		Name: cfg.Name, Dir: cfg.DataDir, ClusterToken: cfg.InitialClusterToken,
		ClientURLs: texts(cfg.AdvertiseClientURLs), PeerURLs: texts(cfg.InitialAdvertisePeerURLs),
		WatchProgressInterval: cfg.WatchProgressNotifyInterval,
		CacheBytes:            cfg.CacheBytes, QuotaBytes: cfg.QuotaBackendBytes,
		Logger: logger, Registerer: registry,
		Fatal: func(err error) {
			// Nothing is tried any more, as after a power cut: no other write or
			// answer may come from a state that the disk does not have.
			logger.Error("the disk failed and the node ends; what was acknowledged is on the disk. "+
				"Look at the disk and its file system, then start the node again", "error", err)
			os.Exit(exitFailed)
		},
	})
	if opening.Err() != nil && errors.Is(err, context.Canceled) {
		logger.Info("stopped before the node was open", "was_at", err) // in order, as it is later
		return nil
	}
	if err != nil {
		return fmt.Errorf("start on %s: %w", cfg.DataDir, err)
	}
	stopper := stop.New(context.WithoutCancel(ctx))
	if governed {
		_ = stopper.Go("heap room", func(ctx context.Context) { governHeap(ctx, cfg.GCPercent) }) // a new stopper refuses nothing
	}
	api, err := startAPI(cfg, n, listeners, stopper, registry, logger)
	if err != nil {
		return errors.Join(err, stopAll(nil, n, stopper))
	}
	logger.Info("ready to serve client requests", "name", cfg.Name, "data_dir", cfg.DataDir,
		"listen_client_urls", texts(cfg.ListenClientURLs))

	select {
	case s := <-first:
		logger.Info("stopping", "signal", s.String())
	case <-ctx.Done():
		logger.Info("stopping")
	case <-n.Failed():
		err = n.Err()
	}
	return errors.Join(err, stopAll(api, n, stopper))
}

// heed passes the first signal on. A second one ends the process at once, whatever it
// does: it may read its folder for long, or wait for others when it stops.
func heed(ctx context.Context, signals <-chan os.Signal, first chan<- os.Signal, giveUp func()) {
	select {
	case s := <-signals:
		first <- s
		giveUp()
	case <-ctx.Done():
		return
	}
	select {
	case <-signals:
		os.Exit(exitFailed)
	case <-ctx.Done():
	}
}

// stopAll has the leaders leave, and then ends the API before the node behind it.
func stopAll(api *etcdapi.Server, n *node.Node, stopper *stop.Stopper) error {
	n.Drain(context.Background())
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	if api != nil {
		api.Stop(ctx)
	}
	stopper.Quiesce()
	// Calls that were cut off have used up the time.
	endCtx, cancelEnd := context.WithTimeout(context.Background(), stopTimeout)
	defer cancelEnd()
	err := stopper.Wait(endCtx)
	if err != nil {
		err = fmt.Errorf("still running: %v: %w", stopper.Running(), err)
	}
	nodeCtx, cancelNode := context.WithTimeout(context.Background(), stopTimeout)
	defer cancelNode()
	return errors.Join(err, n.Stop(nodeCtx))
}

// apiConfig joins what the flags say with what the node is. What there is no flag
// for keeps its default.
func apiConfig(cfg *config.Config, n *node.Node) etcdapi.Config {
	c := etcdapi.DefaultConfig()
	c.KV, c.Identity, c.Maintenance, c.Alarms, c.Cluster, c.Admin, c.Quota = n.KV(), n, n, n, n, n, n
	c.MaxTxnOps, c.MaxRequestBytes = cfg.MaxTxnOps, cfg.MaxRequestBytes
	c.MaxConcurrentStreams = cfg.MaxConcurrentStreams
	c.RequestTimeout, c.ElectionTimeout = cfg.RequestTimeout(), cfg.ElectionTimeout
	c.KeepaliveMinTime = cfg.GRPCKeepaliveMinTime
	c.KeepaliveInterval = cfg.GRPCKeepaliveInterval
	c.KeepaliveTimeout = cfg.GRPCKeepaliveTimeout
	c.OpenWatches = func(sc watchfeed.StreamConfig) (etcdapi.WatchStream, error) { return n.Watches().Open(sc) }
	c.Leases = n.Leases()
	c.Pprof, c.Gateway = cfg.EnablePprof, cfg.EnableGateway
	return c
}

func startAPI(cfg *config.Config, n *node.Node, listeners *listeners, stopper *stop.Stopper,
	registry *prometheus.Registry, logger *slog.Logger,
) (*etcdapi.Server, error) {
	c := apiConfig(cfg, n)
	c.Stopper, c.Logger, c.Registerer, c.Gatherer = stopper, logger, registry, registry
	api, err := etcdapi.New(c)
	if err != nil {
		return nil, err
	}
	for _, l := range listeners.clients {
		if err := api.Serve(l); err != nil {
			return nil, err
		}
	}
	for _, l := range listeners.metrics {
		if err := api.ServeHTTP(l); err != nil {
			return nil, err
		}
	}
	if cfg.AutoCompaction == config.CompactionOff {
		return api, nil
	}
	return api, etcdapi.StartCompactor(etcdapi.CompactorConfig{
		KV: n.KV(), Identity: n, Stopper: stopper, Logger: logger,
		KeepRevisions: cfg.AutoCompactionRevisions, KeepPeriod: cfg.AutoCompactionPeriod,
	})
}

// listeners are bound before the store is opened: a port in use is known at
// once, and clients that come early wait instead of being turned away.
type listeners struct {
	clients, metrics []net.Listener
	peer             net.Listener // nil: no other node can come
	morePeers        []net.Listener
}

func (l *listeners) close() {
	for _, one := range slices.Concat(l.clients, l.metrics, l.morePeers) {
		_ = one.Close() // whoever served it may have closed it
	}
	if l.peer != nil {
		_ = l.peer.Close()
	}
}

func listen(cfg *config.Config, logger *slog.Logger) (*listeners, error) {
	var l listeners
	for _, group := range []struct {
		flag string
		urls []url.URL
		to   *[]net.Listener
	}{
		{"listen-client-urls", cfg.ListenClientURLs, &l.clients},
		{"listen-metrics-urls", cfg.ListenMetricsURLs, &l.metrics},
	} {
		for i := range group.urls {
			one, err := listenURL(&group.urls[i])
			if err != nil {
				l.close()
				return nil, fmt.Errorf("--%s: %w", group.flag, err)
			}
			*group.to = append(*group.to, one)
		}
	}
	if len(cfg.ListenPeerURLs) == 0 {
		return &l, nil
	}
	var err error
	l.peer, err = listenURL(&cfg.ListenPeerURLs[0])
	switch alone := len(cfg.Members) <= 1 && len(cfg.JoinAddrs()) == 0; {
	case err == nil:
	case alone && cfg.ListenPeerURLs[0].String() == config.ListenPeerByDefault:
		// Nobody asked for it, and nobody needs it yet.
		logger.Warn("no other node can join: the port for them is in use; set --listen-peer-urls", "error", err)
		l.peer = nil
	default:
		l.close()
		return nil, fmt.Errorf("--listen-peer-urls: %w", err)
	}
	for i := range cfg.ListenPeerURLs[1:] {
		one, err := listenURL(&cfg.ListenPeerURLs[1+i])
		if err != nil {
			l.close()
			return nil, fmt.Errorf("--listen-peer-urls: %w", err)
		}
		l.morePeers = append(l.morePeers, one)
	}
	return &l, nil
}

func listenURL(u *url.URL) (net.Listener, error) {
	if u.Scheme == "unix" {
		file := filepath.FromSlash(path.Join(u.Host, u.Path))
		if u.Host == "" {
			file = u.Path
		}
		return listenFile(file)
	}
	return net.Listen("tcp", u.Host)
}

// listenFile takes the place of a socket that a process left behind which was killed.
func listenFile(file string) (net.Listener, error) {
	l, err := net.Listen("unix", file)
	if !errors.Is(err, syscall.EADDRINUSE) {
		return l, err
	}
	conn, dialErr := net.Dial("unix", file)
	if dialErr == nil {
		_ = conn.Close() // somebody listens there
	}
	if info, statErr := os.Lstat(file); !errors.Is(dialErr, syscall.ECONNREFUSED) || statErr != nil || info.Mode().Type() != os.ModeSocket {
		return nil, err
	}
	if err := os.Remove(file); err != nil {
		return nil, err
	}
	return net.Listen("unix", file)
}

func texts(urls []url.URL) []string {
	out := make([]string, len(urls))
	for i := range urls {
		out[i] = urls[i].String()
	}
	return out
}
