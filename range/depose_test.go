package ranges

import (
	"slices"
	"testing"
	"time"

	"github.com/flotilladb/flotilla/raftgroup"
)

// A leader out of service has another replica lead, votes for it, and that one is lost before
// the third hears of it. Nobody leads; the third has to know that, since the first's store lives
// and the first will not stand.
func TestDeposedWhileItHandsOver(t *testing.T) {
	reached := 0
	for seed := uint64(1); seed <= 20; seed++ {
		c := calmCluster(t, seed)
		leader := c.holder(2)
		second, third := c.nodes[leader.id%3], c.nodes[(leader.id+1)%3]
		r, follows := leader.store.Replica(2), third.store.Replica(2)
		term := r.group.Term()
		if !leader.store.Condemn(2, r.id, false) {
			t.Fatal("it is not condemned")
		}
		c.until(t, 10*time.Second, "it has voted for another one", func() bool {
			c.net = slices.DeleteFunc(c.net, func(p clusterPacket) bool { // nor does the third say or hear who stands
				return p.raft != nil && p.raft.Range == 2 && raftgroup.AsksForVote(p.raft.Raft) && (p.from == third.id || p.to == third.id)
			})
			return r.group.Term() > term
		})
		second.crash()
		c.net = slices.DeleteFunc(c.net, func(p clusterPacket) bool { return p.from == second.id })
		if r.group.Leader() == 0 && follows.Leader() == leader.id {
			reached++
		}
		c.until(t, 10*time.Second, "the third leads", func() bool { return c.holder(2) == third })
	}
	if reached == 0 {
		t.Fatal("the third always knew")
	}
}
