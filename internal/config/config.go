package config

import (
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"
)

// Compaction is what compacts by itself.
type Compaction int

// The modes of automatic compaction.
const (
	// CompactionOff leaves compaction to clients.
	CompactionOff Compaction = iota
	// CompactionPeriodic keeps the history of a length of time.
	CompactionPeriodic
	// CompactionRevision keeps a number of revisions.
	CompactionRevision
)

// Config is one node's configuration. Fields carry the name of their flag.
type Config struct {
	Name    string // of this node, for people
	DataDir string // holds everything the node keeps

	ListenClientURLs    []url.URL // where clients are served
	AdvertiseClientURLs []url.URL // what clients are told
	ListenMetricsURLs   []url.URL // more places for /metrics and /health

	ListenPeerURLs           []url.URL
	InitialAdvertisePeerURLs []url.URL
	InitialCluster           string // name=url,...
	InitialClusterToken      string
	InitialClusterState      string // new or existing

	// Members are what InitialCluster says, in the order of names: the nodes that
	// begin a cluster together.
	Members []Member
	// Join are peer addresses of a cluster that this node joins instead.
	Join []string
	// ListenGossipAddr is where this node gossips, host:port; empty: a free port.
	ListenGossipAddr string
	// GossipKey encrypts gossip if it is set.
	GossipKey []byte
	// Planner has replicas and leaders moved by themselves.
	Planner bool
	// StoreLostAfter is how long a node may be silent until its replicas are made anew.
	StoreLostAfter time.Duration
	// CorruptCheckTime is in what time each range is compared with its replicas, 0:
	// never; CorruptCheckBytes is how many bytes a second are read for that.
	CorruptCheckTime  time.Duration
	CorruptCheckBytes int64
	// PeerTLS is how nodes prove to each other who they are.
	PeerTLS PeerTLS

	QuotaBackendBytes    int64 // per store; 0: no limit but the disk
	MaxTxnOps            int
	MaxRequestBytes      int
	MaxConcurrentStreams uint32 // per connection

	AutoCompaction          Compaction
	AutoCompactionPeriod    time.Duration // if periodic
	AutoCompactionRevisions int64         // if by revision

	HeartbeatInterval time.Duration
	ElectionTimeout   time.Duration

	GRPCKeepaliveMinTime  time.Duration // shortest interval of clients' pings
	GRPCKeepaliveInterval time.Duration // of ours; 0: none
	GRPCKeepaliveTimeout  time.Duration // until a silent connection is closed; 0: never

	// WatchProgressNotifyInterval is after how much silence a watch that asked for
	// it is told how far it is.
	WatchProgressNotifyInterval time.Duration

	EnablePprof   bool
	EnableGateway bool // JSON under /v3

	LogLevel   string   // debug, info, warn, error
	LogFormat  string   // json or console
	LogOutputs []string // default, stderr, stdout or paths

	CacheBytes       int64 // blocks of the engine kept in memory
	GCPercent        int   // growth of the heap between collections, in percent
	MemoryLimitBytes int64 // collect more eagerly above it; 0: never

	// Warnings is what should be said when the node starts.
	Warnings []string
}

// RequestTimeout is how long a request may take, as etcd reckons it: five
// seconds for queues and disks, and two elections.
func (c *Config) RequestTimeout() time.Duration { return 5*time.Second + 2*c.ElectionTimeout }

// Error says which flag has a bad value and what would be right.
type Error struct {
	Flag string // without dashes
	Why  string
}

func (e *Error) Error() string { return fmt.Sprintf("--%s: %s", e.Flag, e.Why) }

func bad(flag, format string, args ...any) error {
	return &Error{Flag: flag, Why: fmt.Sprintf(format, args...)}
}

// MaxRequestBytesMax is the highest --max-request-bytes. A key that is larger is carried by no
// snapshot, and what two of them take (a watch shows what was before) by no frame.
const MaxRequestBytesMax = 12 << 20

// Limits of flags, from etcd or from common sense.
const (
	electionTimeoutMax  = 50 * time.Second
	heartbeatsMin       = 5 // in an election timeout
	cacheBytesMin       = 1 << 20
	compactionPeriodMin = 10 * time.Nanosecond // sampled ten times

	// ListenPeerByDefault is where nodes are served if nobody says where.
	ListenPeerByDefault = "http://localhost:2380"

	watchProgressByDefault = 10 * time.Minute
	watchProgressMin       = 100 * time.Millisecond
)

// Validate reports the first thing that is wrong.
func (c *Config) Validate() error {
	for _, check := range []func() error{c.checkNames, c.PeerTLS.check, c.checkURLs, c.checkGossip, c.checkCluster, c.checkLimits, c.checkLogs} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

func (c *Config) checkNames() error {
	switch {
	case c.Name == "":
		return bad("name", "must not be empty")
	case strings.ContainsAny(c.Name, "=,"):
		return bad("name", "%q must not contain '=' or ','", c.Name)
	case c.DataDir == "":
		return bad("data-dir", "must not be empty")
	}
	return nil
}

// urlUse is what a URL is for.
type urlUse int

const (
	clientURL urlUse = 1 << iota
	peerURL
	listenURL // the URL is one to listen at
)

func (c *Config) checkURLs() error {
	for _, l := range []struct {
		flag string
		urls []url.URL
		use  urlUse
		many bool // may be empty
	}{
		{"listen-client-urls", c.ListenClientURLs, clientURL | listenURL, false},
		{"listen-peer-urls", c.ListenPeerURLs, peerURL | listenURL, true},
		{"listen-metrics-urls", c.ListenMetricsURLs, clientURL | listenURL, true},
		{"advertise-client-urls", c.AdvertiseClientURLs, clientURL, false},
		{"initial-advertise-peer-urls", c.InitialAdvertisePeerURLs, peerURL, false},
	} {
		if len(l.urls) == 0 && !l.many {
			return bad(l.flag, "needs at least one URL, such as http://localhost:2379")
		}
		for i := range l.urls {
			u := &l.urls[i]
			if err := checkURL(l.flag, u, l.use); err != nil {
				return err
			}
			if l.use&peerURL != 0 && u.Scheme == "https" && !c.PeerTLS.Enabled() {
				return bad(l.flag, "%q: for https, set --peer-cert-file and --peer-key-file", u.String())
			}
		}
	}
	return nil
}

func checkURL(flag string, u *url.URL, use urlUse) error {
	switch u.Scheme {
	case "unix":
		if use&peerURL != 0 {
			return bad(flag, "%q: nodes do not talk over unix sockets; want http://host:port", u.String())
		}
		if u.Host+u.Path == "" {
			return bad(flag, "%q names no socket", u.String())
		}
		return nil
	case "https":
		if use&peerURL == 0 {
			return bad(flag, "%q: TLS for clients is not supported by this version of flotilla; use http", u.String())
		}
	case "http":
	default:
		return bad(flag, "%q: want http://host:port or unix://path", u.String())
	}
	if u.Path != "" || u.RawQuery != "" || u.User != nil {
		return bad(flag, "%q: want nothing but http://host:port", u.String())
	}
	if u.Port() == "" {
		return bad(flag, "%q has no port", u.String())
	}
	host := u.Hostname()
	if use&listenURL == 0 && host == "" {
		return bad(flag, "%q names no host, so nobody else can find it; want http://host:port", u.String())
	}
	if use&listenURL != 0 && host != "localhost" && host != "" && net.ParseIP(host) == nil {
		return bad(flag, "%q: to listen, the host must be an IP address or localhost", u.String())
	}
	return nil
}

func (c *Config) checkLimits() error {
	switch {
	case c.QuotaBackendBytes < 0:
		return bad("quota-backend-bytes", "%d: want 0 (no limit) or more", c.QuotaBackendBytes)
	case c.MaxTxnOps <= 0:
		return bad("max-txn-ops", "%d: want more than 0", c.MaxTxnOps)
	case c.MaxRequestBytes <= 0 || c.MaxRequestBytes > MaxRequestBytesMax:
		return bad("max-request-bytes", "%d: want 1 to %d, which is what nodes can tell each other", c.MaxRequestBytes, MaxRequestBytesMax)
	case c.HeartbeatInterval <= 0:
		return bad("heartbeat-interval", "%v: want more than 0 milliseconds", c.HeartbeatInterval)
	case c.ElectionTimeout < heartbeatsMin*c.HeartbeatInterval:
		return bad("election-timeout", "%v: want at least %d times --heartbeat-interval (%v)", c.ElectionTimeout, heartbeatsMin, c.HeartbeatInterval)
	case c.ElectionTimeout > electionTimeoutMax:
		return bad("election-timeout", "%v: want at most %v", c.ElectionTimeout, electionTimeoutMax)
	case c.StoreLostAfter < 2*c.ElectionTimeout:
		return bad("store-lost-after", "%v: want at least two times --election-timeout (%v)", c.StoreLostAfter, c.ElectionTimeout)
	case c.AutoCompaction == CompactionPeriodic && c.AutoCompactionPeriod < compactionPeriodMin:
		return bad("auto-compaction-retention", "%v: want more", c.AutoCompactionPeriod)
	case c.GRPCKeepaliveMinTime < 0:
		return bad("grpc-keepalive-min-time", "%v: want 0 or more", c.GRPCKeepaliveMinTime)
	case c.GRPCKeepaliveInterval < 0:
		return bad("grpc-keepalive-interval", "%v: want 0 (never) or more", c.GRPCKeepaliveInterval)
	case c.GRPCKeepaliveTimeout < 0:
		return bad("grpc-keepalive-timeout", "%v: want 0 (never) or more", c.GRPCKeepaliveTimeout)
	case c.WatchProgressNotifyInterval < watchProgressMin:
		return bad("watch-progress-notify-interval", "%v: want at least %v", c.WatchProgressNotifyInterval, watchProgressMin)
	case c.CorruptCheckTime < 0:
		return bad("corrupt-check-time", "%v: want 0 (never) or more", c.CorruptCheckTime)
	case c.CorruptCheckBytes < 1:
		return bad("corrupt-check-bytes-per-second", "%d: want more than 0", c.CorruptCheckBytes)
	case c.CacheBytes < cacheBytesMin:
		return bad("cache-bytes", "%d: want at least %d", c.CacheBytes, cacheBytesMin)
	case c.GCPercent <= 0:
		return bad("gc-percent", "%d: want more than 0", c.GCPercent)
	case c.MemoryLimitBytes < 0:
		return bad("memory-limit-bytes", "%d: want 0 (no limit) or more", c.MemoryLimitBytes)
	}
	return nil
}

func (c *Config) checkLogs() error {
	switch c.LogLevel {
	case "debug", "info", "warn", "error":
	default:
		return bad("log-level", "%q: want debug, info, warn or error", c.LogLevel)
	}
	if c.LogFormat != "json" && c.LogFormat != "console" {
		return bad("log-format", "%q: want json or console", c.LogFormat)
	}
	if len(c.LogOutputs) == 0 {
		return bad("log-outputs", "needs default, stderr, stdout or a path")
	}
	return nil
}
