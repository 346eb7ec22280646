package peerpb

import "github.com/flotilladb/flotilla/proto/metapb"

// ChangeReplicas asks a range's leader for one step of a change of its replicas.
// Exactly one of Learner, (Promote, Remove) and Leave is set. Answered by
// *ReplicasChanged when applied.
//
// A step that cannot follow what the range is at is refused with ErrBadChange:
// who wants to go on looks at the descriptor.
type ChangeReplicas struct {
	// Learner is the store that gets a replica, which does not count.
	Learner metapb.StoreID
	Node    metapb.NodeID // of Learner
	// Promote are stores whose learners become voters, Remove are stores whose
	// replicas go. Where voters come or go this enters a joint configuration, which
	// the leader leaves by itself.
	Promote, Remove []metapb.StoreID
	// Leave ends a joint configuration. Leaders ask themselves for it.
	Leave bool
}

// ReplicasChanged answers ChangeReplicas.
type ReplicasChanged struct {
	Descriptor *metapb.Descriptor
}

func (*ChangeReplicas) body() {}
