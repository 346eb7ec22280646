package etcdapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/http"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3election/v3electionpb"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3lock/v3lockpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"

	"github.com/flotilladb/flotilla/proto/adminpb"
	"github.com/flotilladb/flotilla/watchfeed"
)

// recvOverheadBytes is how much longer than a request a gRPC message may be, as
// in etcd: the request's limit is checked after it was decoded.
const recvOverheadBytes = 512 << 10

// Server is the API of a node. Serve may be called for several listeners; Stop
// ends them all.
type Server struct {
	cfg    Config
	grpc   *grpc.Server
	http   *http.Server
	health *health.Server
	// draining is done, and drain called, when streams that have no end of their
	// own must end.
	draining context.Context
	drain    context.CancelFunc
	leader   *leaderWatch
}

// New puts the services together. Nothing is served yet.
func New(cfg Config) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, health: health.NewServer()}
	s.draining, s.drain = context.WithCancel(cfg.Stopper.Context())
	s.leader = newLeaderWatch(cfg.Identity, cfg.ElectionTimeout)
	if err := cfg.Stopper.Go("leader watch", s.leader.run); err != nil {
		return nil, err
	}
	c := newCodec()
	var watches watchCounts
	if err := registerMetrics(cfg.Registerer, c, &watches); err != nil {
		return nil, err
	}
	s.grpc = grpc.NewServer(serverOptions(&cfg, c)...)
	svc := s.register(&watches)
	mux, err := s.newMux(svc)
	if err != nil {
		return nil, err
	}
	s.http = &http.Server{
		Handler:           mux,
		ReadHeaderTimeout: 5 * time.Minute, // etcd's
		ErrorLog:          slog.NewLogLogger(cfg.Logger.Handler(), slog.LevelDebug),
	}
	return s, nil
}

// services is what both gRPC and the JSON gateway call.
type services struct {
	kv          *kvServer
	cluster     *clusterServer
	maintenance *maintenanceServer
	auth        *authServer
	watch       pb.WatchServer
	lease       pb.LeaseServer
	lock        v3lockpb.LockServer
	election    v3electionpb.ElectionServer
}

func (s *Server) register(watches *watchCounts) services {
	cfg := &s.cfg
	svc := services{
		kv: &kvServer{
			kv: cfg.KV, id: cfg.Identity, quota: cfg.Quota,
			maxTxnOps: cfg.MaxTxnOps, maxRequestBytes: cfg.MaxRequestBytes,
		},
		cluster:     &clusterServer{cluster: cfg.Cluster, id: cfg.Identity},
		maintenance: &maintenanceServer{m: cfg.Maintenance, alarms: cfg.Alarms, id: cfg.Identity},
		auth:        &authServer{id: cfg.Identity},
		watch:       pb.UnimplementedWatchServer{},
		lease:       pb.UnimplementedLeaseServer{},
		lock:        v3lockpb.UnimplementedLockServer{},
		election:    v3electionpb.UnimplementedElectionServer{},
	}
	if cfg.OpenWatches != nil {
		svc.watch = s.newWatchServer(watches)
	}
	if cfg.Leases != nil {
		svc.lease = &leaseServer{
			leases: cfg.Leases, id: cfg.Identity, quota: cfg.Quota, alarms: cfg.Alarms, draining: s.draining,
			leader: s.leader, stopper: cfg.Stopper,
		}
	}
	if cfg.OpenWatches != nil && cfg.Leases != nil {
		q := s.newQueue(&svc)
		svc.lock, svc.election = &lockServer{queue: q}, &electionServer{queue: q}
	}
	pb.RegisterKVServer(s.grpc, svc.kv)
	pb.RegisterClusterServer(s.grpc, svc.cluster)
	pb.RegisterMaintenanceServer(s.grpc, svc.maintenance)
	pb.RegisterAuthServer(s.grpc, svc.auth)
	pb.RegisterWatchServer(s.grpc, svc.watch)
	pb.RegisterLeaseServer(s.grpc, svc.lease)
	v3lockpb.RegisterLockServer(s.grpc, svc.lock)
	v3electionpb.RegisterElectionServer(s.grpc, svc.election)
	adminpb.RegisterAdminServer(s.grpc, &adminServer{admin: cfg.Admin})
	healthpb.RegisterHealthServer(s.grpc, s.health)
	return svc
}

func (s *Server) newWatchServer(counts *watchCounts) *watchServer {
	cfg := &s.cfg
	return &watchServer{
		open: cfg.OpenWatches, id: cfg.Identity, stopper: cfg.Stopper, draining: s.draining, leader: s.leader, counts: counts,
		limit: cfg.MaxRequestBytes + recvOverheadBytes, config: s.streamConfig(cfg.WatchesMax),
	}
}

func (s *Server) streamConfig(watches int) watchfeed.StreamConfig {
	return watchfeed.StreamConfig{
		WatchesMax:        watches,
		QueueResponsesMax: s.cfg.WatchQueueResponsesMax,
		QueueBytesMax:     s.cfg.WatchQueueBytesMax,
	}
}

func (s *Server) newQueue(svc *services) *queue {
	cfg := &s.cfg
	return &queue{
		kv: svc.kv, lease: svc.lease, open: cfg.OpenWatches, id: cfg.Identity,
		config: s.streamConfig(1), timeout: cfg.RequestTimeout, draining: s.draining,
	}
}

// streamWorkers is how many goroutines wait for calls. A call that finds none
// free gets a goroutine of its own, whose stack then has to grow on the way
// through a request: with 500 calls under way, workers save a tenth of the
// server's CPU. They take their turns, so more of them than there are calls cost
// as well: each has a stack that is cold when its turn comes, and that the
// garbage collector made small again. Of 1024, 512, 256, 192, 128 and 64, with
// 500 clients at three nodes, 256 cost a put 5 % less than 1024 did and a range
// 8 %; with all 500 at one node 3 % less with 512, and 1 % with 256.
const streamWorkers = 256

// What a client may send ahead of what was read. Fixed, because the estimate that
// gRPC makes otherwise costs a ping with every few requests: with one client, a
// switch of threads for each put.
const (
	streamWindowBytes = 1 << 20
	connWindowBytes   = 4 << 20
)

// serverOptions are etcd's limits, and what measuring left of gRPC's settings
// (BenchmarkServer; and a null server in its own process under etcd's benchmark,
// 50 connections, 500 clients, two runs: 36.5 us of CPU a put in the median, 39.2
// with the protobuf codec). Stream workers and larger or smaller buffers made no
// difference beyond the noise, save where a larger buffer made the heap
// larger and so garbage collection rarer, which --gc-percent does as well. A
// shared write buffer costs nothing and saves 32 KiB on every idle connection.
func serverOptions(cfg *Config, c *codec) []grpc.ServerOption {
	opts := []grpc.ServerOption{
		grpc.ForceServerCodecV2(c),
		grpc.NumStreamWorkers(streamWorkers),
		grpc.MaxRecvMsgSize(cfg.MaxRequestBytes + recvOverheadBytes),
		grpc.MaxSendMsgSize(math.MaxInt32),
		grpc.MaxConcurrentStreams(cfg.MaxConcurrentStreams),
		grpc.SharedWriteBuffer(true),
		grpc.StaticStreamWindowSize(streamWindowBytes),
		grpc.StaticConnWindowSize(connWindowBytes),
		// Nothing may read a store that is closed after Stop.
		grpc.WaitForHandlers(true),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: cfg.KeepaliveMinTime}),
	}
	if cfg.KeepaliveInterval > 0 && cfg.KeepaliveTimeout > 0 {
		opts = append(opts, grpc.KeepaliveParams(keepalive.ServerParameters{
			Time: cfg.KeepaliveInterval, Timeout: cfg.KeepaliveTimeout,
		}))
	}
	return opts
}

// Serve answers the clients of a listener until Stop. It returns at once.
func (s *Server) Serve(l net.Listener) error {
	split := newSplitter(l, s.cfg.SniffTimeout, s.cfg.Stopper, s.cfg.Logger)
	for name, serve := range map[string]func() error{
		"grpc": func() error { return s.grpc.Serve(split.grpc) },
		"http": func() error { return s.http.Serve(split.http) },
	} {
		if err := s.cfg.Stopper.Go(name, func(context.Context) {
			err := serve()
			if err != nil && !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
				s.cfg.Logger.Error("serving clients ended", "protocol", name, "address", l.Addr().String(), "error", err)
			}
		}); err != nil {
			return fmt.Errorf("serve clients at %s: %w", l.Addr(), err)
		}
	}
	return split.start()
}

// ServeHTTP answers plain HTTP only, for --listen-metrics-urls.
func (s *Server) ServeHTTP(l net.Listener) error {
	return s.cfg.Stopper.Go("http", func(context.Context) {
		if err := s.http.Serve(l); err != nil && !errors.Is(err, http.ErrServerClosed) {
			s.cfg.Logger.Error("serving HTTP ended", "address", l.Addr().String(), "error", err)
		}
	})
}

// Stop refuses new calls, ends the streams of watches, and waits for the calls
// under way; when ctx is done, it ends them.
func (s *Server) Stop(ctx context.Context) {
	s.health.Shutdown()
	s.drain()
	drained := make(chan struct{})
	err := s.cfg.Stopper.Go("drain", func(context.Context) {
		s.grpc.GracefulStop()
		close(drained)
	})
	if err == nil {
		select {
		case <-drained:
		case <-ctx.Done():
		}
	}
	s.grpc.Stop()
	if err := s.http.Shutdown(ctx); err != nil {
		s.cfg.Logger.Debug("open HTTP connections were closed", "error", err)
		_ = s.http.Close() // Shutdown's error is the news
	}
}
