package mvcc

import (
	"encoding/binary"
	"math/rand"
	"slices"
	"testing"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/internal/invariant"
	"github.com/flotilladb/flotilla/internal/keys"
)

// The engine's filters by revision hide blocks and its compactions drop rows:
// what is read, windowed, counted and removed must be the same with them, and
// whichever way suffixes were written.
func TestOnPebble(t *testing.T) {
	for seed := range int64(6) {
		rng := rand.New(rand.NewSource(seed))
		w := newWorld(t)
		eng := openPebble(t)
		w.eng = eng
		g := &generator{rng: rng}
		var want []Version // what should be stored
		from := Revision(0)
		for range 8 {
			for range 60 {
				g.rev = int64(w.rev)
				if req := g.write(); Validate(req, 128) == nil {
					_, _ = w.do(req)
				}
			}
			if seed >= 4 && !invariant.Enabled { // in an older folder; Pebble's own checks are stricter
				lengthen(t, rng, eng)
			}
			switch rng.Intn(3) {
			case 0:
				must(t, eng.Flush())
			case 1:
				must(t, eng.Flush())
				span := keys.VersionSpan(nil, nil)
				must(t, eng.Compact(t.Context(), engine.Span(span)))
			}
			to := max(w.rev-Revision(rng.Intn(30)), from)
			w.collect(from, to, CollectBudget{RowsMax: 1 + rng.Intn(20)})
			want = leaves(w.versions, to)
			slices.SortFunc(want, func(a, b Version) int { return compareVersions(&a, &b) })
			if got := w.stored(); !slices.EqualFunc(got, want, sameVersion) {
				t.Fatalf("seed %d, collect (%d, %d]:\ngot  %v\nwant %v", seed, from, to, got, want)
			}
			checkWindow(t, w, to, to+Revision(rng.Intn(int(w.rev-to)+1)))
			at := to + Revision(rng.Intn(int(w.rev-to)+1))
			page, err := ReadPage(eng, nil, nil, at, PageOptions{})
			must(t, err)
			checkRows(t, "page", rowsOf(page.KVs), w.live(nil, nil, at))
			n, err := NewCountIndex(nil, nil).Count(eng, nil, nil, at)
			if err != nil || int(n) != len(page.KVs) {
				t.Fatalf("count %d, %v, want %d", n, err, len(page.KVs))
			}
			for _, row := range w.live(nil, nil, at) {
				kv, err := Get(eng, row.Key, at)
				if err != nil || kv == nil || kv.ModRevision != row.ModRevision {
					t.Fatalf("get %q at %d: %v, %v", row.Key, at, kv, err)
				}
			}
			from = to
		}
	}
}

// checkWindow compares a window of the history with the list of all versions.
func checkWindow(t *testing.T, w *world, from, to Revision) {
	t.Helper()
	win, err := History(w.eng, HistoryOptions{From: from, To: to, BytesMax: 1 << 30})
	must(t, err)
	var want []Version
	for _, v := range w.versions {
		if v.Revision > from && v.Revision <= to {
			want = append(want, v)
		}
	}
	if !slices.EqualFunc(win.Versions, want, sameVersion) || win.Through != to {
		t.Fatalf("(%d, %d]:\ngot  %v\nwant %v", from, to, win.Versions, want)
	}
}

// lengthen writes about half of the rows again as they were written once, with
// sub-revisions where these are zero.
func lengthen(t *testing.T, rng *rand.Rand, eng engine.Engine) {
	t.Helper()
	it, err := eng.NewIter(engine.IterOptions{})
	must(t, err)
	b := eng.NewBatch()
	for ok := it.First(); ok; ok = it.Next() {
		user, rev, sub, err := keys.DecodeVersion(it.Key())
		if err != nil || sub != 0 || rng.Intn(2) == 0 {
			continue
		}
		value, err := it.Value()
		must(t, err)
		key := binary.BigEndian.AppendUint64(keys.UserPrefix(user), uint64(rev))
		b.Set(append(key, 0, 0, 0, 0, 13), value)
	}
	must(t, it.Close())
	must(t, eng.Commit(b, false))
	must(t, b.Close())
}
