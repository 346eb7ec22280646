package etcdapi

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/flotilladb/flotilla/internal/stop"
	"github.com/flotilladb/flotilla/watchfeed"
)

// Config is what a Server is made of. All interfaces but Quota are required.
type Config struct {
	KV          KV
	Identity    Identity
	Maintenance Maintenance
	Alarms      Alarms
	Cluster     Cluster
	Admin       Admin
	Quota       Quota // nil: no limit but the disk

	// OpenWatches opens a stream at the node's hub, and Leases keeps leases.
	// Without them the Watch and Lease services, and Lock and Election, which
	// need both, answer that they are not there.
	OpenWatches func(watchfeed.StreamConfig) (WatchStream, error)
	Leases      Leases

	// Stopper starts the server's goroutines.
	Stopper *stop.Stopper
	Logger  *slog.Logger
	// Registerer takes this package's metrics; Gatherer is what /metrics shows.
	Registerer prometheus.Registerer
	Gatherer   prometheus.Gatherer

	// MaxTxnOps is how many operations a transaction may have in a branch.
	MaxTxnOps int
	// MaxRequestBytes bounds a modifying request as etcd would log it. gRPC
	// takes messages up to 512 KiB longer.
	MaxRequestBytes int
	// MaxConcurrentStreams bounds the open calls of one connection.
	MaxConcurrentStreams uint32
	// ElectionTimeout is how long a leader may be silent. Streams of clients that
	// want one end after three times that without.
	ElectionTimeout time.Duration
	// RequestTimeout bounds the reads of health checks.
	RequestTimeout time.Duration
	// SniffTimeout is how long a connection may take to say what it speaks.
	SniffTimeout time.Duration

	// KeepaliveMinTime is the shortest interval at which clients may ping.
	KeepaliveMinTime time.Duration
	// KeepaliveInterval is after how much silence the server pings; 0 is never.
	KeepaliveInterval time.Duration
	// KeepaliveTimeout is how long it then waits; 0 is for ever.
	KeepaliveTimeout time.Duration

	// WatchesMax bounds the watches of one stream.
	WatchesMax int
	// WatchQueueResponsesMax and WatchQueueBytesMax bound what waits in the hub
	// for a client that does not read. Beyond, its watches fall back to catch-up.
	WatchQueueResponsesMax int
	WatchQueueBytesMax     int

	// Pprof serves /debug/pprof.
	Pprof bool
	// Gateway serves the JSON API under /v3.
	Gateway bool
}

// DefaultConfig returns etcd's numbers; the parts are for the caller to add.
func DefaultConfig() Config {
	return Config{
		MaxTxnOps:            128,
		MaxRequestBytes:      3 << 19,
		MaxConcurrentStreams: 1<<32 - 1,
		ElectionTimeout:      time.Second,
		RequestTimeout:       7 * time.Second,
		SniffTimeout:         10 * time.Second,
		KeepaliveMinTime:     5 * time.Second,
		KeepaliveInterval:    2 * time.Hour,
		KeepaliveTimeout:     20 * time.Second,
		Gateway:              true,

		WatchesMax:             1 << 20,
		WatchQueueResponsesMax: 1 << 16,
		WatchQueueBytesMax:     4 << 20,
	}
}

// Validate reports what is missing or out of its bounds.
func (c *Config) Validate() error {
	switch {
	case c.KV == nil, c.Identity == nil, c.Maintenance == nil, c.Alarms == nil, c.Cluster == nil, c.Admin == nil:
		return errors.New("etcdapi: config: a part behind the API is missing")
	case c.Stopper == nil, c.Logger == nil, c.Registerer == nil, c.Gatherer == nil:
		return errors.New("etcdapi: config: stopper, logger, registerer and gatherer are required")
	case c.MaxTxnOps <= 0:
		return fmt.Errorf("etcdapi: config: MaxTxnOps is %d, want more than 0", c.MaxTxnOps)
	case c.MaxRequestBytes <= 0:
		return fmt.Errorf("etcdapi: config: MaxRequestBytes is %d, want more than 0", c.MaxRequestBytes)
	case c.ElectionTimeout <= 0, c.RequestTimeout <= 0, c.SniffTimeout <= 0:
		return errors.New("etcdapi: config: ElectionTimeout, RequestTimeout and SniffTimeout must be more than 0")
	case c.WatchesMax <= 0, c.WatchQueueResponsesMax <= 0, c.WatchQueueBytesMax <= 0:
		return errors.New("etcdapi: config: the limits of watches must be more than 0")
	}
	return nil
}
