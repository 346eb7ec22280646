package raftgroup

import (
	"errors"
	"fmt"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/proto/metapb"
)

// Message is a Raft message between two replicas of a range; its From and To
// are replica ids. It is never changed after it was made.
type Message = raftpb.Message

// Logger takes what Raft has to say. NewLogger makes one from a slog.Logger.
type Logger = raft.Logger

// Config describes one replica's group. Zero limits take their defaults.
type Config struct {
	// RangeID and ReplicaID name the replica; ReplicaID is its raft id.
	RangeID   metapb.RangeID
	ReplicaID metapb.ReplicaID
	// AppliedIndex is the index of the last entry whose effects the engine
	// holds. The owner writes it in the batch that holds the effects; what
	// follows is handed out again.
	AppliedIndex uint64
	// MessageBytesMax bounds the entries of one message to a peer, in bytes
	// (one entry always fits). Default 1 MiB.
	MessageBytesMax uint64
	// InflightMessagesMax and InflightBytesMax bound what is under way to one
	// peer without an answer. Default 256 messages, 16 MiB.
	InflightMessagesMax int
	InflightBytesMax    uint64
	// UncommittedBytesMax bounds proposals that are appended and not yet
	// applied; beyond it Propose returns ErrDropped. Default 64 MiB.
	UncommittedBytesMax uint64
	// ApplyBytesMax bounds the entries handed out by Ready and not yet reported
	// by Applied (one entry always fits). Default 16 MiB.
	ApplyBytesMax uint64
	// LogCacheBytesMax bounds the durable entries kept in memory. Entries that
	// are not durable yet are kept regardless: UncommittedBytesMax bounds them.
	// Default 4 MiB.
	LogCacheBytesMax uint64
	// Gate is asked before votes. Nil: they are free.
	Gate VoteGate
	// Logger is told about elections and oddities. Default: nobody is.
	Logger Logger
	// Rows is what New reads the group's state from, where its owner has that at hand. It
	// is not used afterwards. Nil: the engine.
	Rows engine.Reader
}

const (
	defaultMessageBytesMax     = 1 << 20
	defaultInflightMessagesMax = 256
	defaultInflightBytesMax    = 16 << 20
	defaultUncommittedBytesMax = 64 << 20
	defaultApplyBytesMax       = 16 << 20
	defaultLogCacheBytesMax    = 4 << 20

	// raft counts its timers in ticks. A heartbeat goes out with every tick,
	// and a leadership transfer is given up after this many.
	heartbeatTicks = 1
	transferTicks  = 10
)

// Validate reports what is wrong with the configuration.
func (c *Config) Validate() error {
	switch {
	case c.RangeID == 0:
		return errors.New("raftgroup: config without range id")
	case c.ReplicaID == 0:
		return fmt.Errorf("raftgroup: range %d: config without replica id", c.RangeID)
	case raft.IsLocalMsgTarget(uint64(c.ReplicaID)):
		return fmt.Errorf("raftgroup: range %d: replica id %d is reserved", c.RangeID, c.ReplicaID)
	case c.InflightMessagesMax < 0:
		return fmt.Errorf("raftgroup: range %d: InflightMessagesMax is negative", c.RangeID)
	case c.InflightBytesMax != 0 && c.InflightBytesMax < c.MessageBytesMax:
		return fmt.Errorf("raftgroup: range %d: InflightBytesMax %d is below MessageBytesMax %d",
			c.RangeID, c.InflightBytesMax, c.MessageBytesMax)
	}
	return nil
}

func (c *Config) setDefaults() {
	setDefault(&c.MessageBytesMax, defaultMessageBytesMax)
	setDefault(&c.InflightMessagesMax, defaultInflightMessagesMax)
	setDefault(&c.InflightBytesMax, max(defaultInflightBytesMax, c.MessageBytesMax))
	setDefault(&c.UncommittedBytesMax, defaultUncommittedBytesMax)
	setDefault(&c.ApplyBytesMax, defaultApplyBytesMax)
	setDefault(&c.LogCacheBytesMax, defaultLogCacheBytesMax)
	if c.Logger == nil {
		c.Logger = discardLogger{}
	}
}

func setDefault[T int | uint64](field *T, value T) {
	if *field == 0 {
		*field = value
	}
}

func (c *Config) raftConfig(l *log) *raft.Config {
	return &raft.Config{
		ID:                        uint64(c.ReplicaID),
		ElectionTick:              transferTicks,
		HeartbeatTick:             heartbeatTicks,
		Storage:                   l,
		Applied:                   c.AppliedIndex,
		AsyncStorageWrites:        true,
		MaxSizePerMsg:             c.MessageBytesMax,
		MaxCommittedSizePerReady:  c.ApplyBytesMax,
		MaxUncommittedEntriesSize: c.UncommittedBytesMax,
		MaxInflightMsgs:           c.InflightMessagesMax,
		MaxInflightBytes:          c.InflightBytesMax,
		PreVote:                   true,
		// A leader's right to answer is the owner's leaderLease, and no clock
		// of raft's may end a leadership.
		CheckQuorum:               false,
		Logger:                    c.Logger,
		DisableProposalForwarding: true,
		StepDownOnRemoval:         true,
	}
}
