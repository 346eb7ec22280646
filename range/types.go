package ranges

import (
	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/proto/cmdpb"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/peerpb"
	"github.com/flotilladb/flotilla/raftgroup"
)

// Ask asks the sequencer for the revisions of one batch, or, with N = 0, for
// the last one issued. Its name is (store start, range, term, number); a grant
// fits no other ask.
type Ask struct {
	Range  metapb.RangeID
	Term   uint64
	Number uint64
	N      int
}

// Grant answers an Ask: First is the first of Ask.N consecutive revisions.
type Grant struct {
	Ask
	First Revision
	// Current is the revision at which a read that began before the answer may
	// be placed. In a cluster of one store it may be well below First: what was
	// issued and not applied is not shown to anybody.
	Current   Revision
	Epoch     uint64
	Compacted Revision
	// Refused says that the ask was not granted; the batch is asked for again.
	Refused bool
}

// Applied is the effect of entries on client keys, in order of application.
type Applied struct {
	Range   metapb.RangeID
	Updates []*cmdpb.Update
}

// Ready is what the driver must do: commit Apply without sync, then call
// Advance, then commit Append with sync and report its Token to Synced. A nil
// batch is nothing to do. The batches belong to the driver.
type Ready struct {
	Apply    engine.Batch
	Append   engine.Batch
	Token    uint64
	Messages []Message
	// Liveness are messages to other stores that go before all others.
	Liveness []raftgroup.LivenessOutput
	// Ingests are snapshots to put into the engine when Apply and Append are
	// committed; each is then reported to Ingested. That may take its time: nothing
	// else of its range is written meanwhile.
	Ingests []*Ingest
	// Applied has the changes in Apply.
	Applied []Applied
}

// Message is a Raft message to a replica on another store.
type Message struct {
	Range metapb.RangeID
	To    metapb.StoreID
	Raft  *raftgroup.Message
}

// Output is what is for others of the node, in order.
type Output struct {
	Replies []peerpb.Reply
	// Sends are questions of this store's replicas to other ranges. Each is
	// answered through Store.Reply, under its ID.
	Sends []Send
	// Descriptors changed, or are new.
	Descriptors []*metapb.Descriptor
	// Expired are leases to be revoked; see Store.Revoked.
	Expired []Expired
	// Gone is to be told to other stores, and there to Store.Gone.
	Gone []Gone
	// Present are questions to other stores, for Store.Present there.
	Present []Gone
	// Snapshots are to be sent; see BeginSnapshot. For each SnapshotEnded is due.
	Snapshots []WantedSnapshot
	// SnapshotsLost are under way and of no use any more: the log does not go back as
	// far, or what they are of is out of service. SnapshotEnded is due, without success.
	SnapshotsLost []WantedSnapshot
	// Transfers are asked for; see Transfer. Each is answered by who is told of it.
	Transfers []WantedTransfer
	// Checks are asked for; see BeginCheck. Each is answered by who is told of it.
	Checks []WantedCheck
	// Checkpoints are to be hashed. For each that has a Hash, CheckpointClosed is due.
	Checkpoints []Checkpoint
	// Removed are ranges that have, or had, no replica here any more, or one that
	// nobody may use. Readers have to
	// know before the next batches of a Ready are committed, and its Ingests run.
	Removed []metapb.RangeID
	// Halted are replicas that met what only a newer version knows.
	Halted []Halted
	// Installed says what became of snapshots given to Install.
	Installed []Installed
}

// WantedTransfer is a peerpb.Transfer of this ID whose turn it is.
type WantedTransfer struct {
	ID    uint64
	Range metapb.RangeID
	To    metapb.StoreID
}

// Send asks whichever range holds an address. It does no harm if it is asked
// twice.
type Send struct {
	ID      uint64
	Address []byte
	Body    peerpb.Body
}
