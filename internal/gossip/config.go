package gossip

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/flotilladb/flotilla/internal/stop"
)

// Config describes a member.
type Config struct {
	// Self is what others shall know of this process. Its ids are fixed.
	Self Member
	// Bind is where to listen, for UDP and TCP, host:port; port 0 takes a free one.
	Bind string
	// Advertise is what others shall use instead, if not empty.
	Advertise string
	// Join are members to ask who there is, host:port. Without any, this one waits
	// until others ask it.
	Join []string
	// Seeds, if set, says whom to ask besides; it is called at each attempt.
	Seeds func() []string
	// Key encrypts all messages if it is set: 16, 24 or 32 bytes, the same for all.
	Key []byte
	// Deliver is handed what has changed, by store; on one goroutine. It may wait:
	// changes of one store fold into the last.
	Deliver func([]Event)
	// Stopper owns the goroutines.
	Stopper *stop.Stopper
	// Logger gets one line per change of state.
	Logger *slog.Logger
	// Seed is for the jitter of attempts to join.
	Seed uint64

	// ProbeInterval is how often this member tests another, in turn; it suspects one
	// that does not answer within ProbeTimeout. Default 1 s and 500 ms.
	ProbeInterval, ProbeTimeout time.Duration
	// SuspicionMult is for how many probe intervals (times the decimal logarithm of
	// the members, at least 1) a suspected member may object. Default 4.
	SuspicionMult int
	// GossipInterval is how often news is passed on. Default 200 ms.
	GossipInterval time.Duration
	// SyncInterval is how often everything is compared with one other. Default 30 s.
	SyncInterval time.Duration
	// JoinMin and JoinMax pace attempts to join. Default 500 ms and 10 s.
	JoinMin, JoinMax time.Duration
	// LeaveTimeout bounds the wait for others to hear that this member leaves.
	// Default 2 s.
	LeaveTimeout time.Duration
}

func (c *Config) setDefaults() {
	for _, d := range []struct {
		v *time.Duration
		d time.Duration
	}{
		{&c.ProbeInterval, time.Second}, {&c.ProbeTimeout, 500 * time.Millisecond},
		{&c.GossipInterval, 200 * time.Millisecond}, {&c.SyncInterval, 30 * time.Second},
		{&c.JoinMin, 500 * time.Millisecond}, {&c.JoinMax, 10 * time.Second},
		{&c.LeaveTimeout, 2 * time.Second},
	} {
		if *d.v == 0 {
			*d.v = d.d
		}
	}
	if c.SuspicionMult == 0 {
		c.SuspicionMult = 4
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
}

// Validate reports what is wrong with the configuration, its defaults filled in.
func (c *Config) Validate() error {
	if c.Self.ClusterID == 0 || c.Self.Store == 0 {
		return errors.New("gossip config: the cluster id and the store id must be known")
	}
	if c.Deliver == nil || c.Stopper == nil {
		return errors.New("gossip config: Deliver and Stopper must be set")
	}
	if err := memberlist.ValidateKey(c.Key); len(c.Key) > 0 && err != nil {
		return errors.New("gossip config: the key must have 16, 24 or 32 bytes")
	}
	if c.ProbeTimeout > c.ProbeInterval || c.JoinMax < c.JoinMin || c.SuspicionMult < 1 {
		return errors.New("gossip config: ProbeTimeout <= ProbeInterval, JoinMin <= JoinMax and SuspicionMult >= 1 do not hold")
	}
	for _, addr := range append([]string{c.Bind}, c.Join...) {
		if _, _, err := hostPort(addr); err != nil {
			return err
		}
	}
	_, err := c.Self.encode()
	return err
}

func hostPort(addr string) (host string, port int, err error) {
	host, p, err := net.SplitHostPort(addr)
	if err != nil {
		return "", 0, fmt.Errorf("gossip config: address %q: %w", addr, err)
	}
	if port, err = strconv.Atoi(p); err != nil || port < 0 || port > 65535 {
		return "", 0, fmt.Errorf("gossip config: address %q has no port number", addr)
	}
	return host, port, nil
}

// tcpTimeout bounds a connection to another member, and so how long an attempt to
// join holds up the end of this process.
const tcpTimeout = 3 * time.Second

// memberlist is the configuration of the library.
func (c *Config) memberlist() (*memberlist.Config, error) {
	ml := memberlist.DefaultLANConfig()
	ml.Name = c.Self.id()
	var err error
	if ml.BindAddr, ml.BindPort, err = hostPort(c.Bind); err != nil {
		return nil, err
	}
	ml.AdvertisePort = ml.BindPort
	if c.Advertise != "" {
		if ml.AdvertiseAddr, ml.AdvertisePort, err = hostPort(c.Advertise); err != nil {
			return nil, err
		}
	}
	ml.ProbeInterval, ml.ProbeTimeout = c.ProbeInterval, c.ProbeTimeout
	ml.SuspicionMult = c.SuspicionMult
	ml.GossipInterval = c.GossipInterval
	ml.PushPullInterval = c.SyncInterval
	ml.TCPTimeout = tcpTimeout
	ml.SecretKey = c.Key
	ml.EnableCompression = false
	return ml, nil
}
