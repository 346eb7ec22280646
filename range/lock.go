package ranges

import (
	"bytes"
	"cmp"
	"slices"
	"time"

	"github.com/flotilladb/flotilla/internal/clock"
	"github.com/flotilladb/flotilla/internal/invariant"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/peerpb"
	"github.com/flotilladb/flotilla/proto/txnpb"
)

const (
	// lockSpansMax bounds the locked spans of one range.
	lockSpansMax = 1 << 14
	// heldAtOnce is from how many spans on they are sorted in together, and not one
	// after the other.
	heldAtOnce = 256
	// holdMax bounds how long one lock may hold back closing at a time.
	holdMax = time.Second
)

// txnKey is a TxnID that can be compared.
type txnKey struct{ store, start, number, attempt uint64 }

func keyOf(id *txnpb.TxnID) txnKey {
	return txnKey{id.GetStoreId(), id.GetStoreStart(), id.GetNumber(), id.GetAttempt()}
}

// lock is a transaction's hold on keys of a range.
type lock struct {
	id *txnpb.TxnID
	// token names this hold: intents of a hold that was lost and taken again, of
	// another leader even, are told apart by it. Never 0.
	token  uint64
	spans  spanSet // user keys
	leases []leaseLock
	since  clock.Time

	// hold is how long closing waits for a lock without a revision, holdUntil
	// until when.
	hold      time.Duration
	holdUntil clock.Time
	// closed is the highest revision that the range called closed for some of
	// the keys while the lock had no revision. Its intents must be above it.
	closed Revision

	// revision is that of the intents, 0 while there are none. Invariant: never
	// decreases, and above closed when it is set.
	revision Revision
	// writes are the keys that the transaction may change; those that it will,
	// once it has a revision.
	writes spanSet
	// applied says that the intents at revision are applied.
	applied bool
	// loaded says that the lock was made of intents that another leader wrote:
	// of its spans only the keys with intents are known.
	loaded bool
	// recordBatch is the batch that logged the commit record on this range,
	// endBatch the one that logged the end of the transaction; 0: none. While one
	// of them is under way the other must not be logged.
	recordBatch, endBatch uint64
	anchor                []byte
	// pushAt is when the anchor is asked what became of the transaction; set
	// with revision.
	pushAt clock.Time
}

// heldSpan is one of the spans of a lock, for finding.
type heldSpan struct {
	span metapb.Span
	lock *lock
}

// waiter is a request that overlaps a lock or an earlier waiter.
type waiter struct {
	ticket uint64
	spans  spanSet
	leases []leaseLock
	lock   *lock // taken when admitted; nil for an ordinary write
}

// lockLimits are the ages at which a lock is looked after.
type lockLimits struct {
	// ageMax is how long a lock without an intent lives.
	ageMax time.Duration
	// pushEvery is how often the anchor of one with intents is asked.
	pushEvery time.Duration
}

// lockTable is who may touch which user keys of a range besides its pipeline.
// Locks are exclusive, and prepares queue with ordinary writes in one order:
// who overlaps a lock or an earlier waiter waits. Only the leader has one.
//
// Spans of different locks never overlap. A waiter overlaps a lock or an
// earlier waiter, so with no locks nobody waits.
type lockTable struct {
	limits  lockLimits
	locks   map[txnKey]*lock
	held    []*heldSpan // by start
	waiters []*waiter   // first come first
	claims  spanSet     // the spans of all waiters
	leases  leaseLocks
	// pending are the revisions of locks that will change keys, ascending: a
	// read at or above the first may miss something.
	pending   []Revision
	nextToken uint64
	// due is when tick has something to do, at the earliest; zero: never.
	due clock.Time
}

// newLockTable returns an empty table. Its tokens are above first.
func newLockTable(first uint64, limits lockLimits) *lockTable {
	return &lockTable{limits: limits, locks: make(map[txnKey]*lock), nextToken: first}
}

// firstToken is below all tokens of the leader of a term: those of different
// leaders of a range are never the same.
func firstToken(term uint64) uint64 { return term << 32 }

// idle reports whether nothing is locked.
func (t *lockTable) idle() bool { return len(t.locks) == 0 && len(t.waiters) == 0 }

// get returns the lock of a transaction, or nil.
func (t *lockTable) get(id *txnpb.TxnID) *lock { return t.locks[keyOf(id)] }

// bound is the lowest revision of an unresolved transaction that changes keys
// of the range; ok is false if there is none.
func (t *lockTable) bound() (rev Revision, ok bool) {
	if len(t.pending) == 0 {
		return 0, false
	}
	return t.pending[0], true
}

// admit asks whether an ordinary write may go on. If not it is queued under its
// ticket until release, remove or tick return it.
func (t *lockTable) admit(ticket uint64, accesses []peerpb.Access, leases ...leaseLock) bool {
	if t.idle() {
		return true
	}
	free := !t.leases.conflicts(nil, leases, true)
	for i := range accesses {
		if t.conflicts(accesses[i].Start, accesses[i].End) {
			free = false
			break
		}
	}
	if !free {
		t.wait(&waiter{ticket: ticket, spans: spansOf(accesses), leases: leases})
	}
	return free
}

// prepare takes a transaction's lock on the keys of accesses, at once (true) or
// when its ticket is returned. A transaction that has a lock adds to it.
func (t *lockTable) prepare(ticket uint64, id *txnpb.TxnID, accesses []peerpb.Access, now clock.Time, hold time.Duration, leases ...leaseLock) (bool, error) {
	if len(t.held)+len(accesses) > lockSpansMax && !endsLease(leases) {
		return false, peerpb.ErrOverloaded
	}
	l := &lock{id: id, hold: min(hold, holdMax), writes: writeSpansOf(accesses)}
	w := &waiter{ticket: ticket, spans: spansOf(accesses), leases: leases, lock: l}
	if t.blocked(w) {
		t.wait(w)
		return false, nil
	}
	t.take(w, now)
	return true, nil
}

// conflicts reports whether [start, end) overlaps a lock or a waiter.
func (t *lockTable) conflicts(start, end []byte) bool {
	if len(end) != 0 && bytes.Compare(start, end) >= 0 {
		return false
	}
	return t.overlapsHeld(nil, start, end) || t.claims.overlaps(start, end)
}

// overlapsHeld reports whether [start, end) overlaps a lock of another
// transaction than own.
func (t *lockTable) overlapsHeld(own *txnpb.TxnID, start, end []byte) bool {
	for i := t.heldAfter(start); i < len(t.held) && startsBelow(t.held[i].span.Start, end); i++ {
		if own == nil || keyOf(t.held[i].lock.id) != keyOf(own) {
			return true
		}
	}
	return false
}

// heldAfter returns the place of the first locked span that ends above key.
func (t *lockTable) heldAfter(key []byte) int {
	lo, hi := 0, len(t.held)
	for lo < hi {
		if mid := (lo + hi) / 2; endBefore(t.held[mid].span.End, key) {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo
}

// blocked reports whether a request has to wait. A transaction that adds to its
// lock goes before those who wait: they may wait for that very lock.
func (t *lockTable) blocked(w *waiter) bool {
	extends := w.lock != nil && t.get(w.lock.id) != nil
	for _, s := range w.spans {
		if extends && t.overlapsHeld(w.lock.id, s.Start, s.End) ||
			!extends && t.conflicts(s.Start, s.End) {
			return true
		}
	}
	return t.leases.conflicts(w.lock, w.leases, !extends)
}

func (t *lockTable) wait(w *waiter) {
	t.waiters = append(t.waiters, w)
	t.claim(w)
}

func (t *lockTable) claim(w *waiter) {
	for _, s := range w.spans {
		t.claims.add(s)
	}
	t.leases.claim(w.leases)
}

// take gives an admitted prepare its lock.
func (t *lockTable) take(w *waiter, now clock.Time) {
	l := t.locks[keyOf(w.lock.id)]
	if l == nil {
		l = w.lock
		l.since = now
		l.holdUntil = now.Add(l.hold)
		t.nextToken++
		l.token = t.nextToken
		l.spans = w.spans
		t.locks[keyOf(l.id)] = l
		t.noteDue(now.Add(t.limits.ageMax))
		t.holdSpans(l)
		t.leases.hold(l, w.leases)
		return
	}
	t.unhold(l)
	for _, s := range w.spans {
		l.spans.add(s)
	}
	if l.revision == 0 {
		for _, s := range w.lock.writes {
			l.writes.add(s)
		}
	}
	t.holdSpans(l)
	t.leases.hold(l, w.leases)
}

func (t *lockTable) noteDue(at clock.Time) {
	if t.due == 0 || at.Before(t.due) {
		t.due = at
	}
}

// holdSpans enters the spans of a lock among those of others.
func (t *lockTable) holdSpans(l *lock) {
	spans := make([]heldSpan, len(l.spans))
	if len(spans) > heldAtOnce {
		for n, s := range l.spans {
			spans[n] = heldSpan{s, l}
			t.held = append(t.held, &spans[n])
		}
		slices.SortFunc(t.held, func(a, b *heldSpan) int { return bytes.Compare(a.span.Start, b.span.Start) })
		return
	}
	for n, s := range l.spans {
		i := t.heldAfter(s.Start)
		invariant.Check(i == len(t.held) || endBefore(s.End, t.held[i].span.Start), "locks overlap")
		spans[n] = heldSpan{s, l}
		t.held = slices.Insert(t.held, i, &spans[n])
	}
}

func (t *lockTable) unhold(l *lock) {
	if len(l.spans) > heldAtOnce {
		t.held = slices.DeleteFunc(t.held, func(h *heldSpan) bool { return h.lock == l })
		return
	}
	for _, s := range l.spans {
		i := t.heldAfter(s.Start)
		t.held = slices.Delete(t.held, i, i+1)
	}
}

// release ends a transaction's lock and returns the tickets that may go on, in
// order; those of prepares have their locks.
func (t *lockTable) release(id *txnpb.TxnID, now clock.Time) []uint64 {
	l := t.locks[keyOf(id)]
	if l == nil {
		return nil
	}
	t.drop(l)
	if !t.claimed(l.spans) && !t.leases.claimed(l.leases) {
		return nil
	}
	return t.admitWaiters(now)
}

// drop ends a lock and lets nobody on yet.
func (t *lockTable) drop(l *lock) {
	delete(t.locks, keyOf(l.id))
	t.unhold(l)
	t.leases.unhold(l)
	t.unpend(l)
}

func (t *lockTable) claimed(set spanSet) bool {
	for _, s := range set {
		if t.claims.overlaps(s.Start, s.End) {
			return true
		}
	}
	return false
}

// remove takes a waiter out, if it is one, and returns the tickets that may go
// on without it.
func (t *lockTable) remove(ticket uint64, now clock.Time) []uint64 {
	i := slices.IndexFunc(t.waiters, func(w *waiter) bool { return w.ticket == ticket })
	if i < 0 {
		return nil
	}
	t.waiters = slices.Delete(t.waiters, i, i+1)
	return t.admitWaiters(now)
}

// admitWaiters lets every waiter on that overlaps no lock and no waiter before
// it. The claims grow along the queue, so that each waiter is compared with the
// union of those before it and not with each.
func (t *lockTable) admitWaiters(now clock.Time) (admitted []uint64) {
	waiters := t.waiters
	t.claims, t.leases.claims = t.claims[:0], nil
	t.waiters = t.waiters[:0]
	for _, w := range waiters {
		if t.blocked(w) {
			t.waiters = append(t.waiters, w)
			t.claim(w)
			continue
		}
		if w.lock != nil {
			t.take(w, now)
		}
		admitted = append(admitted, w.ticket)
	}
	clear(waiters[len(t.waiters):])
	return admitted
}

// sorted returns the locks in order of their tokens.
func (t *lockTable) sorted() []*lock {
	all := make([]*lock, 0, len(t.locks))
	for _, l := range t.locks {
		all = append(all, l)
	}
	slices.SortFunc(all, func(a, b *lock) int { return cmp.Compare(a.token, b.token) })
	return all
}
