package ranges

import (
	"slices"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/peerpb"
)

// clusterWithLearner has replicas of range 2 on three stores, of which it returns the
// leader's, and a learner on the fourth that has caught up.
func clusterWithLearner(t *testing.T, seed uint64) (*storeCluster, *clusterStore, *Replica) {
	t.Helper()
	c := calmClusterOf(t, seed, 4)
	leader := c.holder(2)
	if err := c.askChange(t, leader, &peerpb.ChangeReplicas{Learner: c.nodes[3].id, Node: 4}); err != nil {
		t.Fatal(err)
	}
	r := leader.store.Replica(2)
	c.until(t, 5*time.Second, "the learner is there", func() bool { return r.caughtUp(4) })
	return c, leader, r
}

// during lets some time pass. Each is called after every step.
func (c *storeCluster) during(t *testing.T, d time.Duration, each func()) {
	t.Helper()
	for end := c.now + d; c.now < end; each() {
		if err := c.step(); err != nil {
			t.Fatal(err)
		}
	}
}

// A replica that was behind gets a whole change of its range's voters at once, and crashes
// when that is in its log and none of it applied. It must not be elected by those who voted
// before: the range has other voters by now, who decide without them.
func TestForgetsWhatIsCommitted(t *testing.T) {
	c, leader, r := clusterWithLearner(t, 1)
	second, third, fourth := c.nodes[leader.id%3], c.nodes[(leader.id+1)%3], c.nodes[3]
	index := second.store.Replica(2).Applied()
	second.paused = c.now + time.Hour
	keep := func() { // the third store does not hear that its replica is gone
		c.net = slices.DeleteFunc(c.net, func(p clusterPacket) bool { return p.gone != nil })
	}
	c.request(leader, r.desc.Start, &clusterRequest{at: c.issued, body: &peerpb.ChangeReplicas{
		Promote: []metapb.StoreID{fourth.id}, Remove: []metapb.StoreID{third.id},
	}})
	c.until(t, time.Second, "the voters have changed", func() bool { keep(); return r.desc.Generation == 4 })
	second.paused = 0
	c.until(t, time.Second, "the second has it in its log", func() bool {
		keep()
		second.syncAt = min(second.syncAt, c.now)
		return second.store.Replica(2).Applied() > index
	})
	second.store, second.eng = nil, second.eng.Crash(func(int) int { return 0 })
	acked := c.acked
	c.putAt(t, leader, "v", keep, func() bool { return c.acked > acked })
	if err := second.open(); err != nil {
		t.Fatal(err)
	}
	again := second.store.Replica(2)
	if again.Applied() > index || again.group.LastIndex() < index+2 || again.group.LastIndex() >= r.Applied() {
		t.Fatalf("it begins at %d, with a log up to %d; it was at %d", again.Applied(), again.group.LastIndex(), index)
	}
	for _, a := range []*clusterStore{leader, fourth} {
		for _, b := range []*clusterStore{second, third} {
			c.cut[[2]metapb.StoreID{a.id, b.id}], c.cut[[2]metapb.StoreID{b.id, a.id}] = true, true
		}
	}
	c.during(t, 5*time.Second, func() {
		if again.group.IsLeader() {
			t.Fatalf("elected by voters of before: %s", c.describe(2))
		}
	})
	clear(c.cut)
	c.until(t, 5*time.Second, "the range has its three replicas", func() bool {
		return c.holder(2) != nil && third.store.Replica(2) == nil && again.Applied() == r.Applied()
	})
}

// A leader takes a replica out, and dies for good before the others know that this is committed.
// They begin in the configuration before it, and may need the vote of who was taken out: that
// one must not have gone yet.
func TestGoesWhenOthersKnow(t *testing.T) {
	for seed := uint64(1); seed <= 10; seed++ {
		c, leader, _ := clusterWithLearner(t, seed)
		second, third, fourth := c.nodes[leader.id%3], c.nodes[(leader.id+1)%3], c.nodes[3]
		hold := takeOut(t, c, leader, func(joint uint64) {
			for _, n := range []*clusterStore{second, third, fourth} {
				c.keepFromCommits(n.id, joint)
			}
		})
		c.during(t, time.Second, hold)
		leader.crash()
		c.net = nil
		c.until(t, 10*time.Second, "another one leads, and who was taken out goes", func() bool {
			n := c.holder(2)
			return n != nil && n != leader && third.store.Replica(2) == nil
		})
	}
}

// A leader takes a replica out and says so, and dies for good; all others crash at that moment.
// They may have lost that they knew the change to be committed, but not to be for ever without
// the vote of who has gone.
func TestGoesWhenOthersKnowForGood(t *testing.T) {
	for seed := uint64(1); seed <= 10; seed++ {
		c, leader, r := clusterWithLearner(t, seed)
		second, third, fourth := c.nodes[leader.id%3], c.nodes[(leader.id+1)%3], c.nodes[3]
		c.request(leader, r.desc.Start, &clusterRequest{at: c.issued, body: &peerpb.ChangeReplicas{
			Promote: []metapb.StoreID{fourth.id}, Remove: []metapb.StoreID{third.id},
		}})
		others := func(p clusterPacket) bool { return p.gone == nil || p.to != third.id }
		c.until(t, 5*time.Second, "the leader says that it is gone", func() bool {
			return slices.ContainsFunc(c.net, func(p clusterPacket) bool { return !others(p) })
		})
		c.net = slices.DeleteFunc(c.net, others)
		leader.crash()
		for _, n := range []*clusterStore{second, fourth} {
			n.store, n.eng = nil, n.eng.Crash(func(int) int { return 0 })
		}
		c.until(t, 5*time.Second, "who was taken out has gone", func() bool { return third.store.Replica(2) == nil })
		for _, n := range []*clusterStore{second, fourth} {
			if err := n.open(); err != nil {
				t.Fatal(err)
			}
		}
		c.until(t, 20*time.Second, "another one leads", func() bool { return c.holder(2) != nil })
	}
}

// takeOut has a leader make the learner on the fourth store a voter and take the third out.
// Each says what may still happen to packets, after the joint configuration has begun at an
// index.
func takeOut(t *testing.T, c *storeCluster, leader *clusterStore, each func(joint uint64)) (hold func()) {
	t.Helper()
	r := leader.store.Replica(2)
	third := c.nodes[(leader.id+1)%3]
	c.request(leader, r.desc.Start, &clusterRequest{at: c.issued, body: &peerpb.ChangeReplicas{
		Promote: []metapb.StoreID{c.nodes[3].id}, Remove: []metapb.StoreID{third.id},
	}})
	joint := uint64(0)
	hold = func() {
		if joint == 0 && isJoint(r.desc) {
			joint = r.Applied()
		}
		if joint > 0 {
			each(joint)
		}
	}
	c.until(t, 5*time.Second, "the change is over for the leader", func() bool { hold(); return r.desc.Generation == 4 })
	return hold
}

// A replica is taken out of a range, and most of those who stay know it. The one that does not
// has the longest log: nobody but it can lead when the leader is lost for good, and by what it
// knows it needs the vote of who has gone.
func TestLongestLogHearsWhoVotes(t *testing.T) {
	for seed := uint64(1); seed <= 10; seed++ {
		c, leader, r := clusterWithLearner(t, seed)
		second, third, fourth := c.nodes[leader.id%3], c.nodes[(leader.id+1)%3], c.nodes[3]
		over := uint64(0)
		hold := takeOut(t, c, leader, func(joint uint64) {
			c.keepFromCommits(fourth.id, joint)
			if over == 0 && r.desc.Generation == 4 {
				over = r.Applied()
			}
			c.net = slices.DeleteFunc(c.net, func(p clusterPacket) bool {
				return over > 0 && p.to == second.id && p.raft != nil && len(p.raft.Raft.Entries) > 0 && p.raft.Raft.GetIndex() >= over
			})
		})
		c.request(leader, keys.User([]byte("k")), &clusterRequest{key: "k", value: "v", at: c.issued,
			body: &peerpb.Write{Req: &pb.PutRequest{Key: []byte("k"), Value: []byte("v")}}})
		c.until(t, 5*time.Second, "who was taken out has gone, and one has more than the other", func() bool {
			hold()
			return third.store.Replica(2) == nil && fourth.store.Replica(2).group.LastIndex() > second.store.Replica(2).group.LastIndex()
		})
		if fourth.store.Replica(2).desc.Generation == 4 {
			t.Fatal("it knows that the change is over")
		}
		leader.crash()
		c.net = nil
		c.until(t, 20*time.Second, "another one leads", func() bool {
			if fourth.store.Replica(2).Leader() == second.id && !second.store.Replica(2).group.IsLeader() {
				t.Fatal("it takes who told it for the leader")
			}
			n := c.holder(2)
			return n != nil && n != leader
		})
	}
}

// A follower that knows that a replica was taken out, and is asked by it, does not say so: it
// may be the only one who knows.
func TestFollowerDoesNotSayWhoHasGone(t *testing.T) {
	for seed := uint64(1); seed <= 10; seed++ {
		c, leader, _ := clusterWithLearner(t, seed)
		second, third, fourth := c.nodes[leader.id%3], c.nodes[(leader.id+1)%3], c.nodes[3]
		hold := takeOut(t, c, leader, func(joint uint64) {
			c.keepFromCommits(fourth.id, joint)
			c.cut[[2]metapb.StoreID{second.id, leader.id}] = true
		})
		c.until(t, 5*time.Second, "the second knows", func() bool { hold(); return second.store.Replica(2).desc.Generation == 4 })
		c.during(t, 5*time.Second, func() {
			hold()
			if third.store.Replica(2) == nil {
				t.Fatalf("it has gone: %s", c.describe(2))
			}
		})
		clear(c.cut)
		c.until(t, 10*time.Second, "it goes when more know", func() bool { return third.store.Replica(2) == nil })
	}
}
