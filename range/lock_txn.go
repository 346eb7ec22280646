package ranges

import (
	"slices"

	"github.com/flotilladb/flotilla/internal/clock"
	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/proto/cmdpb"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/peerpb"
	"github.com/flotilladb/flotilla/proto/txnpb"
)

// setRevision takes a transaction's revision and the keys that it changes here,
// the moment that its intents are asked for: from then on a read at or above the
// revision waits. It refuses what may not become an intent.
func (t *lockTable) setRevision(token uint64, id *txnpb.TxnID, rev Revision, intents []*cmdpb.AddressedIntent, pushAt clock.Time, now clock.Time) error {
	l := t.get(id)
	switch {
	case l == nil || l.token != token || l.loaded || l.recordBatch != 0 || l.endBatch != 0:
		return peerpb.ErrLockLost
	case rev <= max(l.closed, l.revision-1):
		l.hold = min(2*l.hold, holdMax)
		l.holdUntil = now.Add(l.hold)
		return &peerpb.RefusedRevisionError{Closed: max(l.closed, l.revision-1)}
	}
	for _, in := range intents {
		if key, ok := lockedKeyOf(in); ok && !l.spans.contains(key) {
			return peerpb.ErrLockLost
		}
		for _, d := range in.Intent.Deletes {
			if !l.spans.covers(d.Start, d.End) {
				return peerpb.ErrLockLost
			}
		}
	}
	if rev == l.revision {
		return nil // a copy; what is applied stays so
	}
	t.unpend(l)
	l.revision, l.applied, l.pushAt = rev, false, pushAt
	l.writes = writesOf(intents)
	l.anchor = intents[0].Intent.Anchor
	t.pend(l)
	t.noteDue(pushAt)
	return nil
}

// setApplied notes that the intents of a transaction at rev are applied. They
// may have been replaced by a later WriteIntents, which is still under way.
func (t *lockTable) setApplied(id *txnpb.TxnID, rev Revision) {
	if l := t.get(id); l != nil && l.revision == rev {
		l.applied = true
	}
}

// load makes a lock of the intents of a transaction that the engine holds, for
// a leader that did not take them itself.
func (t *lockTable) load(intents []*cmdpb.AddressedIntent, pushAt, now clock.Time) {
	first := intents[0].Intent
	t.nextToken++
	l := &lock{
		id: first.Id, token: t.nextToken, since: now, revision: Revision(first.Revision),
		writes: writesOf(intents), applied: true, loaded: true, anchor: first.Anchor, pushAt: pushAt,
	}
	for _, in := range intents {
		if key, ok := lockedKeyOf(in); ok {
			l.spans.add(pointSpan(key))
		}
		for _, d := range in.Intent.Deletes {
			l.spans.add(metapb.Span{Start: d.Start, End: d.End})
		}
	}
	t.locks[keyOf(l.id)] = l
	t.holdSpans(l)
	t.leases.hold(l, leasesOf(intents))
	t.pend(l)
	t.noteDue(pushAt)
}

// writesOf returns the keys that intents change.
func writesOf(intents []*cmdpb.AddressedIntent) (set spanSet) {
	for _, in := range intents {
		for _, d := range in.Intent.Deletes {
			set.add(metapb.Span{Start: d.Start, End: d.End})
		}
		if len(in.Intent.Mutations) == 0 {
			continue
		}
		if key, ok := userKeyOf(in.Address); ok {
			set.add(pointSpan(key))
		}
	}
	return set
}

// userKeyOf returns the client's key of an address, if it is one.
func userKeyOf(addr []byte) ([]byte, bool) {
	if len(addr) == 0 || addr[0] != byte(keys.KindUser) {
		return nil, false
	}
	return addr[1:], true
}

// lockedKeyOf returns the client's key that a transaction with an intent holds.
// One that only stands for the mark of a lease has its address from the span in
// which keys of the lease could be.
func lockedKeyOf(in *cmdpb.AddressedIntent) ([]byte, bool) {
	if len(in.Intent.Mutations) == 0 && len(in.Intent.Deletes) == 0 && len(in.Intent.Marks) > 0 {
		return nil, false
	}
	return userKeyOf(in.Address)
}

func pointSpan(key []byte) metapb.Span {
	end := append(append(make([]byte, 0, len(key)+1), key...), 0)
	return metapb.Span{Start: end[:len(key)], End: end}
}

// pend notes that a transaction will change keys at a revision.
func (t *lockTable) pend(l *lock) {
	if l.revision == 0 || len(l.writes) == 0 {
		return
	}
	i, _ := slices.BinarySearch(t.pending, l.revision)
	t.pending = slices.Insert(t.pending, i, l.revision)
}

func (t *lockTable) unpend(l *lock) {
	if l.revision == 0 || len(l.writes) == 0 {
		return
	}
	if i, ok := slices.BinarySearch(t.pending, l.revision); ok {
		t.pending = slices.Delete(t.pending, i, i+1)
	}
}

// mayClose reports whether the keys of spans (addresses; none: the whole range)
// may be called closed at s as far as transactions go. If so, locks without a
// revision will not get one at or below s. If not, trying again makes sense
// after a release or, when until is not zero, at that time.
//
// Locks above the token last are not waited for: they were taken when s was given
// out, and their revision is asked for later. Otherwise, where transactions follow each
// other, there might be no moment without one.
func (t *lockTable) mayClose(spans []metapb.Span, s Revision, last uint64, now clock.Time) (ok bool, until clock.Time) {
	ok = true
	for _, l := range t.locks {
		switch {
		case l.revision > s || !overlapsAny(l.writes, spans):
		case l.revision != 0:
			return false, 0
		case l.token <= last && l.holdUntil.After(now):
			ok, until = false, max(until, l.holdUntil)
		}
	}
	if !ok {
		return false, until
	}
	for _, l := range t.locks {
		if overlapsAny(l.writes, spans) {
			l.closed = max(l.closed, s)
		}
	}
	return true, 0
}

// overlapsAny reports whether a set of user keys overlaps spans of addresses
// (none: everything).
func overlapsAny(set spanSet, spans []metapb.Span) bool {
	if len(spans) == 0 {
		return len(set) != 0
	}
	for _, span := range spans {
		if start, end, ok := keys.UserBounds(span); ok && set.overlaps(start, end) {
			return true
		}
	}
	return false
}

// stuck reports whether a lock is older than one without an intent gets: nobody here
// can say when it goes.
func (t *lockTable) stuck(now clock.Time) bool {
	for _, l := range t.locks {
		if !l.since.Add(t.limits.ageMax).After(now) {
			return true
		}
	}
	return false
}

// tick ends the locks without intents that are too old. It returns the tickets
// that may go on, and the transactions whose anchor is to be asked now, in
// order.
func (t *lockTable) tick(now clock.Time) (admitted []uint64, push []*lock) {
	if t.due == 0 || now.Before(t.due) {
		return nil, nil
	}
	t.due = 0
	dropped := false
	for _, l := range t.sorted() {
		due := l.since.Add(t.limits.ageMax)
		if l.revision != 0 {
			due = l.pushAt
		}
		switch {
		case due.After(now):
		case l.revision == 0:
			t.drop(l)
			dropped = true
			continue
		default:
			push = append(push, l)
			l.pushAt = now.Add(t.limits.pushEvery)
			due = l.pushAt
		}
		t.noteDue(due)
	}
	if dropped && len(t.waiters) != 0 {
		admitted = t.admitWaiters(now)
	}
	return admitted, push
}
