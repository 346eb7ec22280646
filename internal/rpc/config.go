package rpc

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/flotilladb/flotilla/internal/stop"
	"github.com/flotilladb/flotilla/proto/metapb"
)

// Identity is who a process is to its peers.
type Identity struct {
	ClusterID uint64
	Node      metapb.NodeID
	Store     metapb.StoreID
	// Start grows with each start of the store.
	Start uint64
}

// known reports whether the identity is complete enough for the lanes.
func (id Identity) known() bool { return id.ClusterID != 0 && id.Store != 0 }

// Config describes a transport.
type Config struct {
	// Self is who this process is. A node that joins does not know it yet: it
	// leaves it zero, has no lanes until Identify, and may Call.
	Self Identity
	// Listen, if set, is where other stores come. Without it none can, but this
	// process may Call others.
	Listen net.Listener
	// ListenMore are more places where they come, if Listen is set.
	ListenMore []net.Listener
	// Resolve says where a store can be reached; ok is false while nobody knows. It
	// is asked before each attempt, so an address may change.
	Resolve func(metapb.StoreID) (addr string, ok bool)
	// Advertise, if set, is where others reach this process, host:port. They are told
	// when it connects to them: they may know only where it was before.
	Advertise string
	// Heard, if set, is told where a store that was let in says that it is, and with
	// which start. It must not wait.
	Heard func(store metapb.StoreID, start uint64, addr string)
	// TLS, if set, is for both directions: Certificates and RootCAs, and ClientCAs
	// and ClientAuth for who is called. Nil: plain text.
	TLS *tls.Config
	// Deliver is handed each frame, on a goroutine of its store and lane. It must
	// not wait. The frame belongs to it; small frames that came together share one
	// block of memory, so what is kept for long should be copied. If it returns
	// true the frame counts against the sender's credit until Credit is called for
	// it; else it is done with.
	Deliver func(from metapb.StoreID, lane Lane, frame []byte) (held bool)
	// Recycle, if set, is given a frame that Send took when its bytes are not needed
	// any more, which is the case for most frames: the sender may use the memory
	// again. It must not wait.
	Recycle func(frame []byte)
	// Unreachable is told, once for each lane of a connection, that it was lost or
	// could not be had: what Send took on the lane since then may be lost. Until the
	// next connection Send says no. It must not wait.
	Unreachable func(to metapb.StoreID, lane Lane)
	// Reachable, if set, is told that Send takes frames again, before any is delivered,
	// and with which start the store runs. It must not wait.
	Reachable func(to metapb.StoreID, lane Lane, start uint64)
	// Refused, if set, is told that a peer does not let this process in, or is not
	// what it should be, at each attempt; errors.Is tells why. With ErrStoreTaken
	// two processes run with one store id: this one should end.
	Refused func(to metapb.StoreID, err error)
	// Answer, if set, answers Call of other processes.
	Answer func(ctx context.Context, request []byte) ([]byte, error)
	// Stopper owns the goroutines and ends the transport.
	Stopper *stop.Stopper
	// Logger gets one line per change of state.
	Logger *slog.Logger
	// Registerer gets the metrics.
	Registerer prometheus.Registerer
	// Seed is for the jitter of reconnects.
	Seed uint64

	// Lanes are the bounds of each lane.
	Lanes [laneCount]LaneConfig
	// BatchBytesMax bounds what of the queue goes into one message. Default 128 KiB.
	BatchBytesMax int
	// ChunkBytesMax is the size above which a frame goes in pieces of that size.
	// Default 64 KiB.
	ChunkBytesMax int
	// FrameBytesMax bounds a frame, of any lane. Default 64 MiB.
	FrameBytesMax int
	// SnapshotsPerSecondBytesMax is the rate of Snapshots, over all receivers.
	// Default 64 MiB.
	SnapshotsPerSecondBytesMax int64

	// DialTimeout bounds an attempt to get a connection, handshake included, at both
	// ends. Default 2 s.
	DialTimeout time.Duration
	// RetryMin and RetryMax pace attempts: the first waits about RetryMin, each
	// further twice as long, up to RetryMax. Default 20 ms and 500 ms.
	RetryMin, RetryMax time.Duration
	// PingInterval is how often each connection is asked for a sign of life. Default 1 s.
	PingInterval time.Duration
	// SilenceMax is how long a connection may give none before it is given up. Default
	// 3 s.
	SilenceMax time.Duration
}

// LaneConfig bounds one lane to or from one store.
type LaneConfig struct {
	// QueueBytesMax bounds what waits to be sent, counting frameOverheadBytes for
	// each frame. It also bounds a single frame.
	QueueBytesMax int64
	// CreditBytesMax bounds what this process holds of one sender, beside one frame.
	CreditBytesMax int64
}

func defaultLanes() [laneCount]LaneConfig {
	return [laneCount]LaneConfig{
		Liveness:  {QueueBytesMax: 1 << 20, CreditBytesMax: 1 << 20},
		Raft:      {QueueBytesMax: 64 << 20, CreditBytesMax: 32 << 20},
		Requests:  {QueueBytesMax: 32 << 20, CreditBytesMax: 16 << 20},
		Snapshots: {QueueBytesMax: 16 << 20, CreditBytesMax: 16 << 20},
	}
}

func (c *Config) setDefaults() {
	for l, d := range defaultLanes() {
		setDefault(&c.Lanes[l].QueueBytesMax, d.QueueBytesMax)
		setDefault(&c.Lanes[l].CreditBytesMax, d.CreditBytesMax)
	}
	setDefault(&c.BatchBytesMax, 128<<10)
	setDefault(&c.ChunkBytesMax, 64<<10)
	setDefault(&c.FrameBytesMax, 64<<20)
	setDefault(&c.SnapshotsPerSecondBytesMax, 64<<20)
	setDefault(&c.DialTimeout, 2*time.Second)
	setDefault(&c.RetryMin, 20*time.Millisecond)
	setDefault(&c.RetryMax, 500*time.Millisecond)
	setDefault(&c.PingInterval, time.Second)
	setDefault(&c.SilenceMax, 3*time.Second)
	if c.Recycle == nil {
		c.Recycle = func([]byte) {}
	}
	if c.Unreachable == nil {
		c.Unreachable = func(metapb.StoreID, Lane) {}
	}
	if c.Reachable == nil {
		c.Reachable = func(metapb.StoreID, Lane, uint64) {}
	}
	if c.Heard == nil {
		c.Heard = func(metapb.StoreID, uint64, string) {}
	}
	if c.Refused == nil {
		c.Refused = func(metapb.StoreID, error) {}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	if c.Registerer == nil {
		c.Registerer = prometheus.NewRegistry()
	}
}

func setDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// batchBytesMax is the most that BatchBytesMax may be, at any sender.
const batchBytesMax = 1 << 20

// Validate reports what is wrong with the configuration, its defaults filled in.
func (c *Config) Validate() error {
	switch {
	case c.Resolve == nil || c.Deliver == nil || c.Stopper == nil:
		return errors.New("rpc config: Resolve, Deliver and Stopper must be set")
	case c.Self != Identity{} && !c.Self.known():
		return errors.New("rpc config: an identity needs a cluster id and a store id, or neither")
	case c.ChunkBytesMax < 1<<10 || c.BatchBytesMax < c.ChunkBytesMax || c.BatchBytesMax > batchBytesMax:
		return fmt.Errorf("rpc config: 1 KiB <= ChunkBytesMax <= BatchBytesMax <= %d KiB does not hold", batchBytesMax>>10)
	case c.FrameBytesMax < c.ChunkBytesMax:
		return errors.New("rpc config: FrameBytesMax is below ChunkBytesMax")
	case c.SnapshotsPerSecondBytesMax < 16*int64(c.ChunkBytesMax):
		// A lane that waits for its turn sends no signs of life.
		return errors.New("rpc config: SnapshotsPerSecondBytesMax is below 16 ChunkBytesMax")
	case c.DialTimeout <= 0 || c.RetryMin <= 0 || c.RetryMax < c.RetryMin:
		return errors.New("rpc config: DialTimeout and 0 < RetryMin <= RetryMax do not hold")
	case c.PingInterval <= 0 || c.SilenceMax < 2*c.PingInterval:
		return errors.New("rpc config: SilenceMax is below two PingIntervals")
	}
	if len(c.Advertise) > addrBytesMax {
		return fmt.Errorf("rpc config: the address where this process is reached has more than %d bytes", addrBytesMax)
	}
	for l, lane := range c.Lanes {
		if lane.QueueBytesMax < frameOverheadBytes || lane.CreditBytesMax < 1 {
			return fmt.Errorf("rpc config: a bound of lane %s is too small", Lane(l))
		}
	}
	return nil
}
