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
	InitialCluster           string // name=url,...; of this node alone
	InitialClusterToken      string
	InitialClusterState      string // new or existing

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

// Limits of flags, from etcd or from common sense.
const (
	electionTimeoutMax  = 50 * time.Second
	heartbeatsMin       = 5 // in an election timeout
	maxRequestBytesMax  = 512 << 20
	cacheBytesMin       = 1 << 20
	compactionPeriodMin = 10 * time.Nanosecond // sampled ten times

	watchProgressByDefault = 10 * time.Minute
	watchProgressMin       = 100 * time.Millisecond
)

// Validate reports the first thing that is wrong.
func (c *Config) Validate() error {
	for _, check := range []func() error{c.checkNames, c.checkURLs, c.checkCluster, c.checkLimits, c.checkLogs} {
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

func (c *Config) checkURLs() error {
	for _, l := range []struct {
		flag   string
		urls   []url.URL
		listen bool
		many   bool // may be empty
	}{
		{"listen-client-urls", c.ListenClientURLs, true, false},
		{"listen-peer-urls", c.ListenPeerURLs, true, true},
		{"listen-metrics-urls", c.ListenMetricsURLs, true, true},
		{"advertise-client-urls", c.AdvertiseClientURLs, false, false},
		{"initial-advertise-peer-urls", c.InitialAdvertisePeerURLs, false, false},
	} {
		if len(l.urls) == 0 && !l.many {
			return bad(l.flag, "needs at least one URL, such as http://localhost:2379")
		}
		for i := range l.urls {
			if err := checkURL(l.flag, &l.urls[i], l.listen); err != nil {
				return err
			}
		}
	}
	return nil
}

func checkURL(flag string, u *url.URL, listen bool) error {
	switch u.Scheme {
	case "unix":
		if u.Host+u.Path == "" {
			return bad(flag, "%q names no socket", u.String())
		}
		return nil
	case "https":
		return bad(flag, "%q: TLS is not supported by this version of flotilla; use http", u.String())
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
	if listen && host != "localhost" && host != "" && net.ParseIP(host) == nil {
		return bad(flag, "%q: to listen, the host must be an IP address or localhost", u.String())
	}
	return nil
}

// checkCluster wants this node, and only it, in the initial cluster.
func (c *Config) checkCluster() error {
	if s := c.InitialClusterState; s != "new" && s != "existing" {
		return bad("initial-cluster-state", "%q: want new or existing", s)
	}
	advertised := make(map[string]bool)
	for i := range c.InitialAdvertisePeerURLs {
		advertised[c.InitialAdvertisePeerURLs[i].String()] = false
	}
	for _, member := range strings.Split(c.InitialCluster, ",") {
		name, peer, ok := strings.Cut(strings.TrimSpace(member), "=")
		if !ok {
			return bad("initial-cluster", "%q: want name=http://host:port", member)
		}
		if name != c.Name {
			return bad("initial-cluster", "names %q beside this node, %q: this version of flotilla runs on one node", name, c.Name)
		}
		if _, ok := advertised[peer]; !ok {
			return bad("initial-cluster", "has %s, which is not in --initial-advertise-peer-urls", peer)
		}
		advertised[peer] = true
	}
	for i := range c.InitialAdvertisePeerURLs {
		if peer := c.InitialAdvertisePeerURLs[i].String(); !advertised[peer] {
			return bad("initial-cluster", "lacks %s, which is in --initial-advertise-peer-urls", peer)
		}
	}
	return nil
}

func (c *Config) checkLimits() error {
	switch {
	case c.QuotaBackendBytes < 0:
		return bad("quota-backend-bytes", "%d: want 0 (no limit) or more", c.QuotaBackendBytes)
	case c.MaxTxnOps <= 0:
		return bad("max-txn-ops", "%d: want more than 0", c.MaxTxnOps)
	case c.MaxRequestBytes <= 0 || c.MaxRequestBytes > maxRequestBytesMax:
		return bad("max-request-bytes", "%d: want 1 to %d", c.MaxRequestBytes, maxRequestBytesMax)
	case c.HeartbeatInterval <= 0:
		return bad("heartbeat-interval", "%v: want more than 0 milliseconds", c.HeartbeatInterval)
	case c.ElectionTimeout < heartbeatsMin*c.HeartbeatInterval:
		return bad("election-timeout", "%v: want at least %d times --heartbeat-interval (%v)", c.ElectionTimeout, heartbeatsMin, c.HeartbeatInterval)
	case c.ElectionTimeout > electionTimeoutMax:
		return bad("election-timeout", "%v: want at most %v", c.ElectionTimeout, electionTimeoutMax)
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
