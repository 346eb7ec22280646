package ranges

import (
	"slices"
	"testing"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/peerpb"

	"github.com/flotilladb/flotilla/raftgroup"
)

// ledByRemoved has a replica that was taken out of its range elected by those who do not know
// that, as it does not itself; the leader that took it out is lost. Each is called before every
// step then, until the replica and all others know it.
func ledByRemoved(t *testing.T, seed uint64, each func(c *storeCluster)) (c *storeCluster, second, third, fourth *clusterStore) {
	t.Helper()
	c, leader, _ := clusterWithLearner(t, seed)
	second, third, fourth = c.nodes[leader.id%3], c.nodes[(leader.id+1)%3], c.nodes[3]
	hold := takeOut(t, c, leader, func(joint uint64) {
		for _, n := range []*clusterStore{second, third, fourth} {
			c.keepFromCommits(n.id, joint)
		}
	})
	c.during(t, time.Second, hold)
	leader.crash()
	c.net = nil
	r := third.store.Replica(2)
	c.until(t, 20*time.Second, "who was taken out leads", func() bool {
		c.net = slices.DeleteFunc(c.net, func(p clusterPacket) bool {
			return p.raft != nil && p.from != third.id && raftgroup.AsksForVote(p.raft.Raft)
		})
		return r.group.IsLeader()
	})
	for end := c.now + 3*time.Second; c.now < end; { // what it is answered takes its time
		c.net = slices.DeleteFunc(c.net, func(p clusterPacket) bool {
			return p.raft != nil && p.to == third.id && p.raft.Raft.GetType() == raftpb.MsgAppResp
		})
		if err := c.step(); err != nil {
			t.Fatal(err)
		}
	}
	c.until(t, 5*time.Second, "all know that it is out", func() bool {
		each(c)
		return r.stopped && second.store.Replica(2).desc.Generation == 4 && fourth.store.Replica(2).desc.Generation == 4
	})
	return c, second, third, fourth
}

// dropTellsToLead loses what tells a replica to lead.
func dropTellsToLead(c *storeCluster) {
	c.net = slices.DeleteFunc(c.net, func(p clusterPacket) bool { return p.raft != nil && raftgroup.TellsToLead(p.raft.Raft) })
}

// A leader that finds out that it is no part of its range is lost before it has handed over.
func TestRemovedLeaderIsLost(t *testing.T) {
	for seed := uint64(1); seed <= 10; seed++ {
		c, _, third, _ := ledByRemoved(t, seed, dropTellsToLead)
		third.crash()
		c.net = nil
		c.until(t, 20*time.Second, "another one leads", func() bool { return c.holder(2) != nil })
	}
}

// Such a leader crashes, and is back at once.
func TestRemovedLeaderRestarts(t *testing.T) {
	for seed := uint64(1); seed <= 10; seed++ {
		c, _, third, _ := ledByRemoved(t, seed, dropTellsToLead)
		third.crash()
		if err := third.open(); err != nil {
			t.Fatal(err)
		}
		c.until(t, 20*time.Second, "another one leads", func() bool { n := c.holder(2); return n != nil && n != third })
		c.until(t, 20*time.Second, "it goes", func() bool { return third.store.Replica(2) == nil })
	}
}

// Such a leader hands over, though what tells others to lead is lost at first.
func TestRemovedLeaderHandsOver(t *testing.T) {
	for seed := uint64(1); seed <= 10; seed++ {
		c, _, third, _ := ledByRemoved(t, seed, dropTellsToLead)
		c.during(t, 2*time.Second, func() { dropTellsToLead(c) })
		c.until(t, 20*time.Second, "another one leads", func() bool { n := c.holder(2); return n != nil && n != third })
		c.until(t, 20*time.Second, "it goes", func() bool { return third.store.Replica(2) == nil })
	}
}

// A replica is taken out of its range, and does not hear of it; the leadership goes to one of
// which it has not heard either. It takes the leader of before, whose store lives, for the
// range's still.
func TestAsksWhoLedBefore(t *testing.T) {
	c := calmClusterOf(t, 1, 4)
	leader := c.holder(2)
	third, fourth := c.nodes[(leader.id+1)%3], c.nodes[3]
	lose := func() {
		c.net = slices.DeleteFunc(c.net, func(p clusterPacket) bool {
			return p.to == third.id && (p.gone != nil || p.raft != nil && p.raft.Range == 2)
		})
	}
	r := leader.store.Replica(2)
	c.request(leader, r.desc.Start, &clusterRequest{at: c.issued, body: &peerpb.ChangeReplicas{Learner: fourth.id, Node: 4}})
	c.until(t, 5*time.Second, "the learner is there", func() bool { lose(); return r.desc.Generation == 2 && r.caughtUp(4) })
	c.request(leader, r.desc.Start, &clusterRequest{at: c.issued, body: &peerpb.ChangeReplicas{
		Promote: []metapb.StoreID{fourth.id}, Remove: []metapb.StoreID{third.id},
	}})
	c.until(t, 5*time.Second, "the change is over", func() bool {
		lose()
		return r.desc.Generation == 4 && fourth.store.Replica(2).desc.Generation == 4
	})
	if err := leader.store.Transfer(2, fourth.id); err != nil {
		t.Fatal(err)
	}
	c.until(t, 5*time.Second, "the fourth leads", func() bool { lose(); return c.holder(2) == fourth })
	c.until(t, 60*time.Second, "it has gone, or asks around", func() bool {
		r := third.store.Replica(2)
		return r == nil || r.Adrift()
	})
}

// Of those who stay one knows that a replica was taken out; the leader forgot it in a crash, and
// with its vote the replica is elected. Then that one is lost for good, and the replica leads
// nothing without the one who knows: nobody else stands for election, since its store lives.
func TestListensToRemovedLeader(t *testing.T) {
	for seed := uint64(1); seed <= 10; seed++ {
		c, leader, r := clusterWithLearner(t, seed)
		second, third, fourth := c.nodes[leader.id%3], c.nodes[(leader.id+1)%3], c.nodes[3]
		hold := takeOut(t, c, leader, func(joint uint64) {
			c.keepFromCommits(third.id, joint)
			c.keepFromCommits(fourth.id, joint)
			if r.desc.Generation == 4 {
				leader.syncAt = c.now + time.Hour
			}
		})
		c.until(t, 5*time.Second, "the second knows", func() bool { hold(); return second.store.Replica(2).desc.Generation == 4 })
		leader.store, leader.eng = nil, leader.eng.Crash(func(int) int { return 0 })
		if err := leader.open(); err != nil {
			t.Fatal(err)
		}
		if r = leader.store.Replica(2); r.desc.Generation == 4 || r.group.CommittedIndex() >= second.store.Replica(2).Applied() {
			t.Fatal("it has not forgotten that the change is over")
		}
		for _, n := range c.nodes {
			c.cut[[2]metapb.StoreID{n.id, second.id}], c.cut[[2]metapb.StoreID{second.id, n.id}] = true, true
		}
		x := third.store.Replica(2)
		c.until(t, 20*time.Second, "who was taken out leads", func() bool {
			c.net = slices.DeleteFunc(c.net, func(p clusterPacket) bool {
				return p.raft != nil && p.from != third.id && raftgroup.AsksForVote(p.raft.Raft)
			})
			return x.group.IsLeader()
		})
		leader.crash()
		c.net = nil
		clear(c.cut)
		c.until(t, 20*time.Second, "another one leads", func() bool { n := c.holder(2); return n != nil && n != third })
		c.until(t, 20*time.Second, "it goes", func() bool { return third.store.Replica(2) == nil })
	}
}

// All voters but the leader are replaced at once, and the leader is lost. A replica that goes is
// elected, and hands over to one that comes.
func TestGoingHandsOverToComing(t *testing.T) {
	for seed := uint64(1); seed <= 10; seed++ {
		c := calmClusterOf(t, seed, 5)
		leader := c.holder(2)
		r := leader.store.Replica(2)
		second, third := c.nodes[leader.id%3], c.nodes[(leader.id+1)%3]
		for i, n := range c.nodes[3:] {
			if err := c.askChange(t, leader, &peerpb.ChangeReplicas{Learner: n.id, Node: metapb.NodeID(n.id)}); err != nil {
				t.Fatal(err)
			}
			c.until(t, 5*time.Second, "the learner is there", func() bool { return r.caughtUp(metapb.ReplicaID(4 + i)) })
		}
		c.request(leader, r.desc.Start, &clusterRequest{at: c.issued, body: &peerpb.ChangeReplicas{
			Promote: []metapb.StoreID{4, 5}, Remove: []metapb.StoreID{second.id, third.id},
		}})
		// Nobody but the leader hears that the joint configuration is committed.
		joint := r.Applied()
		c.until(t, 5*time.Second, "the range is between two sets of voters", func() bool {
			for _, n := range c.nodes {
				if n != leader {
					c.keepFromCommits(n.id, joint)
				}
			}
			return isJoint(r.desc)
		})
		leader.crash()
		c.net = nil
		c.until(t, 20*time.Second, "one of those that go leads", func() bool {
			c.net = slices.DeleteFunc(c.net, func(p clusterPacket) bool {
				return p.raft != nil && p.from != second.id && p.from != third.id && raftgroup.AsksForVote(p.raft.Raft)
			})
			return second.store.Replica(2).group.IsLeader() || third.store.Replica(2).group.IsLeader()
		})
		c.until(t, 20*time.Second, "one that came leads, and those that went are gone", func() bool {
			n := c.holder(2)
			return n != nil && n.id > 3 && second.store.Replica(2) == nil && third.store.Replica(2) == nil
		})
	}
}

// A replica is taken out by a leader of which it has heard, but not what it is. It asks that one
// too whether it is still part of the range: nobody else may say.
func TestAsksLeaderItDoesNotKnow(t *testing.T) {
	c := calmClusterOf(t, 1, 4)
	leader := c.holder(2)
	third, fourth := c.nodes[(leader.id+1)%3], c.nodes[3]
	lose := func() {
		c.net = slices.DeleteFunc(c.net, func(p clusterPacket) bool {
			return p.to == third.id && (p.gone != nil || p.raft != nil && p.raft.Range == 2 && !raftgroup.IsHeartbeat(p.raft.Raft))
		})
	}
	change := func(n *clusterStore, body *peerpb.ChangeReplicas, generation uint64) {
		t.Helper()
		r := n.store.Replica(2)
		c.request(n, r.desc.Start, &clusterRequest{at: c.issued, body: body})
		c.until(t, 5*time.Second, "the change is over", func() bool { lose(); return r.desc.Generation == generation })
	}
	change(leader, &peerpb.ChangeReplicas{Learner: fourth.id, Node: 4}, 2)
	c.until(t, 5*time.Second, "the learner is there", func() bool { lose(); return leader.store.Replica(2).caughtUp(4) })
	change(leader, &peerpb.ChangeReplicas{Promote: []metapb.StoreID{fourth.id}}, 4)
	if err := leader.store.Transfer(2, fourth.id); err != nil {
		t.Fatal(err)
	}
	r := third.store.Replica(2)
	c.until(t, 5*time.Second, "the fourth leads", func() bool { lose(); return c.holder(2) == fourth && r.group.Leader() == 4 })
	change(fourth, &peerpb.ChangeReplicas{Remove: []metapb.StoreID{third.id}}, 6)
	if r.memberOf(4) != 0 {
		t.Fatal("it knows who leads")
	}
	c.during(t, time.Second, lose)
	c.until(t, 60*time.Second, "it has gone", func() bool { return third.store.Replica(2) == nil })
}

// All replicas that a removed one knows have gone as well before it asks, and cannot say what
// became of the range. Their stores live, also that of the leader of before.
func TestAsksWhoHasNothing(t *testing.T) {
	c := calmClusterOf(t, 1, 6)
	first := c.holder(2)
	second, third := c.nodes[first.id%3], c.nodes[(first.id+1)%3]
	lose := func() {
		c.net = slices.DeleteFunc(c.net, func(p clusterPacket) bool {
			return p.to == third.id && (p.gone != nil || p.raft != nil && p.raft.Range == 2) || p.from == third.id && p.present != nil
		})
	}
	leader := first
	change := func(body *peerpb.ChangeReplicas, generation uint64) {
		t.Helper()
		r := leader.store.Replica(2)
		c.request(leader, r.desc.Start, &clusterRequest{at: c.issued, body: body})
		c.until(t, 5*time.Second, "the change is over", func() bool { lose(); return r.desc.Generation == generation })
	}
	for i, going := range []*clusterStore{third, first, second} {
		n := c.nodes[3+i]
		change(&peerpb.ChangeReplicas{Learner: n.id, Node: metapb.NodeID(n.id)}, uint64(3*i+2))
		c.until(t, 5*time.Second, "the learner is there", func() bool {
			lose()
			return leader.store.Replica(2).caughtUp(metapb.ReplicaID(4 + i))
		})
		change(&peerpb.ChangeReplicas{Promote: []metapb.StoreID{n.id}, Remove: []metapb.StoreID{going.id}}, uint64(3*i+4))
		if i > 0 {
			continue
		}
		if err := leader.store.Transfer(2, n.id); err != nil {
			t.Fatal(err)
		}
		c.until(t, 5*time.Second, "one that came leads", func() bool { lose(); return c.holder(2) == n })
		leader = n
	}
	c.until(t, 5*time.Second, "the others have gone", func() bool {
		lose()
		return first.store.Replica(2) == nil && second.store.Replica(2) == nil
	})
	c.until(t, 60*time.Second, "it has gone, or asks around", func() bool {
		r := third.store.Replica(2)
		return r == nil || r.Adrift()
	})
}

// A replica has in its log that it was taken out of its range. The leader that did so, whom it
// follows, is lost for good: it looks for others who can say that it is gone.
func TestPartedLosesItsLeader(t *testing.T) {
	c, leader, r := clusterWithLearner(t, 1)
	third := c.nodes[(leader.id+1)%3]
	parted := third.store.Replica(2)
	lose := func() {
		c.net = slices.DeleteFunc(c.net, func(p clusterPacket) bool {
			return p.to == third.id && p.gone != nil || p.from == third.id && p.present != nil
		})
	}
	c.request(leader, r.desc.Start, &clusterRequest{at: c.issued, body: &peerpb.ChangeReplicas{
		Promote: []metapb.StoreID{4}, Remove: []metapb.StoreID{third.id},
	}})
	c.until(t, 5*time.Second, "it knows that it is out", func() bool { lose(); return parted.stopped })
	if parted.Leader() != leader.id {
		t.Fatalf("it follows %d", parted.Leader())
	}
	leader.crash()
	c.until(t, 60*time.Second, "it asks around", func() bool { lose(); return parted.Adrift() })
}
