package ranges

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/raftgroup"
)

// writeReplicas writes ranges of which some were removed and some have no log.
func writeReplicas(t *testing.T, rng *rand.Rand) (eng *engine.Mem, there []*metapb.Descriptor) {
	t.Helper()
	eng = engine.NewMem()
	b := eng.NewBatch()
	b.Set(keys.StoreIdent(), []byte("before all"))
	b.Set(keys.Row(keys.System("x")), []byte("behind all"))
	for id := metapb.RangeID(1); id < 40; id++ {
		switch rng.IntN(4) {
		case 0:
			continue
		case 1:
			b.Set(keys.Tombstone(id), []byte{7})
			continue
		}
		d := &metapb.Descriptor{
			RangeId: uint64(id), Start: fmt.Appendf(nil, "%03d", id), End: fmt.Appendf(nil, "%03d", id+1),
			Generation: 1, NextReplicaId: 2, Replicas: []*metapb.Replica{{ReplicaId: 1, StoreId: 1, NodeId: 1}},
		}
		if err := Bootstrap(b, d, Revision(rng.IntN(100))); err != nil {
			t.Fatal(err)
		}
		there = append(there, d)
	}
	if err := eng.Commit(b, true); err != nil {
		t.Fatal(err)
	}
	for _, d := range there {
		grow(t, rng, eng, d.ID())
	}
	return eng, there
}

// grow gives a group a log, of which some is cut.
func grow(t *testing.T, rng *rand.Rand, eng *engine.Mem, id metapb.RangeID) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	g, err := raftgroup.New(raftgroup.Config{RangeID: id, ReplicaID: 1, AppliedIndex: raftgroup.InitialIndex}, eng)
	must(err)
	must(g.Campaign())
	for range rng.IntN(5) {
		for g.HasReady() {
			b := eng.NewBatch()
			rd, err := g.Ready(b)
			must(err)
			must(eng.Commit(b, true))
			must(g.Synced(rd.Token))
			if n := len(rd.Committed); n > 0 {
				must(g.Applied(rd.Committed[n-1].Index))
			}
		}
		if g.IsLeader() {
			_, _, err := g.Propose(make([]byte, 1+rng.IntN(1000)))
			must(err)
		}
	}
	if rng.IntN(2) == 0 {
		b := eng.NewBatch()
		must(g.Truncate(b, g.AppliedIndex()))
		must(eng.Commit(b, true))
	}
}

// A loader shows what the engine does, replica by replica, and leaves nobody out.
func TestLoaderShowsWhatTheEngineHas(t *testing.T) {
	for seed := range uint64(50) {
		rng := rand.New(rand.NewPCG(seed, 1))
		eng, there := writeReplicas(t, rng)
		l, err := newLoader(eng)
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range there {
			d, err := l.next()
			if err != nil || d == nil || d.RangeId != want.RangeId || string(d.End) != string(want.End) {
				t.Fatalf("seed %d: loader is at %v (%v), not at %v", seed, d, err, want)
			}
			if _, kind, _, err := keys.DecodeLocal(l.it.Key()); kind != keys.LocalConfState || err != nil {
				t.Fatalf("seed %d, range %d: the loader reads on to a row of kind %d (%v)", seed, d.RangeId, kind, err)
			}
			st, err := raftgroup.ReadState(eng, d.ID())
			got, gotErr := raftgroup.ReadState(l, d.ID())
			if err != nil || gotErr != nil || !reflect.DeepEqual(got, st) {
				t.Fatalf("seed %d, range %d: state is %+v (%v), the engine's %+v (%v)", seed, d.RangeId, got, gotErr, st, err)
			}
			for range 20 {
				sameRow(t, rng, eng, l)
			}
			sameWalk(t, rng, eng, l, keys.LocalSpan(d.ID()))
		}
		if d, err := l.next(); d != nil || err != nil {
			t.Fatalf("seed %d: there is one more: %v, %v", seed, d, err)
		}
		if err := l.close(); err != nil {
			t.Fatal(err)
		}
	}
}

// sameRow compares a row, of the replica or another, there or not.
func sameRow(t *testing.T, rng *rand.Rand, eng *engine.Mem, l *loader) {
	t.Helper()
	id := metapb.RangeID(max(1, int(l.at)+rng.IntN(3)-1))
	all := [][]byte{
		keys.RaftHardState(id), keys.AppliedState(id), keys.Descriptor(id), keys.Condemned(id), keys.Tombstone(id),
		keys.RaftLog(id, raftgroup.InitialIndex+1), keys.StoreIdent(), keys.Row(keys.System("x")),
	}
	key := all[rng.IntN(len(all))]
	want, wantErr := getRow(eng, key)
	got, err := getRow(l, key)
	if string(got) != string(want) || !errors.Is(err, wantErr) {
		t.Fatalf("%s is %x (%v), the engine's %x (%v)", keys.Format(key), got, err, want, wantErr)
	}
}

func getRow(r engine.Reader, key []byte) ([]byte, error) {
	row, closer, err := r.Get(key)
	if err != nil {
		return nil, err
	}
	defer closer.Close()
	return append([]byte(nil), row...), nil
}

// sameWalk goes through a part of a span with the loader's iterator and the engine's.
func sameWalk(t *testing.T, rng *rand.Rand, eng *engine.Mem, l *loader, span keys.Span) {
	t.Helper()
	marks := [][]byte{span.Start, keys.AppliedState(l.at), keys.RaftLog(l.at, 12), keys.RaftLogSpan(l.at, 0, 0).End, span.End}
	lo := rng.IntN(len(marks) - 1)
	hi := lo + 1 + rng.IntN(len(marks)-1-lo)
	opts := engine.IterOptions{Lower: marks[lo], Upper: marks[hi]}
	a, err := eng.NewIter(opts)
	if err != nil {
		t.Fatal(err)
	}
	b, err := l.NewIter(opts)
	if err != nil {
		t.Fatal(err)
	}
	if _, lent := b.(*lentIter); !lent {
		t.Fatalf("the loader opens an iterator of its own over [%s, %s)", keys.Format(opts.Lower), keys.Format(opts.Upper))
	}
	moves := []func(it engine.Iterator) bool{
		engine.Iterator.First, engine.Iterator.Last,
		func(it engine.Iterator) bool { return it.SeekGE(marks[lo]) },
		func(it engine.Iterator) bool { return it.SeekLT(span.End) },
	}
	steps := []func(it engine.Iterator) bool{engine.Iterator.Next, engine.Iterator.Prev, engine.Iterator.NextPrefix}
	for range 20 {
		from := moves
		if a.Valid() {
			from = append(steps, moves...)
		}
		move := from[rng.IntN(len(from))]
		was, is := move(a), move(b)
		if was != is || was != a.Valid() || is != b.Valid() || was && string(a.Key()) != string(b.Key()) {
			t.Fatalf("range %d: the loader's iterator is elsewhere than the engine's", l.at)
		}
	}
	if err := errors.Join(a.Close(), b.Close()); err != nil {
		t.Fatal(err)
	}
}
