package router

import (
	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/proto/metapb"
)

// Call is one request on its way through the node's core. The client waits on
// Done; Resp and Err are valid after it was signalled.
type Call struct {
	// Req is an etcd request (*PutRequest, *DeleteRangeRequest, *TxnRequest,
	// *CompactionRequest, *LeaseGrantRequest, *LeaseTimeToLiveRequest,
	// *LeaseLeasesRequest) or one of this package's (*CloseTicket, *ReadTicket,
	// *SplitRequest, *SystemRequest, *RenewRequest, *RevokeRequest).
	Req  any
	Resp any
	Err  error
	// Done has room for one, so that the node's loop never waits for a client
	// that left.
	Done chan struct{}
}

// CloseTicket asks that every range over the span is closed at S for its
// addresses, so that a read at S may begin. Its response is nil.
type CloseTicket struct {
	S    metapb.Revision
	Span metapb.Span // addresses
}

// ReadTicket asks for what is current, and that every range over the spans is
// closed for reads of the node's own engine there, or at Revision if that is set
// and not above it. Its response is a *ReadReply. Without spans it only asks what
// is current. It is for nodes that are not Direct.
type ReadTicket struct {
	Spans    []metapb.Span // addresses
	Revision metapb.Revision
}

// ReadReply answers ReadTicket.
type ReadReply struct {
	S, Compacted metapb.Revision
}

// SplitRequest cuts the range that holds a user key just before the key. Its
// response is a *peerpb.SplitDone.
type SplitRequest struct {
	Key []byte
	// Address, if set, is cut before instead: of a lease, too.
	Address []byte
}

// RenewRequest renews a lease. Its response is the TTL as granted, an int64.
type RenewRequest struct {
	ID int64
}

// RevokeRequest ends a lease and deletes its keys. Its response is that of the
// deletion, a *DeleteRangeResponse; without keys its revision is 0.
type RevokeRequest struct {
	ID int64
	// Expired says that the lease is only to be revoked if its deadline passed.
	Expired bool
}

// SystemRequest is an operation of package placement for the system range.
type SystemRequest struct {
	Op any
}

// Piece is the part of a span that lies in one range, as the node last
// published it.
type Piece struct {
	Range      metapb.RangeID
	Generation uint64
	Span       metapb.Span // addresses, inside the range
	// Ready says that a read at the asked revision may begin at once.
	Ready bool
	// Closed is the revision at which the range was last known to be closed.
	Closed metapb.Revision
}

// Local is the node that a Client runs on, as the client sees it. It is safe
// for concurrent use.
type Local interface {
	// Submit queues a call for the node's core and returns at once. An error
	// (queue full, node stopping) means that the call was not taken.
	Submit(c *Call) error
	// Direct reports whether a read may begin at Current. It may not where the
	// sequencer must be asked for what is current.
	Direct() bool
	// Leaderless reports whether nobody can be asked for what is current.
	Leaderless() bool
	// Current returns the revision at which a linearizable read that begins now
	// reads, and the compacted revision.
	Current() (current, compacted metapb.Revision)
	// Pieces appends the published pieces of a span of addresses, in key order,
	// each with its readiness for a read at s.
	Pieces(dst []Piece, span metapb.Span, s metapb.Revision) []Piece
	// Valid reports whether what was read at rev from a piece may be used: its
	// range still has the piece's generation, and nothing at or above rev was
	// removed meanwhile.
	Valid(p Piece, rev metapb.Revision) bool
	// Reader is the store's engine.
	Reader() engine.Reader
	// Count returns the exact number of live user keys in [start, end) at rev.
	Count(start, end []byte, rev metapb.Revision) (int64, error)
}
