package ranges

import (
	"errors"
	"time"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/lease"
	"github.com/flotilladb/flotilla/proto/cmdpb"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/raftgroup"
)

// SystemState is what is global and small, as the leader of the system range
// sees it. Package placement has it.
type SystemState interface {
	// Evaluate decides an operation against what is applied or proposed before
	// it. A decision without rows is answered when what it saw is applied.
	Evaluate(op any) (rows []*cmdpb.Row, reply any, err error)
	// Apply takes rows of the system range that were applied.
	Apply(rows []*cmdpb.Row)
	// Reset forgets what was evaluated and will not be applied.
	Reset()
}

// Config describes a store's replicas.
type Config struct {
	NodeID  metapb.NodeID
	StoreID metapb.StoreID
	// StoreStart counts the starts of the store; transactions whose coordinator
	// is of an earlier start of this store are abandoned.
	StoreStart uint64
	// Reader is the store's engine, NewBatch its batches.
	Reader   engine.Reader
	NewBatch func() engine.Batch
	// NewView shows spans of the engine as they are at the moment. Only who leads
	// ranges with other replicas needs it.
	NewView func([]engine.Span) engine.View
	// System decides the system range's operations.
	System SystemState
	// Reads is the highest format of entries that this node reads; 0: that of this version.
	Reads metapb.Format
	// Logger is given to raft. May be nil.
	Logger raftgroup.Logger

	// QueueBytesMax bounds the requests that wait at one range, for their turn
	// or for locks, in bytes (one request always fits, and what a transaction
	// sends that has its locks). Default 64 MiB.
	QueueBytesMax int
	// BatchBytesMax bounds what one batch takes from the queue, in bytes of
	// requests (one request always fits). Default 1 MiB.
	BatchBytesMax int
	// SyncsMax is how many batches of log rows may wait for the disk at once;
	// requests pile up meanwhile and share the next. Default 1.
	SyncsMax int
	// ProposalsMax bounds the entries of one range that are proposed and not
	// applied. Default 16.
	ProposalsMax int
	// ProposalBytesMax is from how many bytes of such entries on no batch is
	// begun. Default 16 MiB.
	ProposalBytesMax int
	// ShareRequests is with how many requests in such entries of one range what comes
	// waits, for 20 ms at most, to share the next. Default 64.
	ShareRequests int
	// EntryKeysMax and EntryBytesMax bound what deletes of spans bring into one
	// entry, in keys and in bytes of them and of what they show; a request over one
	// of them is run as a transaction, whose end deletes as much at a time. As many
	// rows at most does a prepare read at a time, and no request steps over more
	// than eight times as many dead keys. Defaults 2,048 and 4 MiB.
	EntryKeysMax, EntryBytesMax int
	// RevokeBytesMax bounds what a store is told at once of the keys of a lease that is
	// revoked, and twice that an entry of them, where there are several stores: what the
	// transport does not take would be sent again and again. Default 28 MiB.
	RevokeBytesMax int
	// RevokeNamesMax bounds, in the same way, the keys that a revoke names one by one, if all
	// members read anything else: more are named by their lease, and their end goes on piece by
	// piece. 0: 1 MiB.
	RevokeNamesMax int
	// LogBytesMax is how much of its ranges' logs a store keeps, in bytes, though
	// every replica has it. A range has an equal share, at least LogShareMin.
	// Defaults 2 MiB and 16 KiB.
	LogBytesMax, LogShareMin uint64
	// LogRestBytesMax is how large, in bytes, a log may be that a range at rest keeps: one
	// that is larger is cut when the range has rested for five seconds. Default 16 KiB.
	LogRestBytesMax uint64
	// LogBehindBytesMax is how far, in bytes of its log, a range's leader lets a
	// replica fall behind before it cuts off what that replica lacks. It needs
	// a snapshot then. Default 16 MiB.
	LogBehindBytesMax uint64
	// LogHeldBytesMax is how long, in bytes, a log may grow behind a snapshot that is
	// under way, so that it finds what follows when it is there. A snapshot for which
	// that is not enough begins anew. Default 1 GiB.
	LogHeldBytesMax uint64
	// CheckpointsMax bounds the states of ranges that are held for hashing; a check
	// that would be one more is skipped here. Default 8.
	CheckpointsMax int
	// Liveness tunes the promises between stores; Store, Start and Replicas are
	// filled in. Seed is for the times of elections, which must differ from store
	// to store.
	Liveness raftgroup.LivenessConfig
	Seed     uint64
	// EarlyVotesMax bounds the vote requests that are kept for replicas which a
	// split is still to make here, and those that are kept until a promise has run out.
	// Default 4,096 each.
	EarlyVotesMax int
	// StepReplicasMax bounds the replicas that one step is about, TicksMax the leaders
	// that are ticked, and StandsMax the replicas that stand for election, when the
	// store is told the time once: however much there is to do, what keeps promises
	// alive is never far behind. Defaults 512, 512 and 256.
	StepReplicasMax, TicksMax, StandsMax int
	// LockAgeMax is how long a lock without an intent lives. Default 2 s.
	LockAgeMax time.Duration
	// IntentAgeMax is how old an intent of a living coordinator may grow before
	// its range asks the anchor. Default 1 s.
	IntentAgeMax time.Duration
	// MarksMax bounds the leases that one range may attach keys to without asking,
	// but for those of the last second. Default 65,536.
	MarksMax int
	// Expirer bounds what a range asks for when leases expire. The zero value is
	// lease.DefaultExpirerConfig.
	Expirer lease.ExpirerConfig
}

// Validate reports what is wrong with the configuration.
func (c *Config) Validate() error {
	switch {
	case c.StoreID == 0 || c.NodeID == 0:
		return errors.New("ranges: config without store or node id")
	case c.Reader == nil || c.NewBatch == nil:
		return errors.New("ranges: config without engine")
	case c.System == nil:
		return errors.New("ranges: config without system state")
	}
	return nil
}

func (c *Config) setDefaults() {
	def(&c.Reads, metapb.FormatNewest)
	def(&c.QueueBytesMax, 64<<20)
	def(&c.BatchBytesMax, 1<<20)
	def(&c.SyncsMax, 1)
	def(&c.ProposalsMax, 16)
	def(&c.ProposalBytesMax, 16<<20)
	def(&c.ShareRequests, 64)
	def(&c.EntryKeysMax, 2048)
	def(&c.EntryBytesMax, 4<<20)
	def(&c.RevokeBytesMax, 28<<20)
	def(&c.RevokeNamesMax, 1<<20)
	def(&c.LogBytesMax, 2<<20)
	def(&c.LogShareMin, min(16<<10, c.LogBytesMax))
	def(&c.LogRestBytesMax, 16<<10)
	def(&c.LogBehindBytesMax, 16<<20)
	def(&c.LogHeldBytesMax, 1<<30)
	def(&c.CheckpointsMax, 8)
	def(&c.EarlyVotesMax, 4096)
	def(&c.StepReplicasMax, 512)
	def(&c.TicksMax, 512)
	def(&c.StandsMax, 256)
	def(&c.LockAgeMax, 2*time.Second)
	def(&c.IntentAgeMax, time.Second)
	def(&c.MarksMax, 1<<16)
	if c.Expirer == (lease.ExpirerConfig{}) {
		c.Expirer = lease.DefaultExpirerConfig()
	}
}

func def[T int | uint64 | time.Duration | metapb.Format](field *T, value T) {
	if *field == 0 {
		*field = value
	}
}
