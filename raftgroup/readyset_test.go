package raftgroup

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/flotilladb/flotilla/proto/metapb"
)

// TestReadySetTwin compares the set with a plain list.
func TestReadySetTwin(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var s ReadySet
	var twin []metapb.RangeID
	for step := range 50_000 {
		// Long phases of growing and of draining, so that both ends are met.
		if rng.IntN(10) < 3+4*(step/500%2) {
			id := metapb.RangeID(1 + rng.IntN(300))
			s.Mark(id)
			if !slices.Contains(twin, id) {
				twin = append(twin, id)
			}
		} else {
			id, ok := s.Next()
			if ok != (len(twin) > 0) || ok && id != twin[0] {
				t.Fatalf("step %d: Next = %d, %t; want the first of %v", step, id, ok, twin)
			}
			if ok {
				twin = twin[1:]
			}
		}
		if s.Len() != len(twin) {
			t.Fatalf("step %d: Len = %d, want %d", step, s.Len(), len(twin))
		}
	}
}

type recorder []string

func (r *recorder) Send(f Frame) {
	s := fmt.Sprintf("%d->%d", f.From, f.To)
	for _, m := range f.Messages {
		s += fmt.Sprintf(" r%d:%s", m.RangeID, m.Message.GetType())
	}
	*r = append(*r, s)
}

func TestOutboxFoldsByStore(t *testing.T) {
	box := NewOutbox(9)
	heartbeat := &Message{Type: raftpb.MsgHeartbeat.Enum()}
	vote := &Message{Type: raftpb.MsgVote.Enum()}
	for round := range 2 {
		box.Add(3, 70, heartbeat)
		box.Add(1, 70, heartbeat)
		box.Add(3, 8, vote)
		var got recorder
		box.Flush(&got)
		box.Flush(&got) // empty: sends nothing
		want := []string{"9->1 r70:MsgHeartbeat", "9->3 r70:MsgHeartbeat r8:MsgVote"}
		if !slices.Equal(got, want) {
			t.Fatalf("round %d: sent %q, want %q", round, got, want)
		}
	}
}
