// Package peerpb is what the router and the ranges say to each other.
//
// A Request goes to the leader of one range and names the generation of the
// descriptor that its sender used. It is answered by exactly one Reply, or by
// none if the leader's store goes away. Both are plain data: nothing in them
// points at a live object of the sender, so that they can cross to another node
// in a frame.
//
// The router never imports package ranges: this package is all that they share.
package peerpb

import (
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/flotilladb/flotilla/proto/cmdpb"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/txnpb"
)

// Request asks one range for one thing.
type Request struct {
	ID         uint64 // chosen by the sender, echoed by the reply
	Range      metapb.RangeID
	Generation uint64 // of the descriptor that the sender used
	Body       Body
}

// Reply answers the Request of the same ID. Exactly one of Body and Err is set.
type Reply struct {
	ID   uint64
	Body any
	Err  error // one of this package's errors, or an error of package mvcc or placement
}

// Body is what a request asks.
type Body interface{ body() }

// Write is a client's modifying request whose keys all lie in the range:
// *PutRequest, *DeleteRangeRequest or *TxnRequest of etcd's API. It is answered
// by the response message, header revision included.
type Write struct {
	Req proto.Message
}

// Close asks the range to close at S for some of its addresses: the reply (a
// *Closed) comes when every write there with a revision <= S is applied or will
// never be. Without spans it asks for the whole range.
type Close struct {
	S metapb.Revision
	// Epoch is the sequencer's in which S was given out, or an older one; 0: it is
	// not known. The range refuses grants of older ones from then on.
	Epoch uint64
	Spans []metapb.Span
}

// Closed answers Close.
type Closed struct {
	S metapb.Revision
	// Index is the log index up to which the promise holds: a follower counts
	// it only when it has applied that much.
	Index uint64
}

// Access is one span of user keys that a request touches.
type Access struct {
	Start, End []byte // user keys, half-open; an empty End is the end of the keyspace
	// Write says that the request may change keys of the span.
	Write bool
	// NeedValues says that values are looked at, not only what is in the index.
	NeedValues bool
	// Deletes says that all live keys of the span may be deleted and that nothing
	// else of the request writes there: how many there are is enough to know, and
	// with NeedValues what they were.
	Deletes bool
	// Revision, if > 0, is an older state that the request reads; else the newest.
	Revision metapb.Revision
}

// Prepare locks what a cross-range transaction touches in the range and reads
// what it needs to see. Answered by *Prepared when the locks are held.
type Prepare struct {
	Txn      *txnpb.TxnID
	Accesses []Access
	// Hold is how long the lock may hold back closing while the transaction has
	// no revision.
	Hold time.Duration
	// Puts says that the transaction may need space. A store that has none refuses
	// it here, before its revision is asked for.
	Puts bool
	// Uses are what the transaction may attach to leases in the range. If a mark
	// for one is missing the answer is ErrMarkMissing.
	Uses []LeaseUse
	// Revoke, if set, is what the transaction is; then Accesses only say where.
	Revoke *LeaseRevoke
	// Lock, if not 0, names the hold that an earlier prepare took for the same
	// accesses; this one reads on From there, and shows that the coordinator lives.
	Lock uint64
	From Cursor
}

// Cursor is a place in what a prepare reads: a key of one of its accesses. An
// empty Key is where the access begins. With as many accesses as there are
// nothing is read.
type Cursor struct {
	Access int
	Key    []byte
}

// Row is a version of a user key as a prepare returns it.
type Row struct {
	Key, Value                                  []byte
	CreateRevision, ModRevision, Version, Lease int64
}

// Prepared answers Prepare.
type Prepared struct {
	// Rows has, for each access in order, the live rows of its span that lie in
	// this range, in key order; of an access that Deletes only with NeedValues.
	Rows [][]Row
	// Counts has, for each access that Deletes, how many live rows there are.
	Counts []int64
	// Next is where to read on: Rows and Counts are of what is before. Nil: that
	// was all.
	Next *Cursor
	// Lock names the hold: WriteIntents must bring it along.
	Lock uint64
	// Compacted and Known are what the range knows of the compacted and of the
	// highest issued revision.
	Compacted, Known metapb.Revision
	// Found answers Prepare.Revoke.
	Found *LeaseFound
}

// WriteIntents logs the outcome of a prepared transaction at its revision.
// Answered by *Done when applied; refused with *RefusedRevisionError if the
// range closed at or above the revision (the locks are kept), or ErrLockLost.
//
// Nothing in it is changed after it was sent: replicas keep it. The same
// transaction may send it again with a higher revision; that replaces all
// intents that it has in the range.
type WriteIntents struct {
	Txn      *txnpb.TxnID
	Lock     uint64 // of Prepared
	Revision metapb.Revision
	Epoch    uint64 // the sequencer's, of the grant
	Intents  []*cmdpb.AddressedIntent
}

// WriteRecord makes the decision durable at the anchor range. Answered by
// *Done when applied, or by ErrTxnAborted if somebody aborted it before. The
// anchor is the first of the record's intent addresses.
type WriteRecord struct {
	Anchor []byte // address
	Record *txnpb.Record
}

// Push asks the anchor range what became of a transaction, and makes an abort
// durable there if nothing did. Answered by *Pushed.
type Push struct {
	Txn    *txnpb.TxnID
	Anchor []byte
}

// Pushed answers Push; Status is COMMITTED or ABORTED.
type Pushed struct {
	Status   txnpb.RecordStatus
	Revision metapb.Revision
}

// Resolve ends a transaction in the range: its intents become versions at their
// revision, or go; its locks go. Answered by *Done when applied. Resolving what
// is not there is done at once.
type Resolve struct {
	Txn    *txnpb.TxnID
	Commit bool
}

// Release gives back the locks of a prepared transaction that wrote no intent.
// With Lock, the answer also says whether they held till now. Answered by *Done,
// or by ErrLockLost.
type Release struct {
	Txn  *txnpb.TxnID
	Lock uint64 // as Prepared said; 0: does not matter
}

// Forget removes a transaction record that no range needs any more.
type Forget struct {
	Txn    *txnpb.TxnID
	Anchor []byte
}

// Split cuts the range before an address. Answered by *SplitDone when applied.
type Split struct {
	At      []byte
	RightID metapb.RangeID
}

// SplitDone answers Split. Split is false if the address began the range already.
type SplitDone struct {
	Split       bool
	Left, Right *metapb.Descriptor
}

// System asks the system range for a change of what is global and small. Op is
// one of package placement's operations, the reply its answer.
type System struct {
	Op any
}

// Done is the empty answer.
type Done struct{}

func (*Write) body()        {}
func (*Close) body()        {}
func (*Prepare) body()      {}
func (*WriteIntents) body() {}
func (*WriteRecord) body()  {}
func (*Push) body()         {}
func (*Resolve) body()      {}
func (*Release) body()      {}
func (*Forget) body()       {}
func (*Split) body()        {}
func (*System) body()       {}
