package ranges

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/mvcc"
	"github.com/flotilladb/flotilla/proto/cmdpb"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/peerpb"
	"github.com/flotilladb/flotilla/raftgroup"
)

// keepFromCommits lets a follower hear nothing of what is committed above an index.
func (c *storeCluster) keepFromCommits(to metapb.StoreID, index uint64) {
	for i := range c.net {
		p := &c.net[i]
		if p.to == to && p.raft != nil && p.raft.Raft.GetCommit() > index {
			m := proto.Clone(p.raft.Raft).(*raftgroup.Message)
			m.Commit = &index
			if raftgroup.IsHeartbeat(m) && len(m.Context) >= 8 { // a heartbeat's says it once more, for its answer
				binary.BigEndian.PutUint64(m.Context, index)
			}
			own := *p.raft
			own.Raft = m
			p.raft = &own
		}
	}
}

// putAt has a leader put a key, and returns when done says so.
func (c *storeCluster) putAt(t *testing.T, n *clusterStore, value string, each func(), done func() bool) {
	t.Helper()
	c.request(n, keys.User([]byte("k")), &clusterRequest{key: "k", value: value, at: c.issued,
		body: &peerpb.Write{Req: &pb.PutRequest{Key: []byte("k"), Value: []byte(value)}}})
	c.until(t, time.Second, value, func() bool {
		each()
		return done()
	})
}

// receive makes what a receiver has at the end of a snapshot.
func receive(t *testing.T, to *clusterStore, x *SnapshotSender) *Incoming {
	t.Helper()
	to.files++
	y := NewSnapshotReceiver(to.eng, fmt.Sprintf("snapshot-%d-%d", to.start, to.files))
	for y.Incoming() == nil {
		chunk, err := x.Chunk()
		if err != nil {
			t.Fatal(err)
		}
		a, err := y.Step(chunk)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := x.Answer(&a); err != nil {
			t.Fatal(err)
		}
	}
	return y.Incoming()
}

// A snapshot that comes when its receiver has got more by the log takes nothing away:
// the receiver has confirmed those entries, and they may be committed because of it.
func TestLateSnapshotTakesNothing(t *testing.T) {
	c := calmCluster(t, 1)
	leader := c.holder(2)
	follower, third := c.nodes[leader.id%3], c.nodes[(leader.id+1)%3]
	if err := c.checkServing(); err != nil {
		t.Fatal(err)
	}
	third.paused = c.now + time.Hour
	from, to := leader.store.Replica(2), follower.store.Replica(2)
	known := to.Applied()
	hold := func() { c.keepFromCommits(follower.id, known) }
	c.putAt(t, leader, "first", hold, func() bool { return from.Applied() > known })
	x, err := leader.store.BeginSnapshot(2, to.id, 200)
	if err != nil {
		t.Fatal(err)
	}
	index := x.header.Index
	for i := range 3 {
		last := from.Applied()
		c.putAt(t, leader, fmt.Sprintf("more%d", i), hold, func() bool { return from.Applied() > last })
	}
	last := from.Applied()
	if to.Applied() >= index || index >= last || to.group.LastIndex() < last {
		t.Fatalf("applied %d, has %d, the snapshot is of %d, committed is %d", to.Applied(), to.group.LastIndex(), index, last)
	}
	follower.from[snapshotKey{2, to.id}] = leader.id
	follower.store.Install(receive(t, follower, x))
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	leader.store.SnapshotEnded(2, to.id, true)
	acked := c.acked
	c.until(t, time.Second, "the snapshot is taken in, or not wanted", func() bool { hold(); return len(follower.store.incoming)+len(follower.ingests) == 0 })
	leader.crash()
	third.paused, c.net = 0, nil
	c.until(t, 5*time.Second, "another one leads", func() bool { n := c.holder(2); return n != nil && n != leader })
	if r := c.holder(2).store.Replica(2); r.Applied() < last || acked != c.acked {
		t.Fatalf("what was acknowledged up to %d is gone: the next leader is at %d", last, r.Applied())
	}
}

// Answers come late, doubled and out of order. A sender that began anew because of one, or is
// ahead of its receiver, goes on: it would else send one chunk for ever.
func TestLateSnapshotAnswers(t *testing.T) {
	for _, tc := range []struct {
		name  string
		taken int  // chunks, before
		anew  bool // the receiver lost them
		late  []uint64
	}{
		{name: "it begins anew, the receiver has three", taken: 3, late: []uint64{0}},
		{name: "it begins anew, the receiver has all but one", taken: 5, late: []uint64{0}},
		{name: "it is ahead by one", taken: 3, anew: true, late: []uint64{0, 1, 2}},
		{name: "it is ahead by two", taken: 4, anew: true, late: []uint64{0, 1, 2, 3}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := calmCluster(t, 1)
			leader := c.holder(2)
			r := leader.store.Replica(2)
			for i := range 6 {
				last := r.Applied()
				c.putAt(t, leader, fmt.Sprintf("value%d", i), func() {}, func() bool { return r.Applied() > last })
			}
			to := leader.store.Replica(2).desc.Replicas[leader.id%3]
			x, err := leader.store.BeginSnapshot(2, metapb.ReplicaID(to.ReplicaId), 1)
			if err != nil {
				t.Fatal(err)
			}
			defer x.Close()
			eng := c.nodes[leader.id%3].eng
			files := 0
			receiver := func() *SnapshotReceiver {
				files++
				return NewSnapshotReceiver(eng, fmt.Sprintf("late-%d", files))
			}
			y := receiver()
			round := func() {
				chunk, err := x.Chunk()
				if err != nil {
					t.Fatal(err)
				}
				a, err := y.Step(chunk)
				if err != nil {
					y.Close()
					y = receiver() // as a store does
					return
				}
				if _, _, err := x.Answer(&a); err != nil {
					t.Fatal(err)
				}
			}
			for range tc.taken {
				round()
			}
			if tc.anew {
				y.Close()
				y = receiver()
				round() // and wants the first
				round()
			}
			for _, next := range tc.late {
				if _, _, err := x.Answer(&SnapshotAnswer{Range: 2, Replica: x.header.Replica, Index: x.header.Index, ID: x.id, Next: next}); err != nil {
					t.Fatal(err)
				}
			}
			for range 40 {
				if y.Incoming() == nil {
					round()
				}
			}
			if y.Incoming() == nil {
				t.Fatalf("chunk %d is sent for ever, the receiver wants %d", x.chunk.Number, y.next)
			}
		})
	}
}

// askChange asks the leader of a range for a change of its replicas, and returns the
// error that it was refused with.
func (c *storeCluster) askChange(t *testing.T, n *clusterStore, body *peerpb.ChangeReplicas) (err error) {
	t.Helper()
	c.ids++
	id, answered := uint64(n.id)<<32+c.ids, false
	r := n.store.Replica(2)
	c.asked[id] = &clusterRequest{at: c.issued, body: body, told: func(rep peerpb.Reply) { answered, err = true, rep.Err }}
	n.store.Request(&peerpb.Request{ID: id, Range: 2, Generation: r.desc.Generation, Body: body})
	c.until(t, 2*time.Second, "the change is answered", func() bool { return answered })
	return err
}

// A learner whose store has died is not made a voter: with another store away that
// could be the end of the range's majority.
func TestDeadLearnerIsNotPromoted(t *testing.T) {
	c := calmClusterOf(t, 1, 4)
	n := c.holder(2)
	if err := c.askChange(t, n, &peerpb.ChangeReplicas{Learner: 4, Node: 4}); err != nil {
		t.Fatal(err)
	}
	r := n.store.Replica(2)
	c.until(t, 5*time.Second, "the learner is there", func() bool { return r.caughtUp(4) })
	c.nodes[3].crash()
	c.nodes[n.id%3].crash()
	c.until(t, 5*time.Second, "the stores are known to be dead", func() bool {
		return !n.store.Live(4) && !n.store.Live(n.id%3+1)
	})
	if err := c.askChange(t, n, &peerpb.ChangeReplicas{Promote: []metapb.StoreID{4}}); !errors.Is(err, peerpb.ErrNotCaughtUp) {
		t.Fatalf("the promotion is answered with %v", err)
	}
	acked := c.acked
	c.putAt(t, n, "still", func() {}, func() bool { return c.acked > acked })
}

// A learner that somebody waits for is not taken away by somebody else, who knows of no move:
// a large range could never be moved by hand while another node plans. It goes when nobody
// asks for it any more, or its store dies.
func TestAwaitedLearnerStays(t *testing.T) {
	c := calmClusterOf(t, 1, 4)
	n := c.holder(2)
	if err := c.askChange(t, n, &peerpb.ChangeReplicas{Learner: 4, Node: 4}); err != nil {
		t.Fatal(err)
	}
	r := n.store.Replica(2)
	ask := func(body peerpb.ChangeReplicas) error {
		_, err := r.nextReplicas(&body)
		return err
	}
	promote, remove := peerpb.ChangeReplicas{Promote: []metapb.StoreID{4}}, peerpb.ChangeReplicas{Remove: []metapb.StoreID{4}}
	c.until(t, 5*time.Second, "the learner's store lives", func() bool { return n.store.Live(4) })
	if err := ask(promote); !errors.Is(err, peerpb.ErrNotCaughtUp) {
		t.Fatalf("the promotion is answered with %v", err)
	}
	if err := ask(remove); !errors.Is(err, peerpb.ErrNotCaughtUp) {
		t.Errorf("somebody waits, and the removal is answered with %v", err)
	}
	late := n.store.now.Add(awaitedFor)
	c.until(t, 2*awaitedFor, "nobody waits", func() bool { return !n.store.now.Before(late) })
	if err := ask(remove); err != nil {
		t.Errorf("nobody waits, and the removal is answered with %v", err)
	}
	c.nodes[3].crash()
	c.until(t, 5*time.Second, "the store is known to be dead", func() bool { return !n.store.Live(4) })
	if err := ask(promote); !errors.Is(err, peerpb.ErrNotCaughtUp) {
		t.Errorf("the promotion of a dead one is answered with %v", err)
	}
	if err := ask(remove); err != nil {
		t.Errorf("its store is dead, and the removal is answered with %v", err)
	}
}

// A tombstone counts from the moment that it is written, also while its row is on the
// way to the engine: a snapshot that waited is not wanted any more.
func TestTombstoneOnItsWay(t *testing.T) {
	c := calmCluster(t, 1)
	n := c.nodes[0]
	d := &metapb.Descriptor{
		RangeId: 9, Start: keys.User([]byte("x")), End: keys.User([]byte("y")), NextReplicaId: 4, Generation: 1,
		Replicas: []*metapb.Replica{{ReplicaId: 3, StoreId: 1, NodeId: 1}},
	}
	in := &Incoming{Header: SnapshotHeader{Replica: 3, Descriptor: d, Index: 20, Term: 6}}
	s := n.store
	for s.HasWork() || n.eng.PendingSyncs() > 0 {
		if err := c.step(); err != nil {
			t.Fatal(err)
		}
	}
	delete(s.replicas, 2) // who would be in the way
	s.Install(in)
	s.Gone(Gone{Range: 9, Replica: 3})
	rd, err := s.Collect()
	if err != nil || rd.Append == nil {
		t.Fatalf("no tombstone is written: %+v, %v", rd, err)
	}
	if len(rd.Ingests) > 0 {
		t.Fatal("a replica that has gone comes by a snapshot")
	}
	if out := s.Output(); len(out.Installed) != 1 || out.Installed[0].OK {
		t.Fatalf("the snapshot is not refused: %+v", out.Installed)
	}
}

// A replica that its log takes out of its range applies neither that nor anything behind it.
// It goes when it is told so.
func TestRemovedReplicaAppliesNothingMore(t *testing.T) {
	c := calmCluster(t, 1)
	n := c.holder(2)
	victim := c.nodes[n.id%3]
	r := victim.store.Replica(2)
	gone := proto.Clone(r.desc).(*metapb.Descriptor)
	gone.Generation++
	gone.Replicas = slices.DeleteFunc(gone.Replicas, func(p *metapb.Replica) bool { return p.ReplicaId == uint64(r.id) })
	index, term := r.state.index, r.state.term
	data, err := (&cmdpb.Entry{Term: term, Generation: r.desc.Generation, Commands: []*cmdpb.Command{
		{Kind: &cmdpb.Command_Replicas{Replicas: &cmdpb.ReplicasCommand{Descriptor_: gone}}},
	}}).MarshalVT()
	if err != nil {
		t.Fatal(err)
	}
	for i, data := range [][]byte{data, nil} {
		if err := r.applyEntries([]raftgroup.Entry{{Index: index + 1 + uint64(i), Term: term, Data: data}}); err != nil {
			t.Fatal(err)
		}
	}
	if r.state.index != index || !hasReplica(r.desc, r.id) || victim.store.Shown(2) {
		t.Fatalf("it applied %d after %d, and has %v", r.state.index, index, r.desc)
	}
	victim.store.Gone(Gone{Range: 2, Replica: r.id})
	if victim.store.Replica(2) != nil {
		t.Fatal("it does not go")
	}
}

// Who is about to be alone in its range crashes when it has applied that it is, and has
// forgotten it. It needs the vote of the replica that it took out, which must be there still.
func TestForgetsThatItIsAlone(t *testing.T) {
	for seed := uint64(1); seed <= 20; seed++ {
		c := calmCluster(t, seed)
		leader := c.holder(2)
		second, third := c.nodes[leader.id%3], c.nodes[(leader.id+1)%3]
		if err := c.askChange(t, leader, &peerpb.ChangeReplicas{Remove: []metapb.StoreID{third.id}}); err != nil {
			t.Fatal(err)
		}
		c.until(t, 10*time.Second, "two replicas", func() bool {
			return len(leader.store.Replica(2).desc.Replicas) == 2 && third.store.Replica(2) == nil
		})
		c.request(leader, leader.store.Replica(2).desc.Start, &clusterRequest{
			at: c.issued, body: &peerpb.ChangeReplicas{Remove: []metapb.StoreID{second.id}},
		})
		c.until(t, 10*time.Second, "one replica", func() bool { return len(leader.store.Replica(2).desc.Replicas) == 1 })
		leader.store, leader.eng = nil, leader.eng.Crash(func(int) int { return 0 })
		for range 200 { // what it said arrives
			if err := c.step(); err != nil {
				t.Fatal(err)
			}
		}
		if err := leader.open(); err != nil {
			t.Fatal(err)
		}
		c.until(t, 10*time.Second, "alone, and no replica elsewhere", func() bool {
			return c.holder(2) == leader && leader.store.Replica(2).single() && second.store.Replica(2) == nil
		})
	}
}

// A store is away while its range gets a replica that then leads. It has never heard of that
// one, but has to answer it: it lacks part of the log.
func TestLeaderThatCameMeanwhile(t *testing.T) {
	c := calmClusterOf(t, 1, 4)
	n := c.holder(2)
	late, came := c.nodes[n.id%3], c.nodes[3]
	late.crash()
	if err := c.askChange(t, n, &peerpb.ChangeReplicas{Learner: came.id, Node: 4}); err != nil {
		t.Fatal(err)
	}
	r := n.store.Replica(2)
	c.until(t, 5*time.Second, "the learner is there", func() bool { return r.caughtUp(4) })
	if err := c.askChange(t, n, &peerpb.ChangeReplicas{Promote: []metapb.StoreID{came.id}}); err != nil {
		t.Fatal(err)
	}
	c.until(t, 5*time.Second, "it is a voter", func() bool { return !isJoint(r.desc) && r.desc.ReplicaOn(came.id).Kind == metapb.ReplicaKind_VOTER })
	c.until(t, 5*time.Second, "it leads", func() bool {
		if n.store.Replica(2).leading != 0 && !r.Transferring() {
			_ = n.store.Transfer(2, came.id)
		}
		return c.holder(2) == came
	})
	if err := late.open(); err != nil {
		t.Fatal(err)
	}
	c.until(t, 5*time.Second, "the store that was away has all", func() bool {
		r := late.store.Replica(2) // nil while a snapshot is put in its place
		return r != nil && r.Applied() == came.store.Replica(2).Applied()
	})
}

// A leader crashes and loses the end of its log, which the others have. What it said before
// comes when they know that it began anew: they follow nobody who leads nothing, since they
// alone can be elected.
func TestLateWordOfAnEarlierStart(t *testing.T) {
	c := calmCluster(t, 1)
	leader := c.holder(2)
	others := []*clusterStore{c.nodes[leader.id%3], c.nodes[(leader.id+1)%3]}
	late := make(map[metapb.StoreID]clusterPacket)
	c.putAt(t, leader, "v", func() {
		leader.syncAt = c.now + time.Hour // its disk takes long
		for _, p := range c.net {
			if p.from == leader.id && p.raft != nil && p.raft.Range == 2 {
				late[p.to] = p
			}
		}
	}, func() bool {
		last := leader.store.Replica(2).group.LastIndex()
		return len(late) == 2 && others[0].lastIndex(t, 2) == last && others[1].lastIndex(t, 2) == last
	})
	leader.store, leader.eng = nil, leader.eng.Crash(func(int) int { return 0 })
	c.net = slices.DeleteFunc(c.net, func(p clusterPacket) bool { return p.from == leader.id })
	if err := leader.open(); err != nil {
		t.Fatal(err)
	}
	follow := func(n *clusterStore) bool { return n.store.Replica(2).Leader() == leader.id }
	c.until(t, time.Second, "both know that it leads nothing", func() bool { return !follow(others[0]) && !follow(others[1]) })
	for _, n := range others {
		p := late[n.id]
		p.at = c.now
		c.net = append(c.net, p)
	}
	c.until(t, 10*time.Second, "the range has a leader again", func() bool { return c.holder(2) != nil })
}

// A replica is elected that has in its log that it is taken out: it applies that before it has
// begun to lead, and is told that it is gone. Those who followed it hear that nobody leads.
func TestRemovedBeforeItBegan(t *testing.T) {
	c := calmCluster(t, 1)
	leader := c.holder(2)
	second, third := c.nodes[leader.id%3], c.nodes[(leader.id+1)%3]
	r := leader.store.Replica(2)
	c.request(leader, r.desc.Start, &clusterRequest{
		at: c.issued, body: &peerpb.ChangeReplicas{Remove: []metapb.StoreID{third.id}},
	})
	c.until(t, time.Second, "the others have the end of the change", func() bool {
		if !isJoint(r.desc) {
			return false
		}
		leader.syncAt = c.now + time.Hour // so it is not committed
		last := r.group.LastIndex()
		return r.desc.Generation == 2 && last > r.state.index && second.lastIndex(t, 2) == last && third.lastIndex(t, 2) == last
	})
	leader.store, leader.eng = nil, leader.eng.Crash(func(int) int { return 0 })
	if err := leader.open(); err != nil {
		t.Fatal(err)
	}
	stay := []*clusterStore{leader, second}
	for _, n := range stay {
		n.store.SetLeaving(true) // they stand for no election
	}
	c.until(t, 10*time.Second, "they follow the third", func() bool {
		return leader.store.Replica(2).Leader() == third.id && second.store.Replica(2).Leader() == third.id
	})
	for _, n := range stay {
		n.store.SetLeaving(false)
	}
	for end := c.now + 2*time.Second; c.now < end; { // they wait for no election any more
		leader.syncAt = c.now + time.Hour
		if err := c.step(); err != nil {
			t.Fatal(err)
		}
	}
	leader.syncAt = c.now
	c.until(t, 10*time.Second, "the third store has nothing", func() bool { return third.store.Replica(2) == nil })
	c.until(t, 10*time.Second, "one of the others leads", func() bool { return c.holder(2) != nil })
}

// clusterThatWentOn returns a cluster that wrote on while its third store was away, until that
// one needs a snapshot of the range: by few entries, which are large.
func clusterThatWentOn(t *testing.T) (c *storeCluster, leader, follower, third *clusterStore) {
	t.Helper()
	c = calmCluster(t, 1)
	leader = c.holder(2)
	follower, third = c.nodes[leader.id%3], c.nodes[(leader.id+1)%3]
	third.crash()
	for _, n := range c.nodes {
		if n != third {
			n.store.cfg.LogBehindBytesMax = 1 << 10
		}
	}
	lacks := third.lastIndex(t, 2)
	for i := 0; leader.store.Replica(2).group.FirstIndex() <= lacks+1; i++ {
		acked := c.acked
		c.putAt(t, leader, fmt.Sprintf("v%d", i)+strings.Repeat("x", 300), func() {}, func() bool { return c.acked > acked })
	}
	return c, leader, follower, third
}

// A leader whose only live follower needs a snapshot cannot commit anything before that
// has one. It must not wait until it has committed something to send it.
func TestNewLeaderSendsSnapshot(t *testing.T) {
	c, leader, follower, third := clusterThatWentOn(t)
	follower.crash()
	leader.crash()
	for _, n := range []*clusterStore{leader, third} {
		if err := n.open(); err != nil {
			t.Fatal(err)
		}
	}
	c.until(t, 10*time.Second, "the range has a leader again", func() bool { return c.holder(2) == leader })
}

// lastIndex is the end of a range's log in the engine of a store that is down.
func (n *clusterStore) lastIndex(t *testing.T, id metapb.RangeID) uint64 {
	t.Helper()
	st, err := raftgroup.ReadState(n.eng, id)
	if err != nil {
		t.Fatal(err)
	}
	return st.LastIndex
}

// A split that gives the right side's span up takes its rows away when readers have been
// told, and not with what it applies: they take what is in the engine for all there is.
func TestRowsGoAfterTheSplitIsKnown(t *testing.T) {
	s := newStoreScript(t, Config{})
	s.request("put n 1")
	s.run()
	has := func() bool {
		kv, err := mvcc.Get(s.eng, []byte("n"), s.issued)
		s.must(err)
		return kv != nil
	}
	r := s.store.Replica(2)
	s.store.Gone(Gone{Range: 3, Replica: 1})
	left, right := r.divided(&peerpb.Split{At: keys.User([]byte("m")), RightID: 3})
	s.store.apply = s.eng.NewBatch()
	s.must(r.applySplit(s.store.apply, &cmdpb.SplitCommand{Left: left, Right: right}))
	s.collect()
	s.must(s.eng.Commit(s.rd.Apply, false))
	if !has() {
		t.Fatal("the rows have gone, and nobody knows")
	}
	s.rd.Apply = nil
	s.store.Advance()
	if out := s.store.Output(); !slices.Contains(out.Removed, 2) || len(out.Descriptors) != 1 || s.store.Replica(3) != nil {
		t.Fatalf("nobody is told: %+v", out)
	}
	s.advance()
	s.run()
	if has() {
		t.Fatal("the rows are still there")
	}
}

// The store that is to take a range over dies before it has the whole log: the leader finds
// that out, and goes on, long before the transfer has run out of time.
func TestHeirDies(t *testing.T) {
	for seed := uint64(1); seed <= 5; seed++ {
		c := calmCluster(t, seed)
		leader := c.holder(2)
		heir := c.nodes[leader.id%3]
		heir.paused = c.now + time.Hour
		acked := c.acked
		c.putAt(t, leader, "first", func() {}, func() bool { return c.acked > acked }) // which the heir lacks
		began := c.now
		if err := leader.store.Transfer(2, heir.id); err != nil {
			t.Fatal(err)
		}
		acked = c.acked
		c.request(leader, keys.User([]byte("k")), &clusterRequest{key: "k", value: "second", at: c.issued,
			body: &peerpb.Write{Req: &pb.PutRequest{Key: []byte("k"), Value: []byte("second")}}})
		c.until(t, 10*time.Second, "it goes on", func() bool { return c.acked > acked && !leader.store.Replica(2).Transferring() })
		if took := c.now - began; took > 2*leader.store.peers.live.ElectionTimeout() {
			t.Errorf("seed %d: after %v", seed, took)
		}
	}
}
