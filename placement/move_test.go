package placement

import (
	"fmt"
	"testing"

	"github.com/flotilladb/flotilla/proto/metapb"
)

const (
	voter    = metapb.ReplicaKind_VOTER
	learner  = metapb.ReplicaKind_LEARNER
	incoming = metapb.ReplicaKind_INCOMING
	outgoing = metapb.ReplicaKind_OUTGOING
)

func TestMoveGoesOnFromTheDescriptor(t *testing.T) {
	move := Move{Range: 7, From: 1, To: 4, ToNode: 40}
	add, less := Move{Range: 7, To: 4, ToNode: 40}, Move{Range: 7, From: 1}
	for _, tc := range []struct {
		name   string
		move   Move
		kinds  map[uint64]metapb.ReplicaKind // by store
		leader metapb.StoreID
		want   string
		undo   string
	}{
		{"begins", move, map[uint64]metapb.ReplicaKind{1: voter, 2: voter, 3: voter}, 2, "learner 4 on node 40", "done"},
		{"learner", move, map[uint64]metapb.ReplicaKind{1: voter, 2: voter, 3: voter, 4: learner}, 2, "promote [4] remove [1]", "promote [] remove [4]"},
		{"led by who goes", move, map[uint64]metapb.ReplicaKind{1: voter, 2: voter, 3: voter, 4: learner}, 1, "hand over", "promote [] remove [4]"},
		{"joint", move, map[uint64]metapb.ReplicaKind{1: outgoing, 2: voter, 3: voter, 4: incoming}, 2, "wait", "wait"},
		{"over", move, map[uint64]metapb.ReplicaKind{2: voter, 3: voter, 4: voter}, 4, "done", "done"},
		{"alone", move, map[uint64]metapb.ReplicaKind{1: voter, 4: learner}, 1, "promote [4] remove []", "promote [] remove [4]"},
		{"alone no more", move, map[uint64]metapb.ReplicaKind{1: voter, 4: voter}, 1, "hand over", "done"},
		{"alone, handed over", move, map[uint64]metapb.ReplicaKind{1: voter, 4: voter}, 4, "promote [] remove [1]", "done"},
		{"add", add, map[uint64]metapb.ReplicaKind{1: voter, 4: learner}, 1, "promote [4] remove []", "promote [] remove [4]"},
		{"remove", less, map[uint64]metapb.ReplicaKind{1: voter, 2: voter}, 2, "promote [] remove [1]", "done"},
		{"the last stays", less, map[uint64]metapb.ReplicaKind{1: voter}, 1, "wait", "done"},
	} {
		d := &metapb.Descriptor{RangeId: 7, Generation: 1, NextReplicaId: 9}
		for store := uint64(1); store <= 4; store++ {
			if kind, ok := tc.kinds[store]; ok {
				d.Replicas = append(d.Replicas, &metapb.Replica{ReplicaId: store, StoreId: store, Kind: kind})
			}
		}
		if got := describeStep(tc.move.Next(d, tc.leader)); got != tc.want {
			t.Errorf("%s: next is %s, want %s", tc.name, got, tc.want)
		}
		if got := describeStep(tc.move.Undo(d)); got != tc.undo {
			t.Errorf("%s: undo is %s, want %s", tc.name, got, tc.undo)
		}
	}
}

func describeStep(s MoveStep) string {
	switch {
	case s.Done:
		return "done"
	case s.HandOver:
		return "hand over"
	case s.Change == nil:
		return "wait"
	case s.Change.Learner != 0:
		return fmt.Sprintf("learner %d on node %d", s.Change.Learner, s.Change.Node)
	}
	return fmt.Sprintf("promote %v remove %v", s.Change.Promote, s.Change.Remove)
}

// A move takes the replica away that was there when it began, not one that has come to that store
// since: two moves would undo each other for ever.
func TestMoveIsOfOneReplica(t *testing.T) {
	d := &metapb.Descriptor{RangeId: 7, Generation: 1, NextReplicaId: 9, Replicas: []*metapb.Replica{
		{ReplicaId: 1, StoreId: 1}, {ReplicaId: 2, StoreId: 2}, {ReplicaId: 4, StoreId: 4},
	}}
	move := Move{Range: 7, From: 1, To: 4, ToNode: 40}
	move.Bind(d)
	if got := describeStep(move.Next(d, 2)); got != "promote [] remove [1]" {
		t.Fatalf("next is %s", got)
	}
	d.Replicas[0].ReplicaId = 8
	if got := describeStep(move.Next(d, 2)); got != "done" {
		t.Fatalf("with another replica there, next is %s", got)
	}
}

// What was planned for a learner is not done to the voter that it has become meanwhile:
// somebody else's move has ended, and would be undone.
func TestLearnerThatBecameVoter(t *testing.T) {
	w := newPlanWorld(t, 4, 1, 1, 2, 3)
	r := &w.pic.Ranges[0]
	r.Descriptor.Replicas = append(r.Descriptor.Replicas, &metapb.Replica{ReplicaId: 4, StoreId: 4, Kind: learner})
	plan := Plan(&w.pic, w.limits)
	if len(plan) != 1 || plan[0].Move.From != 4 {
		t.Fatalf("the learner is not to go: %v", plan)
	}
	if got := describeStep(plan[0].Move.Next(r.Descriptor, 1)); got != "promote [] remove [4]" {
		t.Errorf("next is %s", got)
	}
	w.change(r.Descriptor, []metapb.StoreID{4}, []metapb.StoreID{3})
	if got := describeStep(plan[0].Move.Next(r.Descriptor, 1)); got != "done" {
		t.Errorf("it has become a voter, next is %s", got)
	}
}
