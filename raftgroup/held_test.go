package raftgroup

import (
	"testing"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/flotilladb/flotilla/proto/metapb"
)

// TestCommitsAreHeld looks at what a leader of three sends while its owner says that
// more comes: nothing that only says what is committed; and that it is told at last.
func TestCommitsAreHeld(t *testing.T) {
	c, must := mustCluster(t)
	leader := c.at(1)
	must(leader.g.Campaign())
	must(c.settle())
	propose := func() {
		t.Helper()
		_, _, err := leader.g.Propose([]byte("x"))
		must(err)
	}

	leader.g.HoldCommits(true)
	propose()
	must(c.settle())
	last := leader.g.LastIndex()
	for _, r := range c.replicas[1:] {
		if r.g.CommittedIndex() >= last || r.g.LastIndex() != last {
			t.Fatalf("replica %d has %d entries, of which %d committed, at %d", r.id, r.g.LastIndex(), r.g.CommittedIndex(), last)
		}
	}
	if leader.g.AppliedIndex() != last {
		t.Fatalf("the leader has applied %d of %d", leader.g.AppliedIndex(), last)
	}

	// The next entry says it too, and nothing is left of what was held.
	propose()
	must(c.settle())
	for _, r := range c.replicas[1:] {
		if r.g.CommittedIndex() != last {
			t.Fatalf("replica %d knows %d committed, not %d", r.id, r.g.CommittedIndex(), last)
		}
	}
	held := leader.g.TakeHeld()
	if len(held) != 2 {
		t.Fatalf("%d messages held, not one for each follower", len(held))
	}
	for _, m := range held {
		if m.GetType() != raftpb.MsgApp || len(m.Entries) > 0 || m.GetCommit() != last+1 {
			t.Fatalf("held %s", describe(m))
		}
		c.net = append(c.net, m)
	}
	must(c.settle())
	for _, r := range c.replicas {
		if r.g.CommittedIndex() != last+1 {
			t.Fatalf("replica %d knows %d committed, not %d", r.id, r.g.CommittedIndex(), last+1)
		}
	}

	// A heartbeat says it where nobody asks for what is held.
	propose()
	must(c.settle())
	must(leader.g.Tick())
	must(c.settle())
	for _, r := range c.replicas {
		if r.g.CommittedIndex() != last+2 {
			t.Fatalf("after a heartbeat replica %d knows %d committed, not %d", r.id, r.g.CommittedIndex(), last+2)
		}
	}

	// An entry that a follower did not get is sent again, however much more comes.
	propose()
	must(c.sync(leader))
	if _, err := c.ready(leader); err != nil {
		t.Fatal(err)
	}
	c.net = nil
	must(c.settle())
	for range 3 {
		must(leader.g.Tick())
		must(c.settle())
	}
	for _, r := range c.replicas {
		if r.g.LastIndex() != last+3 || leader.g.CommittedIndex() != last+3 {
			t.Fatalf("after a loss replica %d has %d entries, the leader has %d committed, not %d", r.id, r.g.LastIndex(), leader.g.CommittedIndex(), last+3)
		}
	}

	// What changes the replicas is told at once: whoever goes might be the leader.
	index, _, err := leader.g.ProposeConf(Conf{Voters: []metapb.ReplicaID{1, 2}, VotersOutgoing: []metapb.ReplicaID{1, 2, 3}}, []byte("conf"))
	must(err)
	if refuses(index) {
		t.Fatalf("entry %d is one that the test refuses", index)
	}
	must(c.settle())
	for _, r := range c.replicas {
		if r.g.CommittedIndex() < index {
			t.Fatalf("replica %d does not know of the change at %d, only of %d", r.id, index, r.g.CommittedIndex())
		}
	}

	// What an old term held is not sent in the next one.
	propose()
	must(c.settle())
	must(leader.g.TransferLeader(2))
	must(c.settle())
	if held := leader.g.TakeHeld(); len(held) > 0 {
		t.Fatalf("a follower still holds %s", describe(held[0]))
	}
}
