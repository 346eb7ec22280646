package node

import (
	"testing"
	"time"

	"github.com/flotilladb/flotilla/internal/clock"
	"github.com/flotilladb/flotilla/placement"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/peerpb"
	"github.com/flotilladb/flotilla/raftgroup"
	"github.com/flotilladb/flotilla/range"
	"github.com/flotilladb/flotilla/router"
)

// The value of a sequencer that is gone, refused there and sent on by its router, comes to
// the next leader of the system range before that one's first. Taken, it would be below what
// that one said is current, and who leads after it would give that out a second time.
func TestCeilingOfAnOlderTerm(t *testing.T) {
	r := newCoreRun(t, CoreConfig{})
	ask := func(op *placement.CeilingOp) {
		r.request(&router.SystemRequest{Op: op})
		r.run()
	}
	ask(&placement.CeilingOp{Epoch: r.core.epoch, Number: 1, Ceiling: 1000})
	old := r.core.epoch
	cfg := r.core.cfg
	cfg.StoreStart++
	core, err := NewCore(cfg)
	if err != nil {
		t.Fatal(err)
	}
	r.core = core
	r.run()
	if core.epoch <= old {
		t.Fatalf("epoch %d after %d", core.epoch, old)
	}
	ask(&placement.CeilingOp{Epoch: old, Number: 2, Ceiling: 500, Exact: true})
	if got := core.system.Ceiling(); got != 1000 {
		t.Errorf("the ceiling is %d", got)
	}
}

// A sequencer's answer comes when its store leads the system range in a newer term already,
// and this one has heard of that elsewhere. It does not count, and nobody will say more to
// what was asked: it is asked again.
func TestAnswerOfAnOlderEpoch(t *testing.T) {
	now := clock.Time(time.Second)
	c := &Core{cfg: CoreConfig{StoreID: 1, StoreStart: 1}, many: true, now: now, store: &ranges.Store{}, peers: newPeers()}
	l, _ := linked(t, now)
	c.links[2], c.order, c.leaders[metapb.SystemRange] = l, []metapb.StoreID{2}, leaderHint{2, 6}
	name := placement.AskName{Store: 1, StoreStart: 1, Range: 3, Term: 6, Number: 1}
	c.asker.Add(placement.Ask{Name: name, N: 1})
	if !c.flushAsks() || len(l.next.Asks) != 1 {
		t.Fatalf("asked %+v", l.next.Asks)
	}
	l.take(now)
	c.asker.Saw(6)
	c.granted(placement.Answer{Name: name, Seq: 1, First: 10, N: 1, Epoch: 5})
	c.now += askPause
	l.heardAt = c.now
	if !c.flushAsks() || len(l.next.Asks) != 1 || l.next.Asks[0].Epoch != 6 {
		t.Errorf("then asked %+v", l.next.Asks)
	}
}

// Who answered for a range that a split has made is asked again, also when the replica of it here
// comes after that and knows no leader yet. A replica that has heard of another leader knows better.
func TestNewReplicaForgetsNoLeader(t *testing.T) {
	r := newCoreRun(t, CoreConfig{})
	led := r.core.store.Replica(2)
	cfg := r.core.cfg
	cfg.StoreStart++
	core, err := NewCore(cfg)
	if err != nil {
		t.Fatal(err)
	}
	const right = 99 // no replica of it is here
	core.ledBy(right, 3)
	born := core.store.Replica(2)
	if born.Leader() != 0 || born.Term() != raftgroup.InitialTerm+1 || led.Leader() != 1 {
		t.Fatalf("leader %d in term %d; %d leads the other", born.Leader(), born.Term(), led.Leader())
	}
	if got := core.leaderBy(right, born).store; got != 3 {
		t.Errorf("store %d is asked, 3 led", got)
	}
	core.heardLeader(&peerpb.NotLeaderError{Range: right, Leader: 1, Term: led.Term() + 1})
	if got := core.leaderBy(right, born).store; got != 1 {
		t.Errorf("store %d is asked, 1 leads since", got)
	}
}

// A sequencer that was stopped to be handed over, and stays, goes on also where the node stops
// meanwhile: there are calls to answer. When none are left it is stopped for good.
func TestSequencerGoesOnWhileTheNodeStops(t *testing.T) {
	r := newCoreRun(t, CoreConfig{})
	c := r.core
	fails := func(number uint64) (goesOn bool) {
		c.seq.Stop()
		c.endMove(&leaderMove{id: metapb.SystemRange, until: 1}, peerpb.ErrBadTransfer)
		a, _ := c.seq.Alloc(placement.Ask{Name: placement.AskName{Store: 1, StoreStart: 1, Range: DataRange, Number: number}, N: 1})
		return a.Err == nil
	}
	c.Stop()
	if !fails(1) {
		t.Error("it gives out nothing while calls are left")
	}
	c.endBy = 1
	if fails(2) {
		t.Error("it gives out a revision when its exact value is on its way into the log")
	}
}

// Nor does one that has come by a snapshot, in whatever term: who answered last is asked until
// it says better.
func TestReplicaOfASnapshotForgetsNoLeader(t *testing.T) {
	r := newCoreRun(t, CoreConfig{})
	cfg := r.core.cfg
	cfg.StoreStart++
	core, err := NewCore(cfg)
	if err != nil {
		t.Fatal(err)
	}
	asked := func() metapb.StoreID { // its replica here has heard of no leader yet
		hint, _ := core.leaderOf(2)
		return hint.store
	}
	term := core.store.Replica(2).Term()
	core.leaders[2] = leaderHint{3, term - 1}
	if asked() != 0 {
		t.Errorf("store %d is asked that led in a term before", asked())
	}
	core.keepLeader(2)
	if asked() != 3 {
		t.Errorf("store %d is asked, 3 answered before the replica came", asked())
	}
	other := &peerpb.NotLeaderError{Range: 2, Leader: 4, Term: term}
	core.misled(3, 2, other)
	core.heardLeader(other)
	if asked() != 4 {
		t.Errorf("store %d is asked, 4 leads as 3 says", asked())
	}
}

// A store that this one meets while its leaders leave is told that they do, and one that it meets
// when it has said that it ends does not keep it.
func TestStoresMetLateAreTold(t *testing.T) {
	c := &Core{cfg: CoreConfig{StoreID: 1, StoreStart: 1}, many: true, store: &ranges.Store{}, peers: newPeers()}
	c.meetStore(2)
	c.draining = true
	c.meetStore(3)
	c.said = true
	c.meetStore(4)
	for to, want := range map[metapb.StoreID][2]bool{2: {}, 3: {true, false}, 4: {true, true}} {
		if l := c.links[to]; l.leaves != want[0] || l.ends != want[1] {
			t.Errorf("store %d: leaves %t, ends %t", to, l.leaves, l.ends)
		}
	}
}

// A start with many ranges asks after each step whether all are led: that costs nothing as
// long as one that was not is not yet.
func TestSequencerWaitsForOne(t *testing.T) {
	r := newCoreRun(t, CoreConfig{})
	cfg := r.core.cfg
	cfg.StoreStart++
	cfg.Ranges.StepReplicasMax = 1
	core, err := NewCore(cfg)
	if err != nil {
		t.Fatal(err)
	}
	r.core = core
	leads := func(id metapb.RangeID) bool { return core.store.Replica(id).Leads() }
	for !leads(metapb.SystemRange) {
		if core.HasReady() {
			r.step()
		} else {
			r.eng.CompleteSync(1)
		}
	}
	if leads(DataRange) {
		t.Fatal("both ranges are led at once")
	}
	if n := testing.AllocsPerRun(10, core.startSequencer); n != 0 {
		t.Errorf("%v allocations to find that one is not led yet", n)
	}
	r.run()
	if core.seq == nil {
		t.Error("there is no sequencer")
	}
}
