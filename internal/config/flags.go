package config

import (
	"math"
	"time"

	"github.com/spf13/pflag"
)

// Flags is a set of flags on its way to a Config.
type Flags struct {
	fs *pflag.FlagSet

	cfg                       Config // holds what needs no parsing
	listenClient, adClient    string
	listenPeer, adPeer        string
	listenMetrics             string
	heartbeatMs, electionMs   uint
	compactMode, compactKeep  string
	maxTxnOps, maxRequestSize uint
	logOutputs, logger        string
	join, gossipKeyFile       string
	tlsMin, tlsMax            string
	cipherSuites              string
}

// AddFlags makes the flags of the server known to a flag set. Their help shows
// them in the order of etcd's.
func AddFlags(fs *pflag.FlagSet) *Flags {
	f := &Flags{fs: fs}
	c := &f.cfg
	fs.SortFlags = false
	fs.StringVar(&c.Name, "name", "default", "name of this node, for people")
	fs.StringVar(&c.DataDir, "data-dir", "", "directory of everything the node keeps (default <name>.flotilla)")
	fs.StringVar(&f.listenClient, "listen-client-urls", "http://localhost:2379", "URLs to serve clients at")
	fs.StringVar(&f.adClient, "advertise-client-urls", "http://localhost:2379", "URLs that clients are told")
	fs.StringVar(&f.listenPeer, "listen-peer-urls", ListenPeerByDefault, "URLs to serve other nodes at")
	fs.StringVar(&f.adPeer, "initial-advertise-peer-urls", "http://localhost:2380", "URLs that other nodes are told")
	fs.StringVar(&c.InitialCluster, "initial-cluster", "", "nodes that begin a cluster together, the same on each: name=url,... (default this node)")
	fs.StringVar(&c.InitialClusterToken, "initial-cluster-token", "etcd-cluster", "token that tells new clusters apart")
	fs.StringVar(&c.InitialClusterState, "initial-cluster-state", "new", "new or existing; of no effect once there is data")
	fs.StringVar(&f.join, "join", "", "peer addresses of a cluster to join, host:port,...; of no effect once there is data")
	fs.StringVar(&c.PeerTLS.CertFile, "peer-cert-file", "", "certificate that this node shows to others")
	fs.StringVar(&c.PeerTLS.KeyFile, "peer-key-file", "", "key of that certificate")
	fs.StringVar(&c.PeerTLS.TrustedCAFile, "peer-trusted-ca-file", "", "certificates of those who sign for nodes")
	fs.BoolVar(&c.PeerTLS.ClientCertAuth, "peer-client-cert-auth", false, "refuse nodes that show no certificate")
	fs.StringVar(&f.tlsMin, "tls-min-version", "TLS1.2", "oldest TLS between nodes: TLS1.2 or TLS1.3")
	fs.StringVar(&f.tlsMax, "tls-max-version", "", "newest TLS between nodes: TLS1.2 or TLS1.3 (default the newest that there is)")
	fs.StringVar(&f.cipherSuites, "cipher-suites", "", "cipher suites of TLS 1.2 between nodes, by Go's names, separated by commas (default those that Go takes for good)")
	fs.StringVar(&c.ListenGossipAddr, "listen-gossip-addr", "", "host:port, TCP and UDP, to tell other nodes who is there (default the host of --listen-peer-urls and a free port)")
	fs.StringVar(&f.gossipKeyFile, "gossip-key-file", "", "file with the key, in base64, that all nodes encrypt this with; with TLS between nodes and no key there is no gossip")
	fs.BoolVar(&c.Planner, "planner", true, "have replicas and leaders moved by themselves, when this node leads the system range")
	fs.DurationVar(&c.StoreLostAfter, "store-lost-after", 5*time.Minute, "silence after which the replicas of a node are made anew on others")
	fs.StringVar(&f.listenMetrics, "listen-metrics-urls", "", "more URLs to serve /metrics and /health at")
	fs.UintVar(&f.heartbeatMs, "heartbeat-interval", 100, "milliseconds between heartbeats")
	fs.UintVar(&f.electionMs, "election-timeout", 1000, "milliseconds without a leader until an election")
	fs.Int64Var(&c.QuotaBackendBytes, "quota-backend-bytes", 0, "bytes that the store may take before it refuses puts; 0 is no limit but the disk")
	fs.UintVar(&f.maxTxnOps, "max-txn-ops", 128, "operations that a transaction may have in a branch")
	fs.UintVar(&f.maxRequestSize, "max-request-bytes", 3<<19, "bytes that a modifying request may have, at most 12 MiB")
	fs.Uint32Var(&c.MaxConcurrentStreams, "max-concurrent-streams", math.MaxUint32, "calls that a connection may have open")
	fs.DurationVar(&c.GRPCKeepaliveMinTime, "grpc-keepalive-min-time", 5*time.Second, "shortest interval at which clients may ping")
	fs.DurationVar(&c.GRPCKeepaliveInterval, "grpc-keepalive-interval", 2*time.Hour, "silence after which a client is pinged; 0 is never")
	fs.DurationVar(&c.GRPCKeepaliveTimeout, "grpc-keepalive-timeout", 20*time.Second, "wait for the answer before the connection is closed; 0 is for ever")
	fs.StringVar(&f.compactMode, "auto-compaction-mode", "periodic", "what --auto-compaction-retention counts: periodic (time) or revision")
	fs.StringVar(&f.compactKeep, "auto-compaction-retention", "0", "history to keep: a time such as 5m, a number of hours, or of revisions; 0 is all")
	fs.DurationVar(&c.WatchProgressNotifyInterval, "watch-progress-notify-interval", watchProgressByDefault, "silence after which a watch that asked for it is told how far it is")
	fs.DurationVar(&c.CorruptCheckTime, "corrupt-check-time", 24*time.Hour, "time in which each range is compared with its replicas; 0 is never")
	fs.Int64Var(&c.CorruptCheckBytes, "corrupt-check-bytes-per-second", 16<<20, "bytes a second that are read to compare replicas")
	fs.BoolVar(&c.EnablePprof, "enable-pprof", false, "serve profiles at /debug/pprof")
	fs.BoolVar(&c.EnableGateway, "enable-grpc-gateway", true, "serve the JSON API under /v3")
	fs.StringVar(&f.logger, "logger", "zap", "taken for etcd's sake; zap is the only value")
	fs.StringVar(&f.logOutputs, "log-outputs", "default", "stderr (the default), stdout, or paths, separated by commas")
	fs.StringVar(&c.LogLevel, "log-level", "info", "debug, info, warn or error")
	fs.StringVar(&c.LogFormat, "log-format", "json", "json or console")
	fs.Int64Var(&c.CacheBytes, "cache-bytes", 128<<20, "bytes of the engine's blocks to keep in memory")
	fs.IntVar(&c.GCPercent, "gc-percent", 100, "growth of the heap between collections, in percent; where more than 128 MiB is live it is less (GOGC, if set, counts)")
	fs.Int64Var(&c.MemoryLimitBytes, "memory-limit-bytes", 0, "collect garbage more eagerly above so much memory; 0 is never (GOMEMLIMIT, if set, counts)")
	for _, s := range ignoredFlags() {
		addHidden(fs, s.name, s.byDefault)
	}
	for _, s := range refusedFlags() {
		addHidden(fs, s.name, s.byDefault)
	}
	return f
}

// addHidden adds a flag of any type that the help does not show. One that is
// false by default needs no value.
func addHidden(fs *pflag.FlagSet, name, byDefault string) {
	fs.String(name, byDefault, "")
	flag := fs.Lookup(name)
	flag.Hidden = true
	if byDefault == "false" || byDefault == "true" {
		flag.NoOptDefVal = "true"
	}
}

// flagOfEtcd is a flag of etcd's that we do not have.
type flagOfEtcd struct {
	name      string
	byDefault string
	why       string // for refused flags: what to do
}

// ignoredFlags are taken with any value and change nothing: they tune parts
// that are not here, or ask for what is always so.
func ignoredFlags() []flagOfEtcd {
	return []flagOfEtcd{
		{name: "snapshot-count"}, {name: "snapshot-catchup-entries"}, {name: "max-snapshots"}, {name: "max-wals"},
		{name: "backend-batch-interval"}, {name: "backend-batch-limit"}, {name: "backend-bbolt-freelist-type"},
		{name: "memory-mlock", byDefault: "false"}, {name: "bootstrap-defrag-threshold-megabytes"},
		{name: "initial-election-tick-advance", byDefault: "true"}, {name: "pre-vote", byDefault: "true"},
		{name: "raft-read-timeout"}, {name: "raft-write-timeout"},
		{name: "strict-reconfig-check", byDefault: "true"}, {name: "max-learners"},
		{name: "compaction-batch-limit"}, {name: "compaction-sleep-interval"},
		{name: "compact-hash-check-time"}, {name: "downgrade-check-time"},
		{name: "warning-apply-duration"}, {name: "warning-unary-request-duration"},
		{name: "metrics"}, {name: "v2-deprecation"},
		{name: "bcrypt-cost"}, {name: "auth-token-ttl"}, {name: "self-signed-cert-validity"},
		{name: "discovery-dial-timeout"}, {name: "discovery-request-timeout"},
		{name: "discovery-keepalive-time"}, {name: "discovery-keepalive-timeout"}, {name: "discovery-fallback"},
		{name: "discovery-insecure-transport", byDefault: "true"}, {name: "discovery-insecure-skip-tls-verify", byDefault: "false"},
		{name: "log-rotation-config-json"},
		{name: "distributed-tracing-address"}, {name: "distributed-tracing-service-name"},
		{name: "distributed-tracing-instance-id"}, {name: "distributed-tracing-sampling-rate"},
	}
}

// refusedFlags may only say what they say by default: whoever sets one relies
// on something that does not exist here.
func refusedFlags() []flagOfEtcd {
	const (
		noTLS       = "TLS is not supported for clients by this version of flotilla; keep the ports on a network that you trust"
		noPeerTLS   = "is not supported; between nodes there are --peer-cert-file, --peer-key-file, --peer-trusted-ca-file and --peer-client-cert-auth"
		noDiscovery = "discovery is not supported; name the nodes with --initial-cluster"
		noTrace     = "tracing is not supported"
		noAuth      = "only simple tokens will be supported; remove the flag"
	)
	return []flagOfEtcd{
		{"cert-file", "", noTLS}, {"key-file", "", noTLS}, {"client-cert-auth", "false", noTLS}, {"client-cert-file", "", noTLS},
		{"client-key-file", "", noTLS}, {"client-crl-file", "", noTLS}, {"client-cert-allowed-hostname", "", noTLS},
		{"trusted-ca-file", "", noTLS}, {"auto-tls", "false", noTLS},
		{"peer-client-cert-file", "", noPeerTLS}, {"peer-client-key-file", "", noPeerTLS},
		{"peer-cert-allowed-cn", "", noPeerTLS}, {"peer-cert-allowed-hostname", "", noPeerTLS},
		{"peer-auto-tls", "false", noPeerTLS}, {"peer-crl-file", "", noPeerTLS}, {"peer-skip-client-san-verification", "false", noPeerTLS},
		{"auth-token", "simple", noAuth},
		{"discovery", "", noDiscovery}, {"discovery-token", "", noDiscovery}, {"discovery-endpoints", "", noDiscovery},
		{"discovery-srv", "", noDiscovery}, {"discovery-srv-name", "", noDiscovery}, {"discovery-proxy", "", noDiscovery},
		{"discovery-cert", "", noDiscovery}, {"discovery-key", "", noDiscovery}, {"discovery-cacert", "", noDiscovery},
		{"discovery-user", "", noDiscovery}, {"discovery-password", "", noDiscovery},
		{"enable-distributed-tracing", "false", noTrace},
		{"wal-dir", "", "the log and the data share one directory; put --data-dir on the disk that syncs fastest"},
		{"listen-client-http-urls", "", "HTTP and gRPC share --listen-client-urls; for metrics there is --listen-metrics-urls"},
		{"cors", "*", "every origin is allowed; restrict origins in a proxy"},
		{"host-whitelist", "*", "every host name is allowed; restrict them in a proxy"},
		{"socket-reuse-port", "false", "a port cannot be shared; remove the flag"},
		{"socket-reuse-address", "false", "remove the flag"},
		{"enable-log-rotation", "false", "rotate the file with logrotate, or log to stderr"},
		{"feature-gates", "", "there are no feature gates"},
		{"force-new-cluster", "false", "a cluster that has lost its quorum cannot be cut down to one node; remove the flag"},
		{"unsafe-no-fsync", "false", "what is acknowledged is synced; remove the flag"},
		{"config-file", "", "there is no file; use flags, or variables FLOTILLA_<NAME>"},
	}
}
