package placement

import (
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/peerpb"
)

// Move is an operator: it brings a replica of a range from one store to another.
// What it has done is in the range's descriptor alone, so that whoever has the Move
// can go on with it, or undo it, at any point and after any crash:
//
//	learner on To → caught up, by log or snapshot → joint: To comes, From goes → done
type Move struct {
	Range metapb.RangeID
	// From loses its replica; 0: nobody does, the range gets one more.
	From metapb.StoreID
	// FromReplica is which one that is: another one that has come to From since is somebody
	// else's, and stays. 0: whichever is there.
	FromReplica metapb.ReplicaID
	// LearnerOnly: what From has goes only as a learner. If it is a voter by now, somebody
	// else's move has ended, and it is needed.
	LearnerOnly bool
	// To gets one; 0: nobody does, the range has one less.
	To     metapb.StoreID
	ToNode metapb.NodeID
}

// MoveStep is what to do next for a Move. At most one field is set; none: the step
// under way takes its time.
type MoveStep struct {
	Done bool
	// Change is to be asked of the range's leader. Refused, it is asked for again
	// after another look at the descriptor.
	Change *peerpb.ChangeReplicas
	// HandOver: another store has to lead first. Which, the leader knows best: it
	// knows who is alive and lacks little.
	HandOver bool
}

// Next returns the next step towards a move's end, for a descriptor of its range and
// the store that leads it.
func (m *Move) Next(d *metapb.Descriptor, leader metapb.StoreID) MoveStep {
	if between(d) {
		return MoveStep{} // its leader ends that by itself
	}
	from, to := replicaOn(d, m.From), replicaOn(d, m.To)
	if from != nil && m.FromReplica != 0 && metapb.ReplicaID(from.ReplicaId) != m.FromReplica {
		from = nil
	}
	if m.To != 0 && to == nil {
		return MoveStep{Change: &peerpb.ChangeReplicas{Learner: m.To, Node: m.ToNode}}
	}
	if m.LearnerOnly && from != nil && from.Kind != metapb.ReplicaKind_LEARNER {
		return MoveStep{Done: true}
	}
	change := &peerpb.ChangeReplicas{}
	if to != nil && to.Kind == metapb.ReplicaKind_LEARNER {
		change.Promote = []metapb.StoreID{m.To}
	}
	if from != nil {
		if leader == m.From {
			return transferFrom(d, m.From, change)
		}
		change.Remove = []metapb.StoreID{m.From}
	}
	if len(change.Promote)+len(change.Remove) == 0 {
		return MoveStep{Done: true}
	}
	return MoveStep{Change: change}
}

// Undo returns the next step back to where nothing of a move is seen. A move whose
// replica on To counts already is not undone: then the step is Done.
func (m *Move) Undo(d *metapb.Descriptor) MoveStep {
	to := replicaOn(d, m.To)
	switch {
	case between(d):
		return MoveStep{}
	case to == nil || to.Kind != metapb.ReplicaKind_LEARNER:
		return MoveStep{Done: true}
	}
	return MoveStep{Change: &peerpb.ChangeReplicas{Remove: []metapb.StoreID{m.To}}}
}

// transferFrom has another voter lead, so that the leader's replica can go. Where
// there is none, the one that comes is made a voter first.
func transferFrom(d *metapb.Descriptor, from metapb.StoreID, change *peerpb.ChangeReplicas) MoveStep {
	for _, p := range d.Replicas {
		if p.Kind == metapb.ReplicaKind_VOTER && metapb.StoreID(p.StoreId) != from {
			return MoveStep{HandOver: true}
		}
	}
	if len(change.Promote) == 0 {
		return MoveStep{} // the last replica stays
	}
	return MoveStep{Change: change}
}

// Bind sets FromReplica by a descriptor of the range.
func (m *Move) Bind(d *metapb.Descriptor) {
	if from := replicaOn(d, m.From); from != nil {
		m.FromReplica = metapb.ReplicaID(from.ReplicaId)
	}
}

// between reports whether a range has two sets of voters.
func between(d *metapb.Descriptor) bool {
	for _, p := range d.Replicas {
		if p.Kind == metapb.ReplicaKind_INCOMING || p.Kind == metapb.ReplicaKind_OUTGOING {
			return true
		}
	}
	return false
}

func replicaOn(d *metapb.Descriptor, store metapb.StoreID) *metapb.Replica {
	if store == 0 {
		return nil
	}
	return d.ReplicaOn(store)
}
