package raftgroup

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"testing"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/proto/metapb"
)

// solo is a group with one voter on an engine of its own, driven as an owner
// would, with every sync done at once unless held.
type solo struct {
	t       *testing.T
	eng     *engine.Mem
	g       *Group
	applied []Entry
	syncs   int
}

func newSolo(t *testing.T, cfg Config) *solo {
	t.Helper()
	s := &solo{t: t, eng: engine.NewMem()}
	b := s.eng.NewBatch()
	if err := Bootstrap(b, 7, []metapb.ReplicaID{1}); err != nil {
		t.Fatal(err)
	}
	s.commit(b)
	cfg.RangeID, cfg.ReplicaID, cfg.AppliedIndex = 7, 1, InitialIndex
	s.open(cfg)
	return s
}

func (s *solo) open(cfg Config) {
	s.t.Helper()
	g, err := New(cfg, s.eng)
	if err != nil {
		s.t.Fatal(err)
	}
	s.g = g
}

func (s *solo) commit(b engine.Batch) {
	s.t.Helper()
	if err := s.eng.Commit(b, true); err != nil {
		s.t.Fatal(err)
	}
}

// run drives the group until it has nothing to do.
func (s *solo) run() {
	s.t.Helper()
	for s.g.HasReady() {
		b := s.eng.NewBatch()
		rd, err := s.g.Ready(b)
		if err != nil {
			s.t.Fatal(err)
		}
		if rd.Token != 0 {
			s.syncs++
			s.commit(b)
			s.must(s.g.Synced(rd.Token))
		}
		for _, e := range rd.Committed {
			s.applied = append(s.applied, e)
			s.must(s.g.Applied(e.Index))
		}
	}
}

func (s *solo) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *solo) propose(data string) uint64 {
	s.t.Helper()
	index, term, err := s.g.Propose([]byte(data))
	s.must(err)
	if term != s.g.Term() || index != s.g.LastIndex() {
		s.t.Fatalf("proposed at %d/%d, group is at %d/%d", term, index, s.g.Term(), s.g.LastIndex())
	}
	return index
}

func TestSingleVoterElectsItself(t *testing.T) {
	s := newSolo(t, Config{})
	if _, _, err := s.g.Propose([]byte("early")); !errors.Is(err, ErrNotLeader) {
		t.Fatalf("proposal to a follower: %v", err)
	}
	s.must(s.g.Campaign())
	s.run()
	if !s.g.IsLeader() || s.g.Leader() != 1 || s.g.Term() != InitialTerm+1 {
		t.Fatalf("leader %d in term %d", s.g.Leader(), s.g.Term())
	}
	// The vote, then the mark of the term.
	if s.syncs != 2 {
		t.Fatalf("election took %d syncs", s.syncs)
	}
	s.syncs = 0
	index := s.propose("x")
	s.run()
	if s.syncs != 1 {
		t.Fatalf("a proposal took %d syncs", s.syncs)
	}
	last := s.applied[len(s.applied)-1]
	if last.Index != index || last.Term != s.g.Term() || string(last.Data) != "x" {
		t.Fatalf("applied %+v", last)
	}
	if s.g.CommittedIndex() != index || s.g.AppliedIndex() != index || s.g.LastIndex() != index {
		t.Fatalf("committed %d applied %d last %d", s.g.CommittedIndex(), s.g.AppliedIndex(), s.g.LastIndex())
	}
}

func TestNothingIsCommittedBeforeTheSync(t *testing.T) {
	s := newSolo(t, Config{})
	s.must(s.g.Campaign())
	s.run()
	var tokens []Token
	for i := range 3 {
		s.propose(fmt.Sprint(i))
		b := s.eng.NewBatch()
		rd, err := s.g.Ready(b)
		s.must(err)
		s.commit(b)
		if rd.Token == 0 || len(rd.Committed) != 0 || s.g.HasReady() {
			t.Fatalf("before the sync: %+v", rd)
		}
		tokens = append(tokens, rd.Token)
	}
	// A sync covers what came before it: the last token releases all three.
	s.must(s.g.Synced(tokens[1]))
	rd, err := s.g.Ready(s.eng.NewBatch())
	s.must(err)
	if len(rd.Committed) != 2 {
		t.Fatalf("two of three are durable, committed %d", len(rd.Committed))
	}
	s.must(s.g.Applied(rd.Committed[1].Index))
	s.must(s.g.Synced(tokens[2]))
	s.run()
	if got := s.applied[len(s.applied)-1]; string(got.Data) != "2" {
		t.Fatalf("applied %+v", got)
	}
}

func TestRestartReappliesWhatFollows(t *testing.T) {
	s := newSolo(t, Config{})
	s.must(s.g.Campaign())
	s.run()
	var at uint64
	for i := range 20 {
		index := s.propose(fmt.Sprint(i))
		if i == 12 {
			at = index
		}
		s.run()
	}
	bytesBefore, lastBefore := s.g.LogBytes(), s.g.LastIndex()
	s.applied = nil
	s.open(Config{RangeID: 7, ReplicaID: 1, AppliedIndex: at})
	if s.g.LogBytes() != bytesBefore || s.g.LastIndex() != lastBefore {
		t.Fatalf("log of %d bytes to %d, was %d to %d", s.g.LogBytes(), s.g.LastIndex(), bytesBefore, lastBefore)
	}
	s.must(s.g.Campaign())
	s.run()
	if len(s.applied) != 8 || string(s.applied[0].Data) != "13" || string(s.applied[6].Data) != "19" || len(s.applied[7].Data) != 0 {
		t.Fatalf("applied again: %v", s.applied)
	}
}

func TestCommittedEntriesComeFromMemory(t *testing.T) {
	s := newSolo(t, Config{})
	reads := &countingReader{Reader: s.eng}
	g, err := New(Config{RangeID: 7, ReplicaID: 1, AppliedIndex: InitialIndex}, reads)
	s.must(err)
	s.g = g
	reads.n = 0
	s.must(s.g.Campaign())
	s.run()
	for range 50 {
		s.propose("data")
		s.run()
	}
	// Nor need it be read where a log is cut that is short.
	cut, err := s.g.CutIndex(1 << 20)
	s.must(err)
	if reads.n != 0 || cut != s.g.FirstIndex()-1 {
		t.Fatalf("%d reads of the engine, cut at %d of a log from %d", reads.n, cut, s.g.FirstIndex())
	}
	if s.g.CacheBytes() != 0 {
		t.Fatalf("a group without peers keeps %d bytes of applied entries", s.g.CacheBytes())
	}
}

type countingReader struct {
	engine.Reader
	n int
}

func (r *countingReader) NewIter(o engine.IterOptions) (engine.Iterator, error) {
	r.n++
	return r.Reader.NewIter(o)
}

func (r *countingReader) Get(key []byte) ([]byte, io.Closer, error) {
	r.n++
	return r.Reader.Get(key)
}

func TestTruncate(t *testing.T) {
	s := newSolo(t, Config{})
	s.must(s.g.Campaign())
	s.run()
	data := bytes.Repeat([]byte("x"), 1000)
	for range 100 {
		s.propose(string(data))
		s.run()
	}
	b := s.eng.NewBatch()
	if err := s.g.Truncate(b, s.g.AppliedIndex()+1); !errors.Is(err, ErrNotApplied) {
		t.Fatalf("cut above applied: %v", err)
	}
	cut, err := s.g.CutIndex(10_500)
	s.must(err)
	s.must(s.g.Truncate(b, cut))
	s.commit(b)
	if got := s.g.LogBytes(); got > 10_500 || got < 9_000 {
		t.Fatalf("kept %d bytes", got)
	}
	if got := rowBytes(t, s.eng); got != s.g.LogBytes() {
		t.Fatalf("rows have %d bytes, LogBytes says %d", got, s.g.LogBytes())
	}
	before := s.g.LogBytes()
	s.open(Config{RangeID: 7, ReplicaID: 1, AppliedIndex: s.g.AppliedIndex()})
	if s.g.FirstIndex() != cut+1 || s.g.LogBytes() != before {
		t.Fatalf("after restart: first %d, %d bytes", s.g.FirstIndex(), s.g.LogBytes())
	}
	s.must(s.g.Campaign())
	s.run()
	// Cutting everything leaves an empty log that starts again.
	b = s.eng.NewBatch()
	s.must(s.g.Truncate(b, s.g.AppliedIndex()))
	s.commit(b)
	if s.g.LogBytes() != 0 {
		t.Fatalf("empty log has %d bytes", s.g.LogBytes())
	}
	s.open(Config{RangeID: 7, ReplicaID: 1, AppliedIndex: s.g.AppliedIndex()})
	s.must(s.g.Campaign())
	s.run()
	s.propose("again")
	s.run()
	if got := s.applied[len(s.applied)-1]; string(got.Data) != "again" {
		t.Fatalf("applied %+v", got)
	}
}

// rowBytes adds up keys and values of the log's rows, the slow way.
func rowBytes(t *testing.T, r engine.Reader) (n uint64) {
	t.Helper()
	err := ReadLog(r, 7, 0, func(row LogRow) error {
		n += uint64(len(keys.RaftLog(7, row.Index)) + row.RowBytes)
		return row.Err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestDamagedEntryStopsTheGroup(t *testing.T) {
	for _, tc := range []struct {
		name   string
		damage func(b engine.Batch, key, row []byte)
		reason string
	}{
		{"flipped bit", func(b engine.Batch, key, row []byte) {
			row[len(row)-1] ^= 1
			b.Set(key, row)
		}, "checksum"},
		{"missing", func(b engine.Batch, key, _ []byte) { b.Delete(key) }, "missing"},
		{"of another index", func(b engine.Batch, key, _ []byte) {
			b.Set(key, entryRow(keys.RaftLog(7, 99), "from elsewhere"))
		}, "checksum"},
		{"newer format", func(b engine.Batch, key, row []byte) {
			row[0] = 9
			b.Set(key, row)
		}, "unknown row format 9"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newSolo(t, Config{})
			s.must(s.g.Campaign())
			s.run()
			index := s.propose("first")
			s.run()
			s.propose("second")
			s.run()
			key := keys.RaftLog(7, index)
			row, closer, err := s.eng.Get(key)
			s.must(err)
			row = bytes.Clone(row)
			s.must(closer.Close())
			b := s.eng.NewBatch()
			tc.damage(b, key, row)
			s.commit(b)

			s.open(Config{RangeID: 7, ReplicaID: 1, AppliedIndex: index - 1})
			err = s.g.Campaign()
			for err == nil && s.g.HasReady() {
				b := s.eng.NewBatch()
				var rd Ready
				if rd, err = s.g.Ready(b); err == nil {
					s.commit(b)
					err = s.g.Synced(rd.Token)
				}
			}
			var corrupt *CorruptionError
			if !errors.As(err, &corrupt) || corrupt.RangeID != 7 || corrupt.Index != index || !errors.Is(err, ErrCorrupt) {
				t.Fatalf("got %v", err)
			}
			if !bytes.Contains([]byte(err.Error()), []byte(tc.reason)) {
				t.Fatalf("%v does not say %q", err, tc.reason)
			}
			if _, _, again := s.g.Propose([]byte("x")); !errors.Is(again, ErrCorrupt) || s.g.HasReady() {
				t.Fatalf("the group goes on: %v", again)
			}
		})
	}
}

func TestNewRefuses(t *testing.T) {
	eng := engine.NewMem()
	if _, err := New(Config{RangeID: 7, ReplicaID: 1}, eng); !errors.Is(err, ErrNoGroup) {
		t.Errorf("empty engine: %v", err)
	}
	for _, cfg := range []Config{
		{ReplicaID: 1},
		{RangeID: 7},
		{RangeID: 7, ReplicaID: ^metapb.ReplicaID(0)},
		{RangeID: 7, ReplicaID: 1, InflightMessagesMax: -1},
		{RangeID: 7, ReplicaID: 1, InflightBytesMax: 1},
	} {
		if _, err := New(cfg, eng); err == nil || errors.Is(err, ErrNoGroup) {
			t.Errorf("config %+v: %v", cfg, err)
		}
	}
	s := newSolo(t, Config{})
	for _, applied := range []uint64{InitialIndex - 1, InitialIndex + 1} {
		if _, err := New(Config{RangeID: 7, ReplicaID: 1, AppliedIndex: applied}, s.eng); !errors.Is(err, ErrCorrupt) {
			t.Errorf("applied to %d: %v", applied, err)
		}
	}
	b := s.eng.NewBatch()
	b.Delete(keys.RaftConfState(7))
	s.commit(b)
	if _, err := New(Config{RangeID: 7, ReplicaID: 1, AppliedIndex: InitialIndex}, s.eng); !errors.Is(err, ErrCorrupt) {
		t.Errorf("half a state: %v", err)
	}
}

func entryRow(key []byte, data string) []byte {
	n, end := entryRowLen(len(key), 6, 100, []byte(data))
	row := make([]byte, n)
	putEntryRow(key, row, raftpb.EntryNormal, 6, end, []byte(data))
	return row
}
