package enginetest

import (
	"context"
	"errors"
	"testing"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/internal/keys"
)

func testSetDeferred(t *testing.T, h Harness) {
	e, _ := h.Open(t)
	defer e.Close()
	batch := e.NewBatch()
	k, v := batch.SetDeferred(keys.VersionLen(b("k"), 0), 3)
	keys.AppendVersion(k[:0], b("k"), 7, 0)
	copy(v, "abc")
	batch.Set(ver("l", 1, 0), b("x"))
	must(t, e.Commit(batch, false))
	must(t, batch.Close())
	same(t, "rows", dump(t, e), `"k"@7.0=abc "l"@1.0=x `)
}

// Later operations of a batch win, what the caller does to its bytes afterwards
// does not matter, and a batch can be used again.
func testBatch(t *testing.T, h Harness) {
	e, _ := h.Open(t)
	defer e.Close()
	batch := e.NewBatch()
	if !batch.Empty() || batch.Count() != 0 {
		t.Fatal("a new batch is not empty")
	}
	must(t, e.Commit(batch, true)) // allowed, and makes durable what was before
	batch.Reset()
	key, value := ver("k", 1, 0), b("one")
	batch.Set(key, value)
	key[1], value[0] = 'z', 'z'
	batch.Set(ver("l", 1, 0), b("gone"))
	batch.Delete(ver("l", 1, 0))
	batch.DeleteRange(bare("m"), bare("n"))
	batch.Set(ver("m", 1, 0), b("after"))
	if batch.Empty() || batch.Count() != 5 || batch.Len() < 10 {
		t.Fatalf("count %d, len %d", batch.Count(), batch.Len())
	}
	same(t, "before the commit", dump(t, e), "")
	must(t, e.Commit(batch, true))
	want := `"k"@1.0=one "m"@1.0=after `
	same(t, "after it", dump(t, e), want)
	batch.Reset()
	if !batch.Empty() {
		t.Fatal("not empty after Reset")
	}
	batch.Set(ver("o", 1, 0), b("again"))
	same(t, "the old rows", dump(t, e), want)
	must(t, e.Commit(batch, false))
	must(t, batch.Close())
	same(t, "used again", dump(t, e), want+`"o"@1.0=again `)
}

func testDeleteRange(t *testing.T, h Harness) {
	e, _ := h.Open(t)
	defer e.Close()
	set(t, e, bare("a"), b("0"), ver("a", 5, 0), b("1"), ver("b", 9, 0), b("2"), ver("b", 1, 0), b("3"), bare("c"), b("4"), ver("c", 1, 0), b("5"))
	must(t, e.Flush())
	batch := e.NewBatch()
	batch.DeleteRange(bare("b"), bare("c"))
	must(t, e.Commit(batch, false))
	must(t, batch.Close())
	want := `"a"=0 "a"@5.0=1 "c"=4 "c"@1.0=5 `
	same(t, "rows", dump(t, e), want)
	must(t, e.Flush())
	must(t, e.Compact(context.Background(), engine.Span{}))
	same(t, "after a compaction", dump(t, e), want)
	set(t, e, ver("b", 2, 0), b("new"))
	same(t, "written again", dump(t, e), `"a"=0 "a"@5.0=1 "b"@2.0=new "c"=4 "c"@1.0=5 `)
	if _, err := e.DiskUsage(engine.Span{Start: bare("a")}); err != nil {
		t.Fatal(err)
	}
}

func testViews(t *testing.T, h Harness) {
	e, _ := h.Open(t)
	defer e.Close()
	set(t, e, ver("a", 1, 0), b("1"))
	all := e.NewView(nil)
	part := e.NewView([]engine.Span{keys.VersionSpan(b("x"), nil), keys.VersionSpan(b("a"), b("b"))})
	set(t, e, ver("a", 2, 0), b("2"))
	batch := e.NewBatch()
	batch.Delete(ver("a", 1, 0))
	must(t, e.Commit(batch, false))
	must(t, batch.Close())
	later := e.NewView(nil)
	must(t, e.Flush())
	must(t, e.Compact(context.Background(), engine.Span{}))
	same(t, "all", dump(t, all), `"a"@1.0=1 `)
	same(t, "part", dump(t, part), `"a"@1.0=1 `)
	same(t, "later", dump(t, later), `"a"@2.0=2 `)
	v, c, err := part.Get(ver("a", 1, 0))
	must(t, err)
	same(t, "value", string(v), "1")
	must(t, c.Close())
	if _, _, err := part.Get(ver("a", 2, 0)); !errors.Is(err, engine.ErrNotFound) {
		t.Fatalf("a view shows what came after it: %v", err)
	}
	for _, v := range []engine.View{all, part, later} {
		must(t, v.Close())
	}
}

func testIteratorsStandStill(t *testing.T, h Harness) {
	e, _ := h.Open(t)
	defer e.Close()
	for i := range int64(300) {
		set(t, e, ver("k", i+1, 0), b("v"))
	}
	it := iter(t, e, engine.IterOptions{})
	if !it.First() {
		t.Fatal("no rows")
	}
	batch := e.NewBatch()
	batch.DeleteRange(bare("a"), bare("z"))
	batch.Set(ver("zz", 1, 0), nil)
	must(t, e.Commit(batch, false))
	must(t, batch.Close())
	n := 1
	for it.Next() {
		n++
	}
	if n != 300 {
		t.Fatalf("%d rows", n)
	}
	must(t, it.Close())
	same(t, "now", dump(t, e), `"zz"@1.0= `)
}

func testIngest(t *testing.T, h Harness) {
	e, dir := h.Open(t)
	defer e.Close()
	set(t, e, ver("a", 1, 0), b("old"), ver("b", 1, 0), b("old"), ver("c", 1, 0), b("old"), keys.Row(keys.System("x")), b("old"),
		keys.Row(keys.System("y")), b("old"), keys.RaftHardState(1), b("old"))
	must(t, e.Flush())
	set(t, e, ver("b", 2, 0), b("in memory"))
	user := table(t, e, dir, "user", nil, ver("b", 9, 1), b("new"), ver("b", 9, 0), b("new"), ver("bb", 3, 0), b("new"))
	// Outside of the span the table's own deletions make room.
	rows := table(t, e, dir, "rows", []engine.Span{keys.RowSpan(keys.SystemSpan("x"))}, keys.Row(keys.System("xx")), b("new"))
	local := table(t, e, dir, "local", nil, keys.RaftHardState(1), b("new"))
	ingest(t, e, []string{local, rows, user}, keys.VersionSpan(b("b"), b("c")))
	want := `range/1/hardstate=new row/system:"xx"=new row/system:"y"=old ` +
		`"a"@1.0=old "b"@9.1=new "b"@9.0=new "bb"@3.0=new "c"@1.0=old `
	same(t, "rows", dump(t, e), want)
	must(t, e.Flush())
	must(t, e.Compact(context.Background(), engine.Span{}))
	same(t, "after a compaction", dump(t, e), want)
	ingest(t, e, nil, keys.VersionSpan(b("a"), nil))
	same(t, "excise alone", dump(t, e), `range/1/hardstate=new row/system:"xx"=new row/system:"y"=old `)
	if err := e.IngestAndExcise(context.Background(), []string{dir + "/none"}, keys.VersionSpan(nil, nil)); err == nil {
		t.Fatal("a table that does not exist was ingested")
	}
}

// A view shows its moment although an excise took the rows away, whether they
// were in memory or in tables when it was opened.
func testViewsSurviveExcise(t *testing.T, h Harness) {
	for _, flush := range []bool{false, true} {
		e, dir := h.Open(t)
		set(t, e, ver("a", 1, 0), b("1"), ver("b", 1, 0), b("2"), ver("c", 1, 0), b("3"))
		if flush {
			must(t, e.Flush())
		}
		all, part := e.NewView(nil), e.NewView([]engine.Span{keys.VersionSpan(b("b"), b("c"))})
		it := iter(t, e, engine.IterOptions{})
		new := table(t, e, dir, "t", nil, ver("b", 7, 0), b("new"))
		ingest(t, e, []string{new}, keys.VersionSpan(b("b"), b("c")))
		set(t, e, ver("c", 2, 0), b("4"))
		want := `"a"@1.0=1 "b"@1.0=2 "c"@1.0=3 `
		same(t, "view of all", dump(t, all), want)
		same(t, "iterator", show(t, it, it.First(), it.Next), want)
		only := iter(t, part, engine.IterOptions{Lower: bare("b"), Upper: bare("c")})
		same(t, "view of a part", show(t, only, only.First(), only.Next), `"b"@1.0=2 `)
		same(t, "engine", dump(t, e), `"a"@1.0=1 "b"@7.0=new "c"@2.0=4 "c"@1.0=3 `)
		must(t, only.Close())
		must(t, it.Close())
		must(t, all.Close())
		must(t, part.Close())
		must(t, e.Close())
	}
}

func testClosed(t *testing.T, h Harness) {
	e, _ := h.Open(t)
	batch := e.NewBatch()
	batch.Set(ver("a", 1, 0), nil)
	must(t, e.Close())
	if err := e.Commit(batch, false); !errors.Is(err, engine.ErrClosed) {
		t.Fatalf("commit: %v", err)
	}
	if err := e.CommitAsync(batch, func(error) { t.Error("done was called") }); !errors.Is(err, engine.ErrClosed) {
		t.Fatalf("commit: %v", err)
	}
	if err := e.Close(); !errors.Is(err, engine.ErrClosed) {
		t.Fatalf("close: %v", err)
	}
	_ = e.Stats() // may be asked for at any time
}
