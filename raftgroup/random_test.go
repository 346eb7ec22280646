package raftgroup

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/flotilladb/flotilla/proto/metapb"
)

// TestRandomRuns lets three replicas live through lost, doubled and overtaking
// messages, crashes that lose part of what was not synced, rival candidates and
// cut logs. The cluster checks, step by step, that a term has one leader and
// that no two replicas apply different entries at one index; a run checks in
// the end that logs match and that nothing acknowledged is gone.
func TestRandomRuns(t *testing.T) {
	applied, crashes := 0, 0
	for seed := range uint64(60) {
		run := newRandomRun(seed)
		if err := run.play(3000); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		applied += len(run.c.truth)
		crashes += run.crashes
	}
	// A run that gets nowhere checks nothing.
	if applied < 60*40 || crashes < 60*8 {
		t.Fatalf("only %d entries and %d crashes", applied, crashes)
	}
}

// TestRandomRunsFindAnEarlyAck plants the bug that the package is there to
// prevent: writes are called durable before they are.
func TestRandomRunsFindAnEarlyAck(t *testing.T) {
	for seed := range uint64(60) {
		run := newRandomRun(seed)
		run.c.lying = true
		if err := run.playGuarded(3000); err != nil {
			return
		}
	}
	t.Fatal("60 runs did not notice that acknowledged writes were lost")
}

type randomRun struct {
	c       *cluster
	rng     *rand.Rand
	acked   []Entry // applied by the leader that took the proposal
	waiting map[uint64]Entry
	crashes int
	number  int
}

func newRandomRun(seed uint64) *randomRun {
	c, err := newCluster(3)
	if err != nil {
		panic(err)
	}
	return &randomRun{c: c, rng: rand.New(rand.NewPCG(seed, 1)), waiting: make(map[uint64]Entry)}
}

// playGuarded is play for a run in which raft itself may find the damage.
func (x *randomRun) playGuarded(steps int) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return x.play(steps)
}

func (x *randomRun) play(steps int) error {
	for i := range steps {
		if err := x.step(); err != nil {
			return fmt.Errorf("step %d: %w", i, err)
		}
		if i%100 == 0 {
			if err := x.c.checkLogs(); err != nil {
				return fmt.Errorf("step %d: %w", i, err)
			}
		}
	}
	return x.finish()
}

func (x *randomRun) step() error {
	r := x.c.replicas[x.rng.IntN(len(x.c.replicas))]
	if r.g == nil {
		if x.rng.IntN(4) > 0 {
			return nil
		}
		return x.c.start(r)
	}
	switch n := x.rng.IntN(1000); {
	case n < 420:
		return x.message()
	case n < 680:
		return x.ready(r)
	case n < 840:
		return x.c.sync(r)
	case n < 930:
		return x.propose(r)
	case n < 970:
		return r.g.Tick()
	case n < 976:
		if err := r.g.Campaign(); !errors.Is(err, ErrCannotCampaign) {
			return err
		}
	case n < 979:
		if err := r.g.TransferLeader(metapb.ReplicaID(1 + x.rng.IntN(3))); !errors.Is(err, ErrNotLeader) {
			return err
		}
	case n < 992:
		return x.truncate(r)
	case n < 996:
		x.crashes++
		x.c.crash(r, func(unsynced int) int { return x.rng.IntN(unsynced + 1) })
	}
	return nil
}

// message does something to one of the messages under way.
func (x *randomRun) message() error {
	if len(x.c.net) == 0 {
		return nil
	}
	i := 0
	if x.rng.IntN(3) == 0 {
		i = x.rng.IntN(len(x.c.net))
	}
	switch x.rng.IntN(20) {
	case 0:
		x.c.net = append(x.c.net[:i:i], x.c.net[i+1:]...)
		return nil
	case 1:
		x.c.net = append(x.c.net, x.c.net[i])
	}
	return x.c.deliver(i)
}

func (x *randomRun) propose(r *testReplica) error {
	x.number++
	data := fmt.Sprintf("%d%s", x.number, strings.Repeat(".", x.rng.IntN(100)))
	index, term, err := r.g.Propose([]byte(data))
	if errors.Is(err, ErrNotLeader) || errors.Is(err, ErrDropped) {
		return nil
	}
	x.waiting[uint64(x.number)] = Entry{Index: index, Term: term, Data: []byte(data)}
	return err
}

func (x *randomRun) ready(r *testReplica) error {
	if !r.g.HasReady() {
		return nil
	}
	if _, err := x.c.ready(r); err != nil {
		return err
	}
	for number, want := range x.waiting { // any order: each is looked at alone
		got, ok := x.c.truth[want.Index]
		if !ok {
			continue
		}
		delete(x.waiting, number)
		if got.Term == want.Term {
			if string(got.Data) != string(want.Data) {
				return fmt.Errorf("proposed %d/%d %q, applied %q", want.Term, want.Index, want.Data, got.Data)
			}
			x.acked = append(x.acked, want)
		}
	}
	return nil
}

// truncate cuts the log where every replica has applied, durably or not: as
// long as there are no snapshots, nobody may be left behind.
func (x *randomRun) truncate(r *testReplica) error {
	upTo := r.g.AppliedIndex()
	for _, other := range x.c.replicas {
		if other.g == nil || other.token != 0 {
			return nil
		}
		if err := x.c.sync(other); err != nil {
			return err
		}
		upTo = min(upTo, other.g.AppliedIndex())
	}
	b := r.eng.NewBatch()
	if err := r.g.Truncate(b, upTo); err != nil {
		return err
	}
	return r.eng.Commit(b, false)
}

// finish brings all replicas up, elects a leader, and looks whether everybody
// gets to the same end with everything that was acknowledged.
func (x *randomRun) finish() error {
	for _, r := range x.c.replicas {
		if r.g == nil {
			if err := x.c.start(r); err != nil {
				return err
			}
		}
	}
	if err := x.c.settle(); err != nil {
		return err
	}
	for round := 0; ; round++ {
		if round == 50 {
			return errors.New("the replicas do not come together")
		}
		r := x.c.replicas[round%3]
		if err := r.g.Campaign(); err != nil && !errors.Is(err, ErrCannotCampaign) {
			return err
		}
		if err := x.c.settle(); err != nil {
			return err
		}
		for range 3 {
			if err := r.g.Tick(); err != nil {
				return err
			}
			if err := x.c.settle(); err != nil {
				return err
			}
		}
		if r.g.IsLeader() && x.level() {
			break
		}
	}
	for _, e := range x.acked {
		if got := x.c.truth[e.Index]; got.Term != e.Term || string(got.Data) != string(e.Data) {
			return fmt.Errorf("acknowledged %v, applied %v", e, got)
		}
	}
	return x.c.checkLogs()
}

func (x *randomRun) level() bool {
	first := x.c.replicas[0].g
	for _, r := range x.c.replicas {
		if r.g.AppliedIndex() != first.LastIndex() || r.g.LastIndex() != first.LastIndex() {
			return false
		}
	}
	return true
}
