package placement

import "github.com/flotilladb/flotilla/proto/metapb"

// Operations on the system range. Each goes there in a peerpb.System request
// and is answered by what its comment says, or by an error.

// CompactOp agrees that revisions below Revision are no longer readable.
// Answered by *CompactReply, mvcc.ErrCompacted or mvcc.ErrFutureRevision.
type CompactOp struct {
	Revision metapb.Revision
	// Current is the sequencer's, asked for after the request came.
	Current metapb.Revision
}

// CompactReply answers CompactOp.
type CompactReply struct {
	Compacted metapb.Revision
}

// IDKind is a kind of id that the system range counts.
type IDKind int

// The kinds of ids.
const (
	RangeIDs IDKind = iota + 1
	NodeIDs
	StoreIDs
)

// AllocIDsOp takes N ids that were never given out. Answered by *AllocIDsReply.
type AllocIDsOp struct {
	Kind IDKind
	N    int64
}

// AllocIDsReply answers AllocIDsOp with the first of N consecutive ids.
type AllocIDsReply struct {
	First uint64
}
