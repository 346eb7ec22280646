package mvcc

import (
	"bytes"
	"cmp"
	"math/rand"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/proto/txnpb"
)

// world is an engine and, beside it, the slow twin of everything that is read
// from it: the list of all versions.
type world struct {
	t        testing.TB
	eng      engine.Engine
	versions []Version // in order of revision and sub-revision
	rev      Revision
}

func newWorld(t testing.TB) *world { return &world{t: t, eng: engine.NewMem(), rev: 1} }

// apply commits mutations at a known revision.
func (w *world) apply(rev Revision, muts []*txnpb.Mutation) {
	b := w.eng.NewBatch()
	for _, m := range muts {
		AppendMutation(b, rev, m)
		v := Version{Key: m.Key, Revision: rev, Sub: m.Sub, Value: Value{Tombstone: m.Tombstone}}
		if !m.Tombstone {
			v.Value = Value{Create: Revision(m.CreateRevision), Version: m.Version, Lease: m.Lease, Raw: m.Value}
		}
		w.versions = append(w.versions, v)
	}
	must(w.t, w.eng.Commit(b, false))
	w.rev = max(w.rev, rev)
}

// do evaluates a request at the next revision and applies it.
func (w *world) do(req proto.Message) (Result, error) {
	st := NewEngineState(w.eng, nil, nil)
	defer func() { must(w.t, st.Close()) }()
	res, err := Evaluate(st, w.env(), req)
	if err == nil && res.Changed {
		w.apply(w.rev+1, res.Mutations)
	}
	return res, err
}

func (w *world) env() Env {
	return Env{Revision: w.rev + 1, Known: w.rev, Compacted: -1, Lease: leaseState}
}

func leaseState(id int64, _ []byte) LeaseState {
	if id == 1 || id == 2 {
		return LeaseExists
	}
	return LeaseAbsent
}

// live returns the live rows of [start, end) at a revision, the slow way.
func (w *world) live(start, end []byte, at Revision) []Row {
	newest := make(map[string]*Version)
	for i := range w.versions {
		if v := &w.versions[i]; v.Revision <= at {
			newest[string(v.Key)] = v
		}
	}
	var rows []Row
	for _, v := range newest {
		if !v.Tombstone && bytes.Compare(v.Key, start) >= 0 && (len(end) == 0 || bytes.Compare(v.Key, end) < 0) {
			rows = append(rows, rowOf(v.Key, v.Revision, &v.Value))
		}
	}
	slices.SortFunc(rows, func(a, b Row) int { return bytes.Compare(a.Key, b.Key) })
	return rows
}

// stored returns all versions in the engine.
func (w *world) stored() []Version {
	win, err := History(w.eng, HistoryOptions{To: Latest - 1, BytesMax: 1 << 30})
	must(w.t, err)
	return win.Versions
}

func scanAll(t testing.TB, st State, start, end []byte, at Revision) []Row {
	t.Helper()
	var rows []Row
	for {
		err := st.Scan(start, end, at, func(row *Row) bool {
			kept := *row
			kept.Key, kept.Value = bytes.Clone(row.Key), bytes.Clone(row.Value)
			rows = append(rows, kept)
			return true
		})
		pause := PauseOf(err)
		if pause == nil {
			must(t, err)
			return rows
		}
		if bytes.Compare(pause.Key, start) <= 0 {
			t.Fatalf("a scan from %q pauses at %q", start, pause.Key)
		}
		start = pause.Key
	}
}

func sameRow(a, b Row) bool {
	return bytes.Equal(a.Key, b.Key) && bytes.Equal(a.Value, b.Value) && a.CreateRevision == b.CreateRevision &&
		a.ModRevision == b.ModRevision && a.Version == b.Version && a.Lease == b.Lease
}

func checkRows(t testing.TB, what string, got, want []Row) {
	t.Helper()
	if !slices.EqualFunc(got, want, sameRow) {
		t.Fatalf("%s:\ngot  %v\nwant %v", what, got, want)
	}
}

func sameVersion(a, b Version) bool {
	return cmp.Compare(a.Revision, b.Revision) == 0 && a.Sub == b.Sub && a.Tombstone == b.Tombstone &&
		sameRow(rowOf(a.Key, a.Revision, &a.Value), rowOf(b.Key, b.Revision, &b.Value))
}

// randomWorld is a world after n random requests.
func randomWorld(t testing.TB, rng *rand.Rand, n int) *world {
	w := newWorld(t)
	g := &generator{rng: rng}
	for range n {
		g.rev = int64(w.rev)
		if req := g.write(); Validate(req, 128) == nil {
			_, _ = w.do(req)
		}
	}
	return w
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
