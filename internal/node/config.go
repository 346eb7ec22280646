package node

import (
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/flotilladb/flotilla/internal/config"
	"github.com/flotilladb/flotilla/placement"
	"github.com/flotilladb/flotilla/proto/metapb"
)

// Config describes a node.
type Config struct {
	// Name is the node's name, as etcd's Cluster API shows it.
	Name string
	// Dir is the data folder.
	Dir string
	// ClientURLs and PeerURLs are what other nodes and clients may use.
	ClientURLs, PeerURLs []string
	// ClusterToken tells clusters apart that were begun alike; it makes the
	// cluster's id.
	ClusterToken string
	// Members are the nodes that begin the cluster together, this one among them. None
	// or one: it is a cluster of its own.
	Members []config.Member
	// Join are the peer addresses at which a node without data asks to be let into a
	// cluster that runs, host:port.
	Join []string
	// Existing: the cluster is there. Without data the node joins it by Join, and begins none;
	// with data Join says nothing.
	Existing bool
	// PeerListener is where other nodes are served; without it no other can come.
	// PeerAddress, if set, says where other stores are, before what the cluster says of
	// them. PeerTLS is how both ends prove who they are, or nil.
	PeerListener net.Listener
	PeerAddress  func(metapb.StoreID) (addr string, ok bool)
	PeerTLS      *tls.Config
	// MorePeerListeners are more places where other nodes are served.
	MorePeerListeners []net.Listener
	// GossipAddr is where this node gossips, host:port; empty: a free port of the address
	// where other nodes are served. GossipKey encrypts it if it is set. With NoGossip
	// this node hears of others from the system range alone.
	GossipAddr string
	GossipKey  []byte
	NoGossip   bool
	// CacheBytes is the size of the block cache. Default 128 MiB.
	CacheBytes int64
	// MemtableBytes is the size of one memtable. Default 32 MiB.
	MemtableBytes uint64
	// QuotaBytes bounds the store's size on disk; 0 is no bound but the disk.
	QuotaBytes int64
	// CallsMax bounds the requests that wait for the loop. Default 65,536.
	CallsMax int
	// ElectionTimeout is how long a leader may be silent, and the length of the promises
	// that stores give each other; HeartbeatInterval is how often they do. Default 1 s, and
	// a tenth of the election timeout.
	ElectionTimeout, HeartbeatInterval time.Duration
	// SyncsMax is how many syncs of the log may be under way. Default 1.
	SyncsMax int
	// WatchProgressInterval is how long a watch that wants progress is idle before
	// it hears of it. Default 10 minutes.
	WatchProgressInterval time.Duration
	// Planner are the rules by which this node moves replicas and leaders when it leads
	// the system range. With NoPlanner it leaves them where they are.
	Planner   placement.Limits
	NoPlanner bool
	// CheckInterval is in what time every range is compared with its replicas; 0:
	// never, but when an operator asks. CheckBytesMax is how many bytes a second are
	// read for it; default 16 MiB.
	CheckInterval time.Duration
	CheckBytesMax int64
	// Fatal is told when the disk did not take what must be durable; see
	// engine.Config.
	Fatal func(error)
	// Logger gets one line per change of state.
	Logger *slog.Logger
	// Registerer gets the metrics.
	Registerer prometheus.Registerer

	// reads is the highest format that is read, of a test that plays an older version.
	// Default this version's.
	reads metapb.Format
}

// Validate reports what is wrong with the configuration.
func (c *Config) Validate() error {
	switch {
	case c.Dir == "":
		return errors.New("node config: no data folder")
	case len(c.Join) > 0 && (c.PeerListener == nil || len(c.PeerURLs) == 0):
		return errors.New("node config: the node is to join others, and is not to be reached by them")
	case len(c.Members) > 1 && c.PeerListener == nil:
		return errors.New("node config: several members, and no way to reach them")
	case c.QuotaBytes < 0:
		return errors.New("node config: the quota is negative")
	case c.WatchProgressInterval < 0:
		return errors.New("node config: the interval of watch progress is negative")
	case c.CheckInterval < 0 || c.CheckBytesMax < 0:
		return errors.New("node config: a bound of checks is negative")
	case c.ElectionTimeout < 0 || c.HeartbeatInterval < 0:
		return errors.New("node config: an interval of heartbeats is negative")
	case c.CallsMax < 0 || c.SyncsMax < 0:
		return errors.New("node config: a bound is negative")
	}
	return c.Planner.Validate()
}

func (c *Config) setDefaults() {
	if c.Name == "" {
		c.Name = "default"
	}
	if c.reads == 0 {
		c.reads = metapb.FormatNewest
	}
	if c.CallsMax == 0 {
		c.CallsMax = 1 << 16
	}
	if c.ElectionTimeout == 0 {
		c.ElectionTimeout = time.Second
	}
	if c.CheckBytesMax == 0 {
		c.CheckBytesMax = 16 << 20
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	if c.Registerer == nil {
		c.Registerer = prometheus.NewRegistry()
	}
}

// leaseTTLMin is the shortest lease, in seconds: as in etcd, one and a half election timeouts.
func (c *Config) leaseTTLMin() int64 {
	return int64((3*c.ElectionTimeout/2 + time.Second - 1) / time.Second)
}

// planner returns the rules of the planner, nil if there is to be none.
func (c *Config) planner() *placement.Limits {
	if c.NoPlanner {
		return nil
	}
	return &c.Planner
}
