package raftgroup

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
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
	applied, crashes, confs, snapshots := 0, 0, 0, 0
	for seed := range uint64(60) {
		run := newRandomRun(seed)
		if err := run.play(4000); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		applied += len(run.c.truth)
		crashes += run.crashes
		confs += len(run.c.confs)
		snapshots += run.snapshots
	}
	// A run that gets nowhere checks nothing.
	if applied < 60*40 || crashes < 60*8 || confs < 60*3 || snapshots < 60 {
		t.Fatalf("only %d entries, %d crashes, %d configurations, %d snapshots", applied, crashes, confs, snapshots)
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
	// snapshots counts those installed.
	snapshots int
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
	case n < 400:
		return x.message()
	case n < 640:
		return x.ready(r)
	case n < 800:
		return x.c.sync(r)
	case n < 880:
		return x.propose(r)
	case n < 930:
		return r.g.Tick()
	case n < 938:
		if err := r.g.Campaign(); !errors.Is(err, ErrCannotCampaign) {
			return err
		}
	case n < 941:
		if err := r.g.TransferLeader(metapb.ReplicaID(1 + x.rng.IntN(len(x.c.replicas)))); !errors.Is(err, ErrNotLeader) {
			return err
		}
	case n < 946:
		return x.truncate(r)
	case n < 966:
		return x.snapshot()
	case n < 992:
		return x.change(r)
	case n < 996:
		x.crashes++
		x.c.crash(r, func(unsynced int) int { return x.rng.IntN(unsynced + 1) })
	default:
		return r.g.ReportUnreachable(metapb.ReplicaID(1 + x.rng.IntN(len(x.c.replicas))))
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

// truncate cuts the log anywhere that is applied. Who is left behind gets a
// snapshot.
func (x *randomRun) truncate(r *testReplica) error {
	b := r.eng.NewBatch()
	if err := r.g.Truncate(b, r.g.AppliedIndex()-uint64(x.rng.IntN(8))); err != nil {
		return err
	}
	return r.eng.Commit(b, false)
}

// snapshot does the next thing to one of the snapshots that are wanted.
func (x *randomRun) snapshot() error {
	if len(x.c.wants) == 0 {
		return nil
	}
	i := x.rng.IntN(len(x.c.wants))
	w := &x.c.wants[i]
	switch {
	case w.leader.g != w.group:
	case !w.taken:
		return x.c.take(w)
	case x.rng.IntN(4) == 0:
		if err := w.end(false); err != nil {
			return err
		}
	default:
		err := x.c.install(w)
		if err == nil {
			x.snapshots++
		}
		if err := w.end(err == nil); err != nil {
			return err
		}
	}
	x.c.wants = append(x.c.wants[:i:i], x.c.wants[i+1:]...)
	return nil
}

// change proposes some next configuration.
func (x *randomRun) change(r *testReplica) error {
	conf := r.g.Conf()
	to := Conf{Voters: conf.Voters, Learners: conf.Learners}
	switch n := x.rng.IntN(4); {
	case !r.g.IsLeader():
		return nil
	case conf.Joint():
	case len(conf.Learners) == 0 || n == 0 && len(conf.Voters)+len(conf.Learners) < 6:
		to.Learners = append(slices.Clone(to.Learners), metapb.ReplicaID(len(x.c.replicas)+1))
	case n == 1:
		to.Learners = to.Learners[1:]
	default:
		to.VotersOutgoing = to.Voters
		to.Voters = append(slices.Clone(to.Voters), to.Learners[0])
		to.Learners = to.Learners[1:]
		if i := x.rng.IntN(len(to.Voters)); len(to.Voters) > 3 && to.Voters[i] != r.id {
			to.Voters = slices.Delete(to.Voters, i, i+1)
		}
	}
	x.number++
	_, _, err := r.g.ProposeConf(to, []byte(fmt.Sprint("conf", x.number)))
	if errors.Is(err, ErrDropped) {
		return nil
	}
	if n := len(to.Learners); err == nil && n > 0 && int(to.Learners[n-1]) > len(x.c.replicas) {
		x.c.add()
	}
	return err
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
		if round == 200 {
			return errors.New("the replicas do not come together")
		}
		r := x.c.replicas[round%len(x.c.replicas)]
		if r.g == nil {
			continue
		}
		if err := r.g.Campaign(); err != nil && !errors.Is(err, ErrCannotCampaign) {
			return err
		}
		if err := x.c.settle(); err != nil {
			return err
		}
		for range 6 {
			if err := r.g.Tick(); err != nil {
				return err
			}
			if err := x.c.settle(); err != nil {
				return err
			}
			if err := x.allSnapshots(); err != nil {
				return err
			}
		}
		if r.g.IsLeader() && x.level(r.g) {
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

// allSnapshots brings up everybody that a leader wants to.
func (x *randomRun) allSnapshots() error {
	for len(x.c.wants) > 0 {
		w := &x.c.wants[0]
		if w.leader.g == w.group {
			if !w.taken {
				if err := x.c.take(w); err != nil {
					return err
				}
			}
			if err := w.end(x.c.install(w) == nil); err != nil {
				return err
			}
		}
		x.c.wants = x.c.wants[1:]
	}
	return x.c.settle()
}

// level reports whether all that count for a leader have what it has.
func (x *randomRun) level(leader *Group) bool {
	for _, r := range x.c.replicas {
		if leader.Conf().Has(r.id) && (r.g == nil || r.g.AppliedIndex() != leader.LastIndex()) {
			return false
		}
	}
	return true
}
