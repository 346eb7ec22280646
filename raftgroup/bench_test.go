package raftgroup

import (
	"bytes"
	"testing"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/proto/metapb"
)

// The benchmarks measure one cycle of a group as its owner sees it: Propose,
// Ready, Synced, Ready, Applied. Commits are not synced, so what is left beside
// raft and this package is the engine's work on the rows.

func benchGroups(b *testing.B, eng engine.Engine, n int) []*Group {
	batch := eng.NewBatch()
	for id := range n {
		if err := Bootstrap(batch, metapb.RangeID(id+1), []metapb.ReplicaID{1}); err != nil {
			b.Fatal(err)
		}
	}
	if err := eng.Commit(batch, false); err != nil {
		b.Fatal(err)
	}
	var groups []*Group
	for id := range n {
		g, err := New(Config{RangeID: metapb.RangeID(id + 1), ReplicaID: 1, AppliedIndex: InitialIndex}, eng)
		if err != nil {
			b.Fatal(err)
		}
		if err := g.Campaign(); err != nil {
			b.Fatal(err)
		}
		groups = append(groups, g)
	}
	tokens := make([]Token, n)
	for range 4 {
		benchRound(b, eng, groups, tokens)
	}
	if !groups[0].IsLeader() {
		b.Fatal("no leader")
	}
	return groups
}

// benchRound does what is to do in all groups: one batch, one commit.
func benchRound(b *testing.B, eng engine.Engine, groups []*Group, tokens []Token) {
	batch := eng.NewBatch()
	for i, g := range groups {
		tokens[i] = 0
		for g.HasReady() {
			rd, err := g.Ready(batch)
			if err != nil {
				b.Fatal(err)
			}
			tokens[i] = max(tokens[i], rd.Token)
			if n := len(rd.Committed); n > 0 {
				if err := g.Applied(rd.Committed[n-1].Index); err != nil {
					b.Fatal(err)
				}
			}
		}
	}
	if err := eng.Commit(batch, false); err != nil {
		b.Fatal(err)
	}
	if err := batch.Close(); err != nil {
		b.Fatal(err)
	}
	for i, g := range groups {
		if tokens[i] != 0 {
			if err := g.Synced(tokens[i]); err != nil {
				b.Fatal(err)
			}
		}
	}
}

// benchCut keeps the log short, as an owner would.
func benchCut(b *testing.B, eng engine.Engine, groups []*Group) {
	batch := eng.NewBatch()
	for _, g := range groups {
		if g.LogBytes() < 16<<20/uint64(len(groups)) {
			continue
		}
		if err := g.Truncate(batch, g.AppliedIndex()); err != nil {
			b.Fatal(err)
		}
	}
	if !batch.Empty() {
		if err := eng.Commit(batch, false); err != nil {
			b.Fatal(err)
		}
	}
	if err := batch.Close(); err != nil {
		b.Fatal(err)
	}
}

func benchCycles(b *testing.B, eng engine.Engine, nGroups, perCycle, size int) {
	groups := benchGroups(b, eng, nGroups)
	tokens := make([]Token, nGroups)
	data := bytes.Repeat([]byte("x"), size)
	b.ReportAllocs()
	b.ResetTimer()
	for i := 0; b.Loop(); i++ {
		for _, g := range groups {
			for range perCycle {
				if _, _, err := g.Propose(data); err != nil {
					b.Fatal(err)
				}
			}
		}
		benchRound(b, eng, groups, tokens) // append
		benchRound(b, eng, groups, tokens) // commit, apply
		if i%64 == 0 {
			benchCut(b, eng, groups)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*nGroups), "ns/cycle")
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*nGroups*perCycle), "ns/entry")
}

func BenchmarkCycle(b *testing.B) {
	for _, bench := range []struct {
		name                   string
		groups, perCycle, size int
	}{
		{"groups=1/entries=1/size=256", 1, 1, 256},
		{"groups=1/entries=100/size=256", 1, 100, 256},
		{"groups=1/entries=1/size=25600", 1, 1, 25600},
		{"groups=64/entries=1/size=256", 64, 1, 256},
	} {
		b.Run("engine=none/"+bench.name, func(b *testing.B) {
			benchCycles(b, &noEngine{Mem: engine.NewMem()}, bench.groups, bench.perCycle, bench.size)
		})
		b.Run("engine=mem/"+bench.name, func(b *testing.B) {
			benchCycles(b, engine.NewMem(), bench.groups, bench.perCycle, bench.size)
		})
		b.Run("engine=pebble/"+bench.name, func(b *testing.B) {
			eng, err := engine.OpenPebble(engine.Config{Dir: b.TempDir()})
			if err != nil {
				b.Fatal(err)
			}
			defer eng.Close()
			benchCycles(b, eng, bench.groups, bench.perCycle, bench.size)
		})
	}
}

// noEngine forgets what is written once it has begun, so that the cost of the
// groups alone is seen.
type noEngine struct {
	*engine.Mem
	begun bool
}

func (e *noEngine) NewBatch() engine.Batch {
	if e.begun {
		return &noBatch{}
	}
	return e.Mem.NewBatch()
}

func (e *noEngine) Commit(b engine.Batch, sync bool) error {
	if e.begun {
		return nil
	}
	e.begun = true // Bootstrap's batch is all that is ever read
	return e.Mem.Commit(b, sync)
}

type noBatch struct {
	buf []byte
	n   int
}

func (b *noBatch) SetDeferred(keyLen, valueLen int) (key, value []byte) {
	if len(b.buf) < keyLen+valueLen {
		b.buf = make([]byte, keyLen+valueLen)
	}
	b.n++
	return b.buf[:keyLen], b.buf[keyLen : keyLen+valueLen]
}
func (b *noBatch) Set(key, value []byte)         { b.n++ }
func (b *noBatch) Delete(key []byte)             { b.n++ }
func (b *noBatch) DeleteRange(start, end []byte) { b.n++ }
func (b *noBatch) Empty() bool                   { return b.n == 0 }
func (b *noBatch) Len() int                      { return b.n }
func (b *noBatch) Count() int                    { return b.n }
func (b *noBatch) Reset()                        { b.n = 0 }
func (b *noBatch) Close() error                  { return nil }
