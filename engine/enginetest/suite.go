// Package enginetest is the contract of an engine, as a test that every
// implementation passes.
package enginetest

import (
	"context"
	"fmt"
	"path"
	"testing"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/proto/metapb"
)

// Harness makes engines of the kind under test.
type Harness struct {
	// Open returns an empty engine and a folder for table files. It is closed by
	// the test.
	Open func(t *testing.T) (e engine.Engine, dir string)
	// Crash kills an engine that Open or Crash returned and returns what is found
	// afterwards. It should keep some of what was not synced, by seed.
	Crash func(t *testing.T, e engine.Engine, seed int64) engine.Engine
}

// Run runs the whole contract.
func Run(t *testing.T, h Harness) {
	for _, tc := range []struct {
		name string
		run  func(*testing.T, Harness)
	}{
		{"Get", testGet},
		{"Order", testOrder},
		{"Bounds", testBounds},
		{"SeekPrefixGE", testSeekPrefix},
		{"NextPrefix", testNextPrefix},
		{"BothWays", testBothWays},
		{"LongSuffix", testLongSuffix},
		{"SetDeferred", testSetDeferred},
		{"Batch", testBatch},
		{"DeleteRange", testDeleteRange},
		{"RevisionFilter", testRevisionFilter},
		{"Views", testViews},
		{"IteratorsStandStill", testIteratorsStandStill},
		{"IngestAndExcise", testIngest},
		{"ViewsSurviveExcise", testViewsSurviveExcise},
		{"CommitAsync", testCommitAsync},
		{"Crash", testCrash},
		{"CrashAfterIngest", testCrashAfterIngest},
		{"CrashAroundSnapshot", testCrashAroundSnapshot},
		{"Closed", testClosed},
		{"RandomAgainstModel", testRandom},
	} {
		t.Run(tc.name, func(t *testing.T) { tc.run(t, h) })
	}
}

func ver(key string, rev int64, sub uint32) []byte {
	return keys.Version([]byte(key), metapb.Revision(rev), sub)
}

func bare(key string) []byte { return keys.UserPrefix([]byte(key)) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// set commits key, value, key, value, ... without sync.
func set(t testing.TB, e engine.Engine, kv ...[]byte) {
	t.Helper()
	b := e.NewBatch()
	for i := 0; i < len(kv); i += 2 {
		b.Set(kv[i], kv[i+1])
	}
	must(t, e.Commit(b, false))
	must(t, b.Close())
}

func iter(t testing.TB, r engine.Reader, opts engine.IterOptions) engine.Iterator {
	t.Helper()
	it, err := r.NewIter(opts)
	must(t, err)
	return it
}

// show lists what a walk meets.
func show(t testing.TB, it engine.Iterator, ok bool, next func() bool) string {
	t.Helper()
	out := ""
	for ; ok; ok = next() {
		v, err := it.Value()
		must(t, err)
		out += fmt.Sprintf("%s=%s ", keys.Format(it.Key()), v)
	}
	must(t, it.Error())
	return out
}

// dump lists all rows of a reader.
func dump(t testing.TB, r engine.Reader) string {
	t.Helper()
	it := iter(t, r, engine.IterOptions{})
	defer func() { must(t, it.Close()) }()
	return show(t, it, it.First(), it.Next)
}

func same(t testing.TB, what, got, want string) {
	t.Helper()
	if got != want {
		t.Fatalf("%s:\n got %s\nwant %s", what, got, want)
	}
}

// table writes a table with rows key, value, ... after deleting spans.
func table(t testing.TB, e engine.Engine, dir, name string, dels []engine.Span, kv ...[]byte) string {
	t.Helper()
	p := path.Join(dir, name)
	w, err := e.NewTableWriter(p)
	must(t, err)
	for _, s := range dels {
		must(t, w.DeleteRange(s.Start, s.End))
	}
	for i := 0; i < len(kv); i += 2 {
		must(t, w.Set(kv[i], kv[i+1]))
	}
	must(t, w.Finish())
	return p
}

func ingest(t testing.TB, e engine.Engine, tables []string, span engine.Span) {
	t.Helper()
	must(t, e.IngestAndExcise(context.Background(), tables, span))
}

func b(s string) []byte { return []byte(s) }
