package raftgroup

import (
	"testing"
	"time"

	"github.com/flotilladb/flotilla/proto/metapb"
)

// A leader releases another one, and asks it again, were it in the same term. A release that
// comes again then says nothing: what was asked is newer.
func TestReleaseThatComesAgain(t *testing.T) {
	s := &livenessScene{stores: make(map[metapb.StoreID]*sceneStore), leads: make(map[metapb.StoreID]*Leadership)}
	s.start(1, 1)
	s.start(2, 1)
	pass := func(d time.Duration) {
		for end := s.now.Add(d); s.now < end; {
			s.now = s.now.Add(50 * time.Millisecond)
			s.tick(false)
			s.deliver(false)
		}
	}
	pass(1100 * time.Millisecond)
	leader, follower := s.stores[1].live, s.stores[2].live
	s.stores[2].follows[Tie{7, 6}] = 1
	set := StoreSet{Voters: []metapb.StoreID{1, 2}}
	x := leader.Lead(7, 6, set)
	pass(100 * time.Millisecond)
	leader.EndLead(x)
	var late *LivenessMessage
	for _, o := range leader.Ready() {
		if o.To == 2 {
			late = o.Message
			follower.Step(1, late, s.now)
		}
	}
	pass(100 * time.Millisecond)
	if follower.MayVote(7, 3) != true {
		t.Fatal("the follower was not released")
	}
	x = leader.Lead(7, 6, set)
	pass(100 * time.Millisecond)
	follower.Step(1, late, s.now)
	if x.Holds(s.now) && follower.MayVote(7, 3) {
		t.Fatal("the leader holds its lease, and its follower may vote for another one")
	}
	if !x.Holds(s.now) {
		t.Fatal("the leader holds no lease")
	}
}
