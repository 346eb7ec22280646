package ranges

import (
	"fmt"
	"math/rand"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/flotilladb/flotilla/internal/clock"
	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/proto/cmdpb"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/peerpb"
	"github.com/flotilladb/flotilla/proto/txnpb"
)

func testLimits() lockLimits {
	return lockLimits{ageMax: 2 * time.Second, pushEvery: time.Second}
}

func testTxn(n uint64) *txnpb.TxnID {
	return &txnpb.TxnID{StoreId: 1, StoreStart: 1, Number: n, Attempt: 1}
}

// parseAccess reads "a" (one key), "a-c" (a span) or "a-" (to the end). A
// leading "?" says that it is only read, "!" that it deletes all that is there.
func parseAccess(s string) peerpb.Access {
	a := peerpb.Access{Write: true}
	if rest, ok := strings.CutPrefix(s, "?"); ok {
		a.Write, s = false, rest
	}
	if rest, ok := strings.CutPrefix(s, "!"); ok {
		a.Deletes, s = true, rest
	}
	start, end, isSpan := strings.Cut(s, "-")
	a.Start = []byte(start)
	switch {
	case !isSpan:
		a.End = []byte(start + "\x00")
	case end != "":
		a.End = []byte(end)
	}
	return a
}

func parseAccesses(fields []string) (out []peerpb.Access) {
	for _, f := range fields {
		out = append(out, parseAccess(f))
	}
	return out
}

// testIntents makes an intent of each of "a" (a put), "?a" (only read) and
// "a-c:3" (a delete of a span with three keys); positions count up.
func testIntents(id *txnpb.TxnID, rev int64, written []string) (out []*cmdpb.AddressedIntent) {
	sub := uint32(0)
	for _, k := range written {
		in := &txnpb.Intent{Id: id, Revision: rev, Anchor: keys.User([]byte(firstKey(written[0])))}
		if rest, ok := strings.CutPrefix(k, "?"); ok {
			k = rest // only read: no mutation
		} else if span, count, ok := strings.Cut(k, ":"); ok {
			start, end, _ := strings.Cut(span, "-")
			n, _ := strconv.Atoi(count)
			in.Deletes = []*txnpb.SpanDelete{{Start: []byte(start), End: []byte(end), Sub: sub, Count: uint32(n)}}
			sub += uint32(n)
			k = start
		} else {
			in.Mutations = []*txnpb.Mutation{{Key: []byte(k), Sub: sub, Value: []byte("v"), CreateRevision: rev, Version: 1}}
			sub++
		}
		out = append(out, &cmdpb.AddressedIntent{Address: keys.User([]byte(k)), Intent: in})
	}
	return out
}

// firstKey is the key at which a field of a script begins.
func firstKey(field string) string {
	start, _, _ := strings.Cut(strings.TrimLeft(field, "?!"), "-")
	return start
}

func formatSet(s spanSet) string {
	var parts []string
	for _, span := range s {
		if string(span.End) == string(span.Start)+"\x00" {
			parts = append(parts, string(span.Start))
		} else {
			parts = append(parts, fmt.Sprintf("%s-%s", span.Start, strings.ReplaceAll(string(span.End), "\x00", "+")))
		}
	}
	return strings.Join(parts, ",")
}

func (t *lockTable) String() string {
	var b strings.Builder
	for _, l := range t.sorted() {
		fmt.Fprintf(&b, "lock txn=%d token=%d on %s", l.id.Number, tokenInTerm(l.token), formatSet(l.spans))
		if l.revision != 0 {
			fmt.Fprintf(&b, " rev=%d writes %s", l.revision, formatSet(l.writes))
		}
		if l.closed != 0 {
			fmt.Fprintf(&b, " closed=%d", l.closed)
		}
		b.WriteByte('\n')
	}
	for _, w := range t.waiters {
		fmt.Fprintf(&b, "waits %d for %s\n", w.ticket, formatSet(w.spans))
	}
	if rev, ok := t.bound(); ok {
		fmt.Fprintf(&b, "bound %d\n", rev)
	}
	if b.Len() == 0 {
		return "nothing\n"
	}
	return b.String()
}

// lockScript runs one script. Times are in milliseconds.
type lockScript struct {
	table *lockTable
	now   clock.Time
}

func (s *lockScript) run(t *testing.T, d *datadriven.TestData) string {
	var ms, txn, ticket, rev, token int
	d.MaybeScanArgs(t, "at", &ms)
	d.MaybeScanArgs(t, "txn", &txn)
	d.MaybeScanArgs(t, "ticket", &ticket)
	d.MaybeScanArgs(t, "rev", &rev)
	d.MaybeScanArgs(t, "token", &token)
	if ms != 0 {
		s.now = clock.Time(ms) * clock.Time(time.Millisecond)
	}
	lt := s.table
	id := testTxn(uint64(txn))
	fields := strings.Fields(d.Input)
	switch d.Cmd {
	case "admit":
		return fmt.Sprintf("admitted=%v\n", lt.admit(uint64(ticket), parseAccesses(fields)))
	case "prepare":
		ok, err := lt.prepare(uint64(ticket), id, parseAccesses(fields), s.now, 50*time.Millisecond)
		if err != nil {
			return err.Error() + "\n"
		}
		return fmt.Sprintf("admitted=%v\n", ok)
	case "release":
		return fmt.Sprintf("go on: %v\n", lt.release(id, s.now))
	case "remove":
		return fmt.Sprintf("go on: %v\n", lt.remove(uint64(ticket), s.now))
	case "intents":
		pushAt := s.now.Add(time.Second)
		if err := lt.setRevision(uint64(token), id, Revision(rev), testIntents(id, int64(rev), fields), pushAt, s.now); err != nil {
			return err.Error() + "\n"
		}
		return "taken\n"
	case "load":
		lt.load(testIntents(id, int64(rev), fields), s.now, s.now)
		return lt.String()
	case "close":
		var spans []metapb.Span
		for _, a := range parseAccesses(fields) {
			spans = append(spans, keys.UserSpan(a.Start, a.End))
		}
		ok, until := lt.mayClose(spans, Revision(rev), lt.nextToken, s.now)
		return fmt.Sprintf("closed=%v until=%d\n", ok, until/clock.Time(time.Millisecond))
	case "tick":
		admitted, push := lt.tick(s.now)
		var b strings.Builder
		fmt.Fprintf(&b, "go on: %v\n", admitted)
		for _, l := range push {
			fmt.Fprintf(&b, "push txn=%d\n", l.id.Number)
		}
		return b.String()
	case "show":
		return lt.String()
	}
	return "unknown command\n"
}

func TestLockScripts(t *testing.T) {
	datadriven.Walk(t, "testdata/lock", func(t *testing.T, path string) {
		s := &lockScript{table: newLockTable(0, testLimits())}
		datadriven.RunTest(t, path, s.run)
	})
}

// slowLocks is the lock table as a list: everything is compared with everything.
type slowLocks struct {
	held  map[uint64][]peerpb.Access
	queue []slowWaiter
}

type slowWaiter struct {
	ticket, txn uint64
	accesses    []peerpb.Access
}

func accessesOverlap(a, b []peerpb.Access) bool {
	for _, x := range a {
		for _, y := range b {
			sx, sy := metapb.Span{Start: x.Start, End: x.End}, metapb.Span{Start: y.Start, End: y.End}
			if !isEmptySpan(sx) && !isEmptySpan(sy) && sx.Overlaps(sy) {
				return true
			}
		}
	}
	return false
}

func (s *slowLocks) blocked(w slowWaiter, before []slowWaiter) bool {
	_, extends := s.held[w.txn]
	for txn, spans := range s.held {
		if txn != w.txn && accessesOverlap(spans, w.accesses) {
			return true
		}
	}
	return !extends && slices.ContainsFunc(before, func(o slowWaiter) bool { return accessesOverlap(o.accesses, w.accesses) })
}

func (s *slowLocks) enter(w slowWaiter) bool {
	if s.blocked(w, s.queue) {
		s.queue = append(s.queue, w)
		return false
	}
	if w.txn != 0 {
		s.held[w.txn] = append(s.held[w.txn], w.accesses...)
	}
	return true
}

func (s *slowLocks) settle() (admitted []uint64) {
	queue := s.queue
	s.queue = nil
	for _, w := range queue {
		if s.enter(w) {
			admitted = append(admitted, w.ticket)
		}
	}
	return admitted
}

// TestLockTwin runs random admissions, prepares, releases and removals against
// the table and its slow twin.
func TestLockTwin(t *testing.T) {
	for seed := int64(0); seed < 60; seed++ {
		rng := rand.New(rand.NewSource(seed))
		lt := newLockTable(0, testLimits())
		slow := &slowLocks{held: map[uint64][]peerpb.Access{}}
		randomAccesses := func() (out []peerpb.Access) {
			for range 1 + rng.Intn(3) {
				a := peerpb.Access{Start: []byte(strconv.Itoa(rng.Intn(40))), Write: true}
				switch rng.Intn(6) {
				case 0:
					a.End = []byte(strconv.Itoa(rng.Intn(40))) // may be empty
				case 1:
				default:
					a.End = append([]byte(string(a.Start)), 0)
				}
				out = append(out, a)
			}
			return out
		}
		for ticket := uint64(1); ticket < 300; ticket++ {
			switch rng.Intn(7) {
			case 0, 1:
				acc := randomAccesses()
				if got, want := lt.admit(ticket, acc), slow.enter(slowWaiter{ticket: ticket, accesses: acc}); got != want {
					t.Fatalf("seed %d ticket %d: admit %v, twin %v\n%s", seed, ticket, got, want, lt)
				}
			case 2, 3:
				acc, txn := randomAccesses(), uint64(1+rng.Intn(12))
				if slices.ContainsFunc(slow.queue, func(w slowWaiter) bool { return w.txn == txn }) {
					continue // a coordinator waits for one prepare at a time
				}
				got, err := lt.prepare(ticket, testTxn(txn), acc, 0, 0)
				want := slow.enter(slowWaiter{ticket: ticket, txn: txn, accesses: acc})
				if err != nil || got != want {
					t.Fatalf("seed %d ticket %d: prepare %v (%v), twin %v\n%s", seed, ticket, got, err, want, lt)
				}
			case 4, 5:
				txn := uint64(1 + rng.Intn(12))
				got := lt.release(testTxn(txn), 0)
				delete(slow.held, txn)
				if want := slow.settle(); !slices.Equal(got, want) {
					t.Fatalf("seed %d: release %d: %v, twin %v\n%s", seed, txn, got, want, lt)
				}
			case 6:
				victim := uint64(rng.Intn(int(ticket)))
				got := lt.remove(victim, 0)
				slow.queue = slices.DeleteFunc(slow.queue, func(w slowWaiter) bool { return w.ticket == victim })
				if want := slow.settle(); !slices.Equal(got, want) {
					t.Fatalf("seed %d: remove %d: %v, twin %v\n%s", seed, victim, got, want, lt)
				}
			}
			if len(slow.queue) != len(lt.waiters) || (len(slow.held) == 0) != (len(lt.locks) == 0) {
				t.Fatalf("seed %d: tables differ:\n%s\ntwin: %+v", seed, lt, slow)
			}
		}
	}
}

// TestSpanSetTwin compares a span set with a set of single keys.
func TestSpanSetTwin(t *testing.T) {
	rng := rand.New(rand.NewSource(1))
	key := func(i int) []byte { return []byte{byte(i)} }
	for round := range 300 {
		var set spanSet
		var has [32]bool
		for range 1 + rng.Intn(12) {
			lo, hi := rng.Intn(31), 1+rng.Intn(31)
			set.add(metapb.Span{Start: key(lo), End: key(hi)})
			for i := lo; i < hi; i++ {
				has[i] = true
			}
		}
		at := 1 + rng.Intn(30)
		left, right := set.cut(key(at))
		for i := range has {
			if set.contains(key(i)) != has[i] || set.overlaps(key(i), key(i+1)) != has[i] {
				t.Fatalf("round %d: key %d: contains %v, want %v in %v", round, i, !has[i], has[i], set)
			}
			if left.contains(key(i)) != (has[i] && i < at) || right.contains(key(i)) != (has[i] && i >= at) {
				t.Fatalf("round %d: cut at %d puts key %d wrong: %v | %v", round, at, i, left, right)
			}
		}
		for i := 1; i < len(set); i++ {
			if !endBefore(set[i-1].End, set[i].Start) || string(set[i-1].End) == string(set[i].Start) {
				t.Fatalf("round %d: spans touch: %v", round, set)
			}
		}
	}
}

func BenchmarkAdmitIdle(b *testing.B) {
	lt := newLockTable(0, testLimits())
	acc := parseAccesses([]string{"key"})
	b.ReportAllocs()
	for b.Loop() {
		lt.admit(1, acc)
	}
}

// BenchmarkPrepareRelease has 500 transactions of ten keys in the table.
func BenchmarkPrepareRelease(b *testing.B) {
	lt := newLockTable(0, testLimits())
	var sets [500][]peerpb.Access
	var ids [500]*txnpb.TxnID
	for i := range sets {
		ids[i] = testTxn(uint64(i + 1))
		for j := range 10 {
			sets[i] = append(sets[i], parseAccess(fmt.Sprintf("key%07d", (i*10+j)*7919%1000003)))
		}
		lt.prepare(uint64(i), ids[i], sets[i], 0, 0)
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		lt.release(ids[i%500], 0)
		lt.prepare(uint64(i), ids[i%500], sets[i%500], 0, 0)
		i++
	}
}
