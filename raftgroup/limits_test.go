package raftgroup

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/proto/metapb"
)

func TestProposalsAreBounded(t *testing.T) {
	s := newSolo(t, Config{UncommittedBytesMax: 1000})
	s.must(s.g.Campaign())
	s.run()
	taken := 0
	for {
		_, _, err := s.g.Propose(bytes.Repeat([]byte("x"), 300))
		if errors.Is(err, ErrDropped) {
			break
		}
		s.must(err)
		taken++
	}
	if taken != 3 {
		t.Fatalf("took %d proposals of 300 bytes", taken)
	}
	last := s.g.LastIndex()
	s.run()
	if s.g.AppliedIndex() != last {
		t.Fatalf("applied %d of %d", s.g.AppliedIndex(), last)
	}
	if index := s.propose("room again"); index != last+1 {
		t.Fatalf("a dropped proposal took an index: next is %d, last was %d", index, last)
	}
	s.run()
}

// TestApplyIsBounded holds the applies back and sees that no more comes than
// ApplyBytesMax allows, and that all of it comes in the end.
func TestApplyIsBounded(t *testing.T) {
	s := newSolo(t, Config{ApplyBytesMax: 1000})
	s.must(s.g.Campaign())
	s.run()
	for range 20 {
		s.propose(strings.Repeat("x", 300))
	}
	var waiting []Entry
	for s.g.HasReady() {
		b := s.eng.NewBatch()
		rd, err := s.g.Ready(b)
		s.must(err)
		s.commit(b)
		s.must(s.g.Synced(rd.Token))
		waiting = append(waiting, rd.Committed...)
	}
	if len(waiting) != 3 {
		t.Fatalf("%d entries of 300 bytes were handed out", len(waiting))
	}
	s.must(s.g.Applied(waiting[1].Index))
	if s.g.HasReady() {
		t.Fatal("more to apply before the run was reported whole")
	}
	s.must(s.g.Applied(waiting[2].Index))
	s.run()
	if s.g.AppliedIndex() != s.g.LastIndex() {
		t.Fatalf("applied %d of %d", s.g.AppliedIndex(), s.g.LastIndex())
	}
}

// TestCacheIsBounded lets a follower be far behind: the leader's memory stays
// within its bound, and what the follower misses is read from the engine.
func TestCacheIsBounded(t *testing.T) {
	c, err := newCluster(3)
	if err != nil {
		t.Fatal(err)
	}
	leader, lagging := c.at(1), c.at(3)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(leader.g.Campaign())
	must(c.settle())
	c.crash(lagging, func(int) int { return 0 })
	for range 100 {
		_, _, err := leader.g.Propose(bytes.Repeat([]byte("x"), 50))
		must(err)
		must(c.settle())
		if n := leader.g.CacheBytes(); n > 200 {
			t.Fatalf("cache of %d bytes, the bound is 200", n)
		}
	}
	must(c.start(lagging))
	must(leader.g.Tick())
	must(c.settle())
	if lagging.g.AppliedIndex() != leader.g.LastIndex() {
		t.Fatalf("follower applied %d of %d", lagging.g.AppliedIndex(), leader.g.LastIndex())
	}
}

func TestStepRefusesWhatNoReplicaSends(t *testing.T) {
	s := newSolo(t, Config{})
	s.must(s.g.Campaign())
	s.run()
	last := s.g.LastIndex()
	for _, m := range []*Message{
		{},
		{Type: raftpb.MsgHeartbeat.Enum(), To: new(uint64(2)), From: new(uint64(3))},
		{Type: raftpb.MsgHeartbeat.Enum(), To: new(uint64(1)), From: new(uint64(1))},
		{Type: raftpb.MsgProp.Enum(), To: new(uint64(1)), From: new(uint64(2)), Entries: []*raftpb.Entry{{Data: []byte("x")}}},
		{Type: raftpb.MsgSnap.Enum(), To: new(uint64(1)), From: new(uint64(2)), Term: new(uint64(9))},
		{Type: raftpb.MsgHup.Enum(), To: new(uint64(1)), From: new(uint64(2))},
		{Type: raftpb.MsgStorageAppendResp.Enum(), To: new(uint64(1)), From: new(uint64(2))},
	} {
		if err := s.g.Step(m); !errors.Is(err, ErrBadMessage) {
			t.Errorf("%s: %v", m, err)
		}
	}
	// One that left the range is heard and not heeded.
	s.must(s.g.Step(&Message{Type: raftpb.MsgAppResp.Enum(), To: new(uint64(1)), From: new(uint64(5)), Term: new(s.g.Term()), Index: new(last + 9)}))
	s.run()
	if s.g.LastIndex() != last || !s.g.IsLeader() {
		t.Fatalf("a refused message left its mark: last %d, was %d", s.g.LastIndex(), last)
	}
}

func TestLearnerCannotCampaign(t *testing.T) {
	s := newSolo(t, Config{})
	b := s.eng.NewBatch()
	key, row, err := encodeConfState(7, raftpb.EnsureConfState(&raftpb.ConfState{Voters: []uint64{2}, Learners: []uint64{1}}))
	s.must(err)
	b.Set(key, row)
	s.commit(b)
	s.open(Config{RangeID: 7, ReplicaID: 1, AppliedIndex: InitialIndex})
	if err := s.g.Campaign(); !errors.Is(err, ErrCannotCampaign) {
		t.Fatalf("got %v", err)
	}
}

// TestUnknownEntryTypeStopsTheGroup has an entry in the log that is not of this
// version.
func TestUnknownEntryTypeStopsTheGroup(t *testing.T) {
	s := newSolo(t, Config{})
	b := s.eng.NewBatch()
	k := keys.RaftLog(7, InitialIndex+1)
	n, end := entryRowLen(len(k), InitialTerm, 0, nil)
	row := make([]byte, n)
	putEntryRow(k, row, raftpb.EntryConfChange, InitialTerm, end, nil)
	b.Set(k, row)
	b.Set(encodeHardState(7, hardState{term: InitialTerm, commit: InitialIndex + 1}))
	s.commit(b)
	s.open(Config{RangeID: 7, ReplicaID: 1, AppliedIndex: InitialIndex})
	_, err := s.g.Ready(s.eng.NewBatch())
	if err == nil || !strings.Contains(err.Error(), "entry 11: unknown type") {
		t.Fatalf("got %v", err)
	}
	if again := s.g.Campaign(); again != err {
		t.Fatalf("the group goes on: %v", again)
	}
}

func TestReadStateAndLog(t *testing.T) {
	s := newSolo(t, Config{})
	s.must(s.g.Campaign())
	s.run()
	s.propose("one")
	s.propose("two")
	s.run()
	st, err := ReadState(s.eng, 7)
	s.must(err)
	if st.Term != 6 || st.Vote != 1 || st.TruncatedIndex != 10 || st.TruncatedTerm != 5 ||
		st.LastIndex != 13 || st.LastTerm != 6 || st.LogBytes != s.g.LogBytes() ||
		len(st.Voters) != 1 || st.Voters[0] != metapb.ReplicaID(1) {
		t.Fatalf("%+v", st)
	}
	k := keys.RaftLog(7, 12)
	row := entryRow(k, "one")
	row[len(row)-1]++
	b := s.eng.NewBatch()
	b.Set(k, row)
	s.commit(b)
	var got []string
	s.must(ReadLog(s.eng, 7, 11, func(r LogRow) error {
		if r.Err != nil {
			got = append(got, "damaged")
		} else {
			got = append(got, r.Type.String()+":"+string(r.Data))
		}
		return nil
	}))
	if want := "normal: damaged normal:two"; strings.Join(got, " ") != want {
		t.Fatalf("read %q, want %q", got, want)
	}
	stop := errors.New("stop")
	if err := ReadLog(s.eng, 7, 11, func(LogRow) error { return stop }); err != stop {
		t.Fatalf("got %v", err)
	}
	if _, err := ReadState(s.eng, 8); !errors.Is(err, ErrNoGroup) {
		t.Fatalf("another range: %v", err)
	}
}

func TestLogger(t *testing.T) {
	var out bytes.Buffer
	l := NewLogger(slog.New(slog.NewTextHandler(&out, nil)))
	l.Infof("%d became leader", 1) // a debug line
	l.Warningf("odd %d", 2)
	func() {
		defer func() {
			if p := recover(); p != "broken 3" {
				t.Errorf("panicked with %v", p)
			}
		}()
		l.Panicf("broken %d", 3)
	}()
	got := out.String()
	if strings.Contains(got, "leader") || !strings.Contains(got, "odd 2") || !strings.Contains(got, "broken 3") {
		t.Fatalf("logged %q", got)
	}
}

// Until the snapshot that a replica needs is taken the log goes on, and is cut. It is told what
// follows the snapshot that it gets then, and needs no second one.
func TestOneSnapshotIsEnough(t *testing.T) {
	c, must := mustCluster(t)
	leader, lagging := c.at(1), c.at(3)
	must(leader.g.Campaign())
	must(c.settle())
	c.crash(lagging, func(int) int { return 0 })
	write := func() {
		for range 5 {
			_, _, err := leader.g.Propose([]byte("x"))
			must(err)
			must(c.settle())
		}
		b := leader.eng.NewBatch()
		must(leader.g.Truncate(b, leader.g.AppliedIndex()))
		must(leader.eng.Commit(b, true))
	}
	write()
	must(c.start(lagging))
	must(leader.g.Tick())
	must(c.settle())
	if len(c.wants) != 1 {
		t.Fatalf("%d snapshots are wanted", len(c.wants))
	}
	write()
	w := &c.wants[0]
	must(c.take(w))
	must(c.install(w))
	must(w.end(true))
	c.wants = c.wants[1:]
	must(leader.g.Tick())
	must(c.settle())
	if len(c.wants) != 0 || lagging.g.AppliedIndex() != leader.g.LastIndex() {
		t.Fatalf("%d more are wanted; it has applied %d of %d", len(c.wants), lagging.g.AppliedIndex(), leader.g.LastIndex())
	}
}
