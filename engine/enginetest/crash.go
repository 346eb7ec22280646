package enginetest

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand"
	"slices"
	"strings"
	"testing"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/internal/keys"
)

// Every done is called, once, in order, and what it speaks of is there.
func testCommitAsync(t *testing.T, h Harness) {
	e, _ := h.Open(t)
	defer e.Close()
	const n = 200
	order := make(chan int, n)
	for i := range n {
		batch := e.NewBatch()
		if i%10 != 9 { // every tenth is empty and still a place in the order
			batch.Set(ver("k", int64(i+1), 0), b("v"))
		}
		must(t, e.CommitAsync(batch, func(err error) {
			if err != nil {
				t.Error(err)
			}
			order <- i
		}))
		if i%10 != 9 {
			_, c, err := e.Get(ver("k", int64(i+1), 0)) // visible at return
			must(t, err)
			must(t, c.Close())
		}
	}
	for want := range n {
		if got := <-order; got != want {
			t.Fatalf("done %d before %d", got, want)
		}
	}
}

// kept returns the numbers of the commits that a crash left, and fails unless
// they are a prefix that holds everything that was synced.
func kept(t *testing.T, e engine.Engine, made, synced int, seed int64) int {
	t.Helper()
	n := 0
	for i := 1; i <= made; i++ {
		v, c, err := e.Get(keys.RaftLog(1, uint64(i)))
		if errors.Is(err, engine.ErrNotFound) {
			break
		}
		must(t, err)
		same(t, "value", string(v), fmt.Sprint(i))
		must(t, c.Close())
		n = i
	}
	for i := n + 1; i <= made; i++ {
		if _, _, err := e.Get(keys.RaftLog(1, uint64(i))); !errors.Is(err, engine.ErrNotFound) {
			t.Fatalf("seed %d: commit %d is there and %d is not: %v", seed, i, n+1, err)
		}
	}
	if n < synced {
		t.Fatalf("seed %d: %d commits were kept, %d were synced", seed, n, synced)
	}
	return n
}

// What was synced is there after a crash; what was lost is a suffix.
func testCrash(t *testing.T, h Harness) {
	for seed := range int64(8) {
		rng := rand.New(rand.NewSource(seed))
		e, _ := h.Open(t)
		made, synced := 0, 0
		for range 3 {
			for range rng.Intn(60) {
				made++
				batch := e.NewBatch()
				batch.Set(keys.RaftLog(1, uint64(made)), []byte(fmt.Sprint(made)))
				batch.Set(ver("pad", int64(made), 0), make([]byte, rng.Intn(3000)))
				sync := rng.Intn(8) == 0
				must(t, e.Commit(batch, sync))
				must(t, batch.Close())
				if sync {
					synced = made
				}
				if rng.Intn(40) == 0 {
					must(t, e.Flush())
					synced = made
				}
			}
			e = h.Crash(t, e, seed)
			made = kept(t, e, made, synced, seed)
			synced = made // it was on the disk before the engine opened
		}
		must(t, e.Close())
	}
}

// An ingest is durable at once and so is everything before it.
func testCrashAfterIngest(t *testing.T, h Harness) {
	for seed := range int64(4) {
		e, dir := h.Open(t)
		set(t, e, ver("a", 1, 0), b("before"), keys.AppliedState(1), b("1"))
		tab := table(t, e, dir, "t", nil, ver("m", 1, 0), b("ingested"))
		ingest(t, e, []string{tab}, keys.VersionSpan(b("m"), nil))
		e = h.Crash(t, e, seed)
		same(t, "rows", dump(t, e), `range/1/applied=1 "a"@1.0=before "m"@1.0=ingested `)
		must(t, e.Close())
	}
}

// model is the obvious engine: a sorted list.
type model struct{ rows []row }

type row struct{ key, value []byte }

func (m *model) find(key []byte) (int, bool) {
	return slices.BinarySearchFunc(m.rows, key, func(r row, key []byte) int { return compare(r.key, key) })
}

func (m *model) set(key, value []byte) {
	i, ok := m.find(key)
	if ok {
		m.rows[i].value = value
		return
	}
	m.rows = slices.Insert(m.rows, i, row{key, value})
}

func (m *model) deleteRange(start, end []byte) {
	i, _ := m.find(start)
	j, _ := m.find(end)
	m.rows = slices.Delete(m.rows, i, max(i, j))
}

// compare is the order of engine keys, told a second time.
func compare(a, b []byte) int {
	pa, pb := len(a)-int(a[len(a)-1]), len(b)-int(b[len(b)-1])
	if c := bytes.Compare(a[:pa], b[:pb]); c != 0 {
		return c
	}
	if pa == len(a) || pb == len(b) {
		return (len(a) - pa) - (len(b) - pb)
	}
	return bytes.Compare(pad(b[pb:]), pad(a[pa:]))
}

// pad makes a suffix whole that lacks its sub-revision.
func pad(suffix []byte) []byte {
	out := make([]byte, 12)
	copy(out, suffix[:len(suffix)-1])
	return out
}

func (m *model) dump() string {
	out := ""
	for _, r := range m.rows {
		out += fmt.Sprintf("%s=%s ", keys.Format(r.key), r.value)
	}
	return out
}

func testRandom(t *testing.T, h Harness) {
	for seed := range int64(3) {
		rng := rand.New(rand.NewSource(seed))
		e, dir := h.Open(t)
		m := &model{}
		for step := range 120 {
			randomStep(t, rng, e, dir, m, step)
			if step%10 == 9 {
				same(t, fmt.Sprintf("seed %d step %d", seed, step), dump(t, e), m.dump())
			}
			randomSeek(t, rng, e, m)
		}
		must(t, e.Close())
	}
}

func randomKey(rng *rand.Rand) []byte {
	name := string([]byte{"ab\x00\xff"[rng.Intn(4)], "xy\x00"[rng.Intn(3)]}[:1+rng.Intn(2)])
	if rng.Intn(8) == 0 {
		return bare(name)
	}
	return ver(name, int64(1+rng.Intn(6)), uint32(rng.Intn(2)))
}

func randomSpan(rng *rand.Rand) engine.Span {
	name := func() string { return string([]byte{"ab\x00\xff"[rng.Intn(4)], "xy\x00"[rng.Intn(3)]}) }
	s := engine.Span{Start: bare(name()), End: bare(name())}
	if compare(s.Start, s.End) >= 0 {
		s.Start, s.End = s.End, append(s.Start[:len(s.Start)-1], 1, 0)
	}
	return s
}

func randomStep(t *testing.T, rng *rand.Rand, e engine.Engine, dir string, m *model, step int) {
	t.Helper()
	switch p := rng.Intn(20); {
	case p == 0:
		must(t, e.Flush())
	case p == 1:
		s := randomSpan(rng)
		var tables []string
		m.deleteRange(s.Start, s.End)
		if k := append(bytes.Clone(s.Start), 0, 0, 0, 0, 0, 0, 0, 8, 9); rng.Intn(2) == 0 {
			tables = append(tables, table(t, e, dir, fmt.Sprint("t", step), nil, k, b("ingested")))
			m.set(k, b("ingested"))
		}
		ingest(t, e, tables, s)
	default:
		batch := e.NewBatch()
		for range 1 + rng.Intn(6) {
			switch rng.Intn(8) {
			case 0:
				s := randomSpan(rng)
				batch.DeleteRange(s.Start, s.End)
				m.deleteRange(s.Start, s.End)
			case 1, 2:
				k := randomKey(rng)
				batch.Delete(k)
				if i, ok := m.find(k); ok {
					m.rows = slices.Delete(m.rows, i, i+1)
				}
			default:
				k, v := randomKey(rng), []byte(fmt.Sprint(step))
				batch.Set(k, v)
				m.set(k, v)
			}
		}
		must(t, e.Commit(batch, false))
		must(t, batch.Close())
	}
}

// randomSeek compares one seek and a few steps with the model.
func randomSeek(t *testing.T, rng *rand.Rand, e engine.Engine, m *model) {
	t.Helper()
	it := iter(t, e, engine.IterOptions{})
	defer func() { must(t, it.Close()) }()
	k := randomKey(rng)
	at, _ := m.find(k)
	ok := false
	if rng.Intn(2) == 0 {
		ok = it.SeekGE(k)
	} else {
		at--
		ok = it.SeekLT(k)
	}
	for range 6 {
		if ok != (at >= 0 && at < len(m.rows)) {
			t.Fatalf("from %s: at row %d of %d: %t", keys.Format(k), at, len(m.rows), ok)
		}
		if ok && compare(it.Key(), m.rows[at].key) != 0 {
			t.Fatalf("from %s: got %s, want %s", keys.Format(k), keys.Format(it.Key()), keys.Format(m.rows[at].key))
		}
		if rng.Intn(2) == 0 {
			ok, at = it.Next(), min(at+1, len(m.rows))
		} else {
			ok, at = it.Prev(), max(at-1, -1)
		}
	}
}

// A snapshot's ingest is one step to a crash: the rows of all its tables, what they
// delete and what is excised, with the commits before it.
func testCrashAroundSnapshot(t *testing.T, h Harness) {
	for seed := range int64(6) {
		e, dir := h.Open(t)
		set(t, e, keys.RaftHardState(3), b("old"), keys.RaftLog(3, 11), b("old"), keys.RaftHardState(4), b("other"),
			keys.Row(keys.Lease(5)), b("old"), ver("m", 1, 0), b("old"), ver("z", 1, 0), b("other"))
		if seed%2 == 0 {
			must(t, e.Flush())
		}
		set(t, e, ver("n", 2, 0), b("old and not synced"), ver("z", 2, 0), b("not synced"))
		local := table(t, e, dir, "local", []engine.Span{keys.LocalSpan(3)}, keys.RaftHardState(3), b("new"), keys.AppliedState(3), b("new"))
		rows := table(t, e, dir, "rows", []engine.Span{keys.RowSpan(keys.LeaseSpan())}, keys.Row(keys.Lease(6)), b("new"))
		user := table(t, e, dir, "user", nil, ver("m", 9, 0), b("new"))
		if seed < 2 { // nothing of it is there before
			e = h.Crash(t, e, seed)
			if got := dump(t, e); strings.Contains(got, "new") {
				t.Fatalf("seed %d: %s", seed, got)
			}
			must(t, e.Close())
			continue
		}
		ingest(t, e, []string{local, rows, user}, keys.VersionSpan(b("m"), b("o")))
		e = h.Crash(t, e, seed)
		same(t, "rows", dump(t, e), `range/3/hardstate=new range/3/applied=new range/4/hardstate=other `+
			`row/lease:0000000000000006=new "m"@9.0=new "z"@2.0=not synced "z"@1.0=other `)
		must(t, e.Close())
	}
}
