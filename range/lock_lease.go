package ranges

import (
	"slices"

	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/proto/cmdpb"
	"github.com/flotilladb/flotilla/proto/peerpb"
)

// Leases are locked in the same table as keys, and wait in the same queue, but
// they are no keys: a range locks the record of a lease if it is its home, and
// the mark of one if it may hold keys of it. Who ends a lease holds both alone;
// who attaches a key, or registers a span, shares them.

// leaseLock is a lock on a lease, held or wanted.
type leaseLock struct {
	id     int64
	record bool // the record at its home; else the mark
	alone  bool
}

type leaseName struct {
	id     int64
	record bool
}

func (l leaseLock) name() leaseName { return leaseName{l.id, l.record} }

// leaseHolder is a transaction that holds a lease.
type leaseHolder struct {
	lock  *lock
	alone bool
}

// leaseLocks are the leases in a lock table.
type leaseLocks struct {
	held   map[leaseName][]leaseHolder
	claims map[leaseName]bool // by waiters; true: one of them wants it alone
}

// conflicts reports whether a transaction (nil: an ordinary request) has to wait
// for one of the leases. With claims, also for who waits before it.
func (t *leaseLocks) conflicts(own *lock, wanted []leaseLock, claims bool) bool {
	for _, w := range wanted {
		for _, h := range t.held[w.name()] {
			if (h.alone || w.alone) && (own == nil || keyOf(h.lock.id) != keyOf(own.id)) {
				return true
			}
		}
		if alone, ok := t.claims[w.name()]; claims && ok && (alone || w.alone) {
			return true
		}
	}
	return false
}

func (t *leaseLocks) claim(wanted []leaseLock) {
	for _, w := range wanted {
		if t.claims == nil {
			t.claims = make(map[leaseName]bool)
		}
		t.claims[w.name()] = t.claims[w.name()] || w.alone
	}
}

// claimed reports whether somebody waits for one of the leases.
func (t *leaseLocks) claimed(leases []leaseLock) bool {
	return slices.ContainsFunc(leases, func(l leaseLock) bool {
		_, ok := t.claims[l.name()]
		return ok
	})
}

// hold adds leases to a lock; of those that it has already it takes the stronger.
func (t *leaseLocks) hold(l *lock, wanted []leaseLock) {
	t.unhold(l)
	for _, w := range wanted {
		i := slices.IndexFunc(l.leases, func(have leaseLock) bool { return have.name() == w.name() })
		if i < 0 {
			l.leases = append(l.leases, w)
		} else {
			l.leases[i].alone = l.leases[i].alone || w.alone
		}
	}
	for _, h := range l.leases {
		if t.held == nil {
			t.held = make(map[leaseName][]leaseHolder)
		}
		t.held[h.name()] = append(t.held[h.name()], leaseHolder{l, h.alone})
	}
}

func (t *leaseLocks) unhold(l *lock) {
	for _, h := range l.leases {
		rest := slices.DeleteFunc(t.held[h.name()], func(o leaseHolder) bool { return o.lock == l })
		if len(rest) == 0 {
			delete(t.held, h.name())
		} else {
			t.held[h.name()] = rest
		}
	}
}

// ending reports whether a transaction that ends a lease holds it here.
func (t *lockTable) ending(id int64, record bool) bool {
	return slices.ContainsFunc(t.leases.held[leaseName{id, record}], func(h leaseHolder) bool { return h.alone })
}

// endingRecords are the leases of this home that transactions end, in order.
func (t *lockTable) endingRecords() (ids []int64) {
	for name := range t.leases.held {
		if name.record && t.ending(name.id, true) {
			ids = append(ids, name.id)
		}
	}
	slices.Sort(ids)
	return ids
}

// usesOf are the locks of who attaches keys to leases.
func usesOf(uses []peerpb.LeaseUse) []leaseLock {
	var out []leaseLock
	for _, u := range uses {
		if l := (leaseLock{id: u.Lease}); !slices.Contains(out, l) {
			out = append(out, l)
		}
	}
	return out
}

// endsLease reports whether somebody locks a lease to end it. The number of its
// keys is not ours to bound: a lease that cannot be revoked would never end.
func endsLease(leases []leaseLock) bool {
	return slices.ContainsFunc(leases, func(l leaseLock) bool { return l.alone })
}

// revokeLocks are the locks of who ends a lease.
func revokeLocks(id int64, home bool) []leaseLock {
	out := []leaseLock{{id: id, alone: true}}
	if home {
		out = append(out, leaseLock{id: id, record: true, alone: true})
	}
	return out
}

// leasesOf are the locks on leases that intents stand for, for a leader that did
// not take them itself.
func leasesOf(intents []*cmdpb.AddressedIntent) []leaseLock {
	var out []leaseLock
	for _, in := range intents {
		if a, err := keys.DecodeAddress(in.Address); err == nil && a.Kind == keys.KindLease {
			out = append(out, leaseLock{id: a.Lease, record: true, alone: true})
		}
		for _, id := range in.Intent.Marks {
			out = append(out, leaseLock{id: id, alone: true})
		}
		for _, m := range in.Intent.Mutations {
			if m.Lease != 0 {
				out = append(out, leaseLock{id: m.Lease})
			}
		}
	}
	return out
}
