package placement

import (
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/flotilladb/flotilla/proto/metapb"
)

// Operations on the system range. Each goes there in a peerpb.System request
// and is answered by what its comment says, or by an error.

// CompactOp agrees that revisions below Revision are no longer readable.
// Answered by *CompactReply, ErrCompacted or ErrFutureRevision.
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

// AlarmOp activates or deactivates an alarm of a member. Answered by
// *AlarmReply.
type AlarmOp struct {
	Activate bool
	Alarm    Alarm
}

// Alarm is one alarm of one member (a node, in etcd's Cluster API).
type Alarm struct {
	Type   pb.AlarmType
	Member metapb.NodeID
	// Contained: what is corrupt is known, and nobody is served from it.
	Contained bool
}

// AlarmReply answers AlarmOp with the alarm that was meant, or with none if
// there was none to deactivate.
type AlarmReply struct {
	Alarms []Alarm
}

// DirectoryOp tells the directory of ranges as they are now. What it knows
// newer is kept. Answered by *peerpb.Done.
type DirectoryOp struct {
	Descriptors []*metapb.Descriptor
}

// CeilingOp persists the sequencer's ceiling. Answered by *peerpb.Done.
type CeilingOp struct {
	// Epoch is the sequencer's, and Number counts its proposals. One that comes
	// behind a later one, since it was refused and sent again, is refused: it
	// would take back what the later one allowed.
	Epoch, Number uint64
	Ceiling       metapb.Revision
	// Exact says that the sequencer gives out nothing above it from now on.
	Exact bool
	// EndOneStore also ends the fact that the cluster has one store.
	EndOneStore bool
}

// OfTerm is the one term in which a leader of the system range may take the operation. A
// sequencer that is gone knows nothing of what the next one has said is current.
func (o *CeilingOp) OfTerm() uint64 { return o.Epoch }

// ClusterVersionOp sets the version that all nodes have at least. Answered by
// *peerpb.Done.
type ClusterVersionOp struct {
	Version string
}

// FormatOp raises the format that all members read. A lower one than is known changes
// nothing, nor one that a member does not read, see SetReads. Answered by *peerpb.Done.
type FormatOp struct {
	Format metapb.Format
}

// JoinOp lets a node without data into the cluster. Answered by *JoinReply, by the
// same if the node asks again, or by ErrOneStore, ErrNameTaken, ErrURLTaken or
// ErrRemoved.
type JoinOp struct {
	Name string
	// Nonce tells the node's folder from others that use its name. Not 0.
	Nonce                uint64
	PeerURLs, ClientURLs []string
}

// JoinReply answers JoinOp with ids that nobody else has or had.
type JoinReply struct {
	Node  metapb.NodeID
	Store metapb.StoreID
}

// AnnounceOp tells what a node is now; its nonce stays. Answered by *peerpb.Done,
// ErrNameTaken, ErrURLTaken, ErrOtherFolder or ErrRemoved.
type AnnounceOp struct {
	Member Member
}

// MemberOp changes a member: without a Node it adds one that is to join from
// PeerURLs. Answered by *MembersReply, ErrOneStore, ErrNoMember, ErrURLTaken or ErrNeeded.
// One to be removed that is among the members of the answer leaves: it is removed by
// another MemberOp, when no range needs it any more.
type MemberOp struct {
	Node     metapb.NodeID
	Remove   bool
	PeerURLs []string
}

// MembersOp asks for all members. Answered by *MembersReply.
type MembersOp struct{}

// MembersReply answers with the members as they are after the operation, and with
// the active alarms.
type MembersReply struct {
	Members []Member
	Changed metapb.NodeID
	Alarms  []Alarm
}

// LookupOp asks the directory for up to Max ranges from an address on. Answered by
// *LookupReply.
type LookupOp struct {
	Start []byte
	Max   int64
}

// LookupReply answers LookupOp. The descriptors must not be changed.
type LookupReply struct {
	Descriptors []*metapb.Descriptor
	More        bool
}

// Next asks for up to n of the ranges that follow; nil if none do.
func (r *LookupReply) Next(n int64) *LookupOp {
	if !r.More || len(r.Descriptors) == 0 {
		return nil
	}
	return &LookupOp{Start: r.Descriptors[len(r.Descriptors)-1].End, Max: n}
}

// CorruptOp says that the data of a replica was found to be corrupt, and raises the
// alarm of its member. Answered by *AlarmReply with that alarm; with none if the
// directory does not know the replica: it is gone, or was not reported yet.
type CorruptOp struct {
	Range   metapb.RangeID
	Replica metapb.ReplicaID
	Member  metapb.NodeID
	// Undecided: replicas differ, and nobody can say which of them are right.
	Undecided bool
}
