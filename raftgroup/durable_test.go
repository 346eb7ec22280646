package raftgroup

import (
	"bytes"
	"strings"
	"testing"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/proto/metapb"
)

// single returns replica 1 of three, whose peers are messages of the test.
func single(t *testing.T) (*cluster, *testReplica) {
	t.Helper()
	c, err := newCluster(3)
	if err != nil {
		t.Fatal(err)
	}
	return c, c.at(1)
}

// stepAll gives r the messages, syncs and returns what it answers.
func stepAll(t *testing.T, c *cluster, r *testReplica, ms ...*Message) []*Message {
	t.Helper()
	c.net = nil
	for _, m := range ms {
		if err := r.g.Step(m); err != nil {
			t.Fatal(err)
		}
	}
	for r.g.HasReady() {
		if _, err := c.ready(r); err != nil {
			t.Fatal(err)
		}
		if err := c.sync(r); err != nil {
			t.Fatal(err)
		}
	}
	return c.net
}

func voteRequest(from, term, logTerm, index uint64) *Message {
	return &Message{Type: raftpb.MsgVote.Enum(), To: new(uint64(1)), From: new(from),
		Term: new(term), LogTerm: new(logTerm), Index: new(index)}
}

func appendRequest(from, term, prevTerm, prev uint64, terms ...uint64) *Message {
	m := &Message{Type: raftpb.MsgApp.Enum(), To: new(uint64(1)), From: new(from),
		Term: new(term), LogTerm: new(prevTerm), Index: new(prev), Commit: new(uint64(InitialIndex))}
	for i, entryTerm := range terms {
		m.Entries = append(m.Entries, newEntry(prev+1+uint64(i), entryTerm, raftpb.EntryNormal, bytes.Repeat([]byte("x"), 50)))
	}
	return m
}

// TestAVoteSurvivesACrash: the replica learns of the term by a request that it
// refuses, so that only its vote changes with the second. A third candidate of
// the term, after a crash, must not get another one.
func TestAVoteSurvivesACrash(t *testing.T) {
	c, r := single(t)
	got := stepAll(t, c, r, voteRequest(2, 6, InitialTerm-1, InitialIndex))
	if len(got) != 1 || !got[0].GetReject() {
		t.Fatalf("a candidate with an old log got %v", got)
	}
	got = stepAll(t, c, r, voteRequest(3, 6, InitialTerm, InitialIndex))
	if len(got) != 1 || got[0].GetReject() || got[0].GetTo() != 3 {
		t.Fatalf("the good candidate got %v", got)
	}
	c.crash(r, func(int) int { return 0 })
	if err := c.start(r); err != nil {
		t.Fatal(err)
	}
	got = stepAll(t, c, r, voteRequest(2, 6, InitialTerm, InitialIndex+5))
	if len(got) != 1 || !got[0].GetReject() {
		t.Fatalf("two candidates of a term got the vote: %v", got)
	}
}

// TestEntriesAreReadOnlyFromCommittedBatches: an owner may build the next batch
// before it commits the last one. What is in it cannot be read from the engine,
// and must stay in memory although the bound is far exceeded.
func TestEntriesAreReadOnlyFromCommittedBatches(t *testing.T) {
	c, r := single(t)
	write := func(m *Message) (engine.Batch, Token) {
		t.Helper()
		if err := r.g.Step(m); err != nil {
			t.Fatal(err)
		}
		b := r.eng.NewBatch()
		rd, err := r.g.Ready(b)
		if err != nil || rd.Token == 0 {
			t.Fatalf("ready: %+v, %v", rd, err)
		}
		return b, rd.Token
	}
	readable := func(lo, hi, term uint64) {
		t.Helper()
		ents, err := r.g.log.Entries(lo, hi, 1<<20)
		if err != nil || uint64(len(ents)) != hi-lo {
			t.Fatalf("entries [%d, %d): %d, %v", lo, hi, len(ents), err)
		}
		for _, e := range ents {
			if e.GetTerm() != term {
				t.Fatalf("entry %d is of term %d, want %d", e.GetIndex(), e.GetTerm(), term)
			}
		}
	}
	b1, t1 := write(appendRequest(2, 6, InitialTerm, InitialIndex, 6, 6, 6, 6, 6, 6, 6, 6)) // 11..18
	b2, t2 := write(appendRequest(2, 6, 6, 18, 6, 6, 6, 6))                                 // 19..22
	commit := func(b engine.Batch, token Token) {
		t.Helper()
		if err := r.eng.Commit(b, true); err != nil {
			t.Fatal(err)
		}
		if err := r.g.Synced(token); err != nil {
			t.Fatal(err)
		}
	}
	commit(b1, t1)
	readable(11, 23, 6)
	// A new leader replaces 15 and above while the first append of the tail is
	// still to be committed.
	b3, t3 := write(appendRequest(3, 7, 6, 14, 7, 7, 7, 7, 7, 7)) // 15..20
	commit(b2, t2)
	readable(15, 21, 7)
	commit(b3, t3)
	readable(11, 15, 6)
	readable(15, 21, 7)
	if r.g.CacheBytes() > 200 {
		t.Fatalf("cache of %d bytes when all is durable", r.g.CacheBytes())
	}
	if err := c.checkLogs(); err != nil {
		t.Fatal(err)
	}
}

// TestAnswersWaitForEarlierWrites: a message that needs no write of its own may
// still depend on one that is under way.
func TestAnswersWaitForEarlierWrites(t *testing.T) {
	_, r := single(t)
	step := func(m *Message) Ready {
		t.Helper()
		if err := r.g.Step(m); err != nil {
			t.Fatal(err)
		}
		b := r.eng.NewBatch()
		rd, err := r.g.Ready(b)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.eng.Commit(b, false); err != nil {
			t.Fatal(err)
		}
		return rd
	}
	first := step(appendRequest(2, 6, InitialTerm, InitialIndex, 6))
	again := step(appendRequest(2, 6, InitialTerm, InitialIndex, 6)) // the same, repeated
	if first.Token == 0 || again.Token != 0 || len(again.Messages) != 0 || r.g.HasReady() {
		t.Fatalf("before the sync: %+v, then %+v", first, again)
	}
	if err := r.g.Synced(first.Token); err != nil {
		t.Fatal(err)
	}
	rd, err := r.g.Ready(r.eng.NewBatch())
	if err != nil || len(rd.Messages) != 2 {
		t.Fatalf("after the sync: %v, %v", rd.Messages, err)
	}
}

func TestQuiesceWaitsForTheApply(t *testing.T) {
	s := newSolo(t, Config{})
	s.must(s.g.Campaign())
	s.run()
	live := func(metapb.ReplicaID) bool { return true }
	quiet := func(want bool, when string) {
		t.Helper()
		if _, ok := s.g.Quiesce(live); ok != want {
			t.Fatalf("%s: quiesce = %t", when, ok)
		}
	}
	quiet(true, "idle")
	s.propose("x")
	quiet(false, "proposed")
	b := s.eng.NewBatch()
	rd, err := s.g.Ready(b)
	s.must(err)
	s.commit(b)
	quiet(false, "written")
	s.must(s.g.Synced(rd.Token))
	quiet(false, "durable")
	rd, err = s.g.Ready(s.eng.NewBatch())
	s.must(err)
	quiet(false, "handed out")
	s.must(s.g.Applied(rd.Committed[0].Index))
	quiet(true, "applied")
	if s.g.NeedsTick() {
		t.Fatal("a single voter wants to be ticked")
	}
}

// TestIdleGroupsHoldNoEntries: ten thousand groups may have had a big entry last.
func TestIdleGroupsHoldNoEntries(t *testing.T) {
	s := newSolo(t, Config{})
	s.must(s.g.Campaign())
	s.run()
	s.propose(strings.Repeat("x", 1<<20))
	b := s.eng.NewBatch()
	rd, err := s.g.Ready(b)
	s.must(err)
	s.commit(b)
	s.must(s.g.Synced(rd.Token))
	rd, err = s.g.Ready(s.eng.NewBatch())
	s.must(err)
	s.must(s.g.Applied(rd.Committed[0].Index))
	if s.g.CacheBytes() != 0 || s.g.entries != nil {
		t.Fatalf("holds %d bytes and %d entries", s.g.CacheBytes(), len(s.g.entries))
	}
	if len(rd.Committed[0].Data) != 1<<20 {
		t.Fatal("the caller's slice was emptied under it")
	}

	c, r := single(t)
	if err := r.g.Campaign(); err != nil {
		t.Fatal(err)
	}
	if err := c.settle(); err != nil {
		t.Fatal(err)
	}
	if r.g.CacheBytes() == 0 {
		t.Fatal("a leader of peers keeps nothing to send")
	}
	for range 2 { // the second may confirm what the first brought about
		if err := r.g.Tick(); err != nil {
			t.Fatal(err)
		}
		if err := c.settle(); err != nil {
			t.Fatal(err)
		}
	}
	if _, ok := r.g.Quiesce(func(metapb.ReplicaID) bool { return true }); !ok || r.g.CacheBytes() != 0 {
		t.Fatalf("at rest: %t, %d bytes", ok, r.g.CacheBytes())
	}
}
