package ranges

import (
	"slices"
	"testing"
	"time"

	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/peerpb"
	"github.com/flotilladb/flotilla/raftgroup"
)

// A leader is left alone, and later has others again, all in one term. What one of these
// said of before, and what comes late, must not bind one who may vote for another by now.
func TestLateAnswerOfBeforeAlone(t *testing.T) {
	c := calmClusterOf(t, 1, 4)
	leader := c.holder(2)
	r := leader.store.Replica(2)
	others := []*clusterStore{c.nodes[leader.id%3], c.nodes[(leader.id+1)%3]}
	fourth, tie := c.nodes[3], raftgroup.Tie{Range: 2, Term: r.group.Term()}
	caughtUp := func() bool {
		repl := r.desc.ReplicaOn(fourth.id)
		return repl != nil && r.caughtUp(metapb.ReplicaID(repl.ReplicaId))
	}
	change := func(body *peerpb.ChangeReplicas) {
		t.Helper()
		if err := c.askChange(t, leader, body); err != nil {
			t.Fatal(err)
		}
	}
	change(&peerpb.ChangeReplicas{Learner: fourth.id, Node: 4})
	var late *raftgroup.LivenessMessage
	c.until(t, 5*time.Second, "the fourth follows", func() bool {
		for _, p := range c.net {
			if p.from == fourth.id && p.to == leader.id && p.live != nil && slices.Contains(p.live.Follows, tie) {
				late = p.live
			}
		}
		return late != nil && caughtUp()
	})
	for _, n := range append(others, fourth) {
		change(&peerpb.ChangeReplicas{Remove: []metapb.StoreID{n.id}})
		c.until(t, 5*time.Second, "its replica is gone", func() bool { return n.store.Replica(2) == nil })
	}
	if err := c.run(time.Second); err != nil {
		t.Fatal(err)
	}
	change(&peerpb.ChangeReplicas{Learner: fourth.id, Node: 4})
	unasked := func() { // the fourth is not asked again
		for i, p := range c.net {
			if p.to == fourth.id && p.live != nil && slices.Contains(p.live.Questions, tie) {
				m := *p.live
				m.Questions = nil
				c.net[i].live = &m
			}
		}
	}
	c.until(t, 5*time.Second, "it has caught up", func() bool { unasked(); return caughtUp() })
	c.request(leader, r.desc.Start, &clusterRequest{at: c.issued, body: &peerpb.ChangeReplicas{Promote: []metapb.StoreID{fourth.id}}})
	c.until(t, 5*time.Second, "it votes", func() bool {
		unasked()
		return r.desc.ReplicaOn(fourth.id).Kind == metapb.ReplicaKind_VOTER && fourth.store.Replica(2).Applied() == r.Applied()
	})
	leader.store.StepLiveness(fourth.id, late)
	if r.group.Term() != tie.Term || !r.group.IsLeader() {
		t.Fatalf("it leads no more in term %d", tie.Term)
	}
	if r.lead.Holds(leader.clock()) && fourth.store.peers.live.MayVote(2, others[0].id) {
		t.Fatal("the leader answers from memory, and its only follower may vote for another")
	}
}
