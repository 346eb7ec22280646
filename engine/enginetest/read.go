package enginetest

import (
	"errors"
	"testing"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/internal/keys"
)

func testGet(t *testing.T, h Harness) {
	e, _ := h.Open(t)
	defer e.Close()
	set(t, e, ver("k", 5, 1), b("v"), keys.StoreIdent(), b("me"), ver("e", 5, 0), nil)
	must(t, e.Flush())
	v, c, err := e.Get(ver("k", 5, 1))
	must(t, err)
	same(t, "value", string(v), "v")
	must(t, c.Close())
	v, c, err = e.Get(ver("e", 5, 0))
	must(t, err)
	same(t, "empty value", string(v), "")
	must(t, c.Close())
	for _, k := range [][]byte{ver("k", 5, 0), ver("k", 6, 1), bare("k"), ver("x", 1, 0)} {
		if _, _, err := e.Get(k); !errors.Is(err, engine.ErrNotFound) {
			t.Fatalf("%s: %v", keys.Format(k), err)
		}
	}
}

// Within a key: no version first, then from the newest to the oldest. Keys with
// zero bytes at their end do not mix with versions of shorter keys.
func testOrder(t *testing.T, h Harness) {
	e, _ := h.Open(t)
	defer e.Close()
	want := `range/1/log/7=1 store/ident=2 row/system:"x"=3 "a"=4 "a"@9.1=5 "a"@9.0=6 "a"@2.0=7 ` +
		`"a\x00"@5.0=8 "a\x00\x00"@1.0=9 "a\x01"@3.0=10 "b"@1.0=11 `
	set(t, e,
		ver("a", 2, 0), b("7"), ver("b", 1, 0), b("11"), bare("a"), b("4"), ver("a\x00", 5, 0), b("8"),
		ver("a", 9, 1), b("5"), keys.RaftLog(1, 7), b("1"), ver("a\x01", 3, 0), b("10"),
		keys.StoreIdent(), b("2"), ver("a\x00\x00", 1, 0), b("9"), ver("a", 9, 0), b("6"),
		keys.Row(keys.System("x")), b("3"))
	same(t, "in memory", dump(t, e), want)
	must(t, e.Flush())
	same(t, "from tables", dump(t, e), want)
}

func testBounds(t *testing.T, h Harness) {
	e, _ := h.Open(t)
	defer e.Close()
	set(t, e, ver("a", 2, 0), b("1"), ver("b", 3, 0), b("2"), ver("b", 2, 0), b("3"), ver("c", 1, 0), b("4"))
	it := iter(t, e, engine.IterOptions{Lower: bare("b"), Upper: bare("c")})
	both := `"b"@3.0=2 "b"@2.0=3 `
	same(t, "first", show(t, it, it.First(), it.Next), both)
	same(t, "seek below", show(t, it, it.SeekGE(bare("a")), it.Next), both)
	same(t, "seek inside", show(t, it, it.SeekGE(ver("b", 2, keys.SubMax)), it.Next), `"b"@2.0=3 `)
	same(t, "seek behind", show(t, it, it.SeekGE(bare("c")), it.Next), "")
	same(t, "last", show(t, it, it.Last(), it.Prev), `"b"@2.0=3 "b"@3.0=2 `)
	same(t, "seek lt above", show(t, it, it.SeekLT(bare("d")), it.Prev), `"b"@2.0=3 "b"@3.0=2 `)
	same(t, "seek lt inside", show(t, it, it.SeekLT(ver("b", 2, 0)), it.Prev), `"b"@3.0=2 `)
	same(t, "seek lt below", show(t, it, it.SeekLT(bare("b")), it.Prev), "")
	must(t, it.Close())
	empty := iter(t, e, engine.IterOptions{Lower: bare("bb"), Upper: bare("c")})
	if empty.First() || empty.Last() || empty.Valid() {
		t.Fatal("rows in an empty span")
	}
	must(t, empty.Close())
}

func testSeekPrefix(t *testing.T, h Harness) {
	e, _ := h.Open(t)
	defer e.Close()
	set(t, e, ver("a", 2, 0), b("1"), ver("b", 9, 0), b("2"), ver("b", 4, 0), b("3"), ver("b", 2, 0), b("4"), ver("c", 1, 0), b("5"))
	for _, flush := range []bool{false, true} {
		if flush {
			must(t, e.Flush())
		}
		it := iter(t, e, engine.IterOptions{Point: true})
		same(t, "newest at or below 8", show(t, it, it.SeekPrefixGE(ver("b", 8, keys.SubMax)), it.Next), `"b"@4.0=3 "b"@2.0=4 `)
		same(t, "all of a key", show(t, it, it.SeekPrefixGE(bare("b")), it.Next), `"b"@9.0=2 "b"@4.0=3 "b"@2.0=4 `)
		same(t, "below all versions", show(t, it, it.SeekPrefixGE(ver("b", 1, keys.SubMax)), it.Next), "")
		same(t, "no such key", show(t, it, it.SeekPrefixGE(bare("bb")), it.Next), "")
		same(t, "an ordinary seek after it", show(t, it, it.SeekGE(ver("b", 3, 0)), it.Next), `"b"@2.0=4 "c"@1.0=5 `)
		must(t, it.Close())
	}
}

func testNextPrefix(t *testing.T, h Harness) {
	e, _ := h.Open(t)
	defer e.Close()
	set(t, e, bare("a"), b("0"), ver("a", 3, 0), b("1"), ver("a", 2, 0), b("2"), ver("b", 2, 0), b("3"), ver("c", 2, 0), b("4"), ver("c", 1, 0), b("5"))
	for _, flush := range []bool{false, true} {
		if flush {
			must(t, e.Flush())
		}
		it := iter(t, e, engine.IterOptions{})
		same(t, "newest of each", show(t, it, it.First(), it.NextPrefix), `"a"=0 "b"@2.0=3 "c"@2.0=4 `)
		same(t, "from the middle", show(t, it, it.SeekGE(ver("a", 2, 0)), it.NextPrefix), `"a"@2.0=2 "b"@2.0=3 "c"@2.0=4 `)
		must(t, it.Close())
	}
}

// Steps back and forth meet the same rows, over more rows than any buffer holds.
func testBothWays(t *testing.T, h Harness) {
	e, _ := h.Open(t)
	defer e.Close()
	const n = 700
	batch := e.NewBatch()
	for i := range int64(n) {
		batch.Set(ver("k", i+1, 0), nil)
	}
	must(t, e.Commit(batch, false))
	must(t, batch.Close())
	it := iter(t, e, engine.IterOptions{})
	defer func() { must(t, it.Close()) }()
	rev := func() int64 {
		_, rev, _, err := keys.DecodeVersion(it.Key())
		must(t, err)
		return int64(rev)
	}
	ok := it.First()
	for want := int64(n); want > 0; want-- {
		if !ok || rev() != want {
			t.Fatalf("at %d: %t", want, ok)
		}
		if want%3 == 0 && want < n {
			if !it.Prev() || rev() != want+1 || !it.Next() || rev() != want {
				t.Fatalf("back and forth at %d", want)
			}
		}
		ok = it.Next()
	}
	if ok || it.Valid() {
		t.Fatal("more rows than were written")
	}
	if !it.Prev() || rev() != 1 {
		t.Fatal("no way back from behind the last row")
	}
	for want := int64(2); want <= n; want++ {
		if !it.Prev() || rev() != want {
			t.Fatalf("back at %d", want)
		}
	}
	if it.Prev() || !it.Next() || rev() != n {
		t.Fatal("no way back from before the first row")
	}
}

// A suffix with a sub-revision of zero, as older folders hold it, names the same
// key as one without.
func testLongSuffix(t *testing.T, h Harness) {
	e, _ := h.Open(t)
	defer e.Close()
	long := append(bare("k"), 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 13)
	set(t, e, long, b("v"))
	for _, flush := range []bool{false, true} {
		if flush {
			must(t, e.Flush())
		}
		v, c, err := e.Get(ver("k", 5, 0))
		must(t, err)
		same(t, "value", string(v), "v")
		must(t, c.Close())
	}
	same(t, "read", dump(t, e), `"k"@5.0=v `)
	set(t, e, ver("k", 5, 0), b("w"))
	same(t, "overwritten", dump(t, e), `"k"@5.0=w `)
	batch := e.NewBatch()
	batch.Delete(ver("k", 5, 0))
	must(t, e.Commit(batch, false))
	must(t, batch.Close())
	same(t, "deleted", dump(t, e), "")
}

// The filter must not drop a row inside its window, in tables of many blocks,
// nor bring back one that was deleted inside it.
func testRevisionFilter(t *testing.T, h Harness) {
	e, _ := h.Open(t)
	defer e.Close()
	const n, perFlush = 3000, 1000
	for at := int64(1); at <= n; at += perFlush {
		batch := e.NewBatch()
		for rev := at; rev < at+perFlush; rev++ {
			batch.Set(ver(string(rune('a'+rev%26)), rev, uint32(rev%2)), make([]byte, 100))
		}
		must(t, e.Commit(batch, false))
		must(t, batch.Close())
		must(t, e.Flush())
	}
	gone := e.NewBatch()
	for rev := int64(10); rev <= n; rev += 10 {
		gone.Delete(ver(string(rune('a'+rev%26)), rev, uint32(rev%2)))
	}
	must(t, e.Commit(gone, false))
	must(t, gone.Close())
	must(t, e.Flush())
	for _, w := range [][2]int64{{1, 1}, {5, 12}, {999, 1002}, {2500, 0}, {0, 7}, {1, n}, {n, 0}, {n + 1, 0}} {
		it := iter(t, e, engine.IterOptions{MinRevision: w[0], MaxRevision: w[1]})
		got := map[int64]bool{}
		for ok := it.First(); ok; ok = it.Next() {
			_, rev, _, err := keys.DecodeVersion(it.Key())
			must(t, err)
			got[int64(rev)] = true
		}
		must(t, it.Error())
		must(t, it.Close())
		hi := w[1]
		if hi == 0 {
			hi = n
		}
		for rev := max(w[0], 1); rev <= min(hi, n); rev++ {
			if got[rev] != (rev%10 != 0) {
				t.Fatalf("window %v: revision %d: %t", w, rev, got[rev])
			}
		}
	}
}
