package gossip

import (
	"cmp"
	"fmt"
	"slices"
	"sync"

	"github.com/flotilladb/flotilla/proto/metapb"
)

// Status is what is known of a member.
type Status uint8

// The states of a member.
const (
	// Alive members answer.
	Alive Status = iota + 1
	// Suspected ones did not answer this node's last probe. They are Alive again, or
	// Failed, in a few seconds.
	Suspected
	// Failed ones answer nobody. They are remembered, because they may come back.
	Failed
	// Left ones said that they would end.
	Left
)

func (s Status) String() string {
	switch s {
	case Alive:
		return "alive"
	case Suspected:
		return "suspected"
	case Failed:
		return "failed"
	case Left:
		return "left"
	}
	return fmt.Sprintf("status(%d)", uint8(s))
}

// Event says what has changed of a store, other than this one.
type Event struct {
	Member Member
	Status Status
	// Conflict is another address at which a process claims to be this start of
	// the store: a data folder was copied.
	Conflict string
}

// book is what a node knows of the members, and which changes nobody was told yet.
type book struct {
	self Member // only its ids

	mu struct {
		sync.Mutex
		known   map[metapb.StoreID]Event
		changed map[metapb.StoreID]Event
		gone    map[metapb.StoreID]bool // forgotten, for good
		wake    chan struct{}           // has a value when changed is not empty
	}
}

func newBook(self Member) *book {
	b := &book{self: self}
	b.mu.known = make(map[metapb.StoreID]Event)
	b.mu.changed = make(map[metapb.StoreID]Event)
	b.mu.gone = make(map[metapb.StoreID]bool)
	b.mu.wake = make(chan struct{}, 1)
	return b
}

// set notes a member's state. Word of an earlier start than the one that is known
// is old, and so is word of this store before its present start. For the same start a
// member that does not change is no event.
func (b *book) set(m Member, s Status) {
	b.mu.Lock()
	defer b.mu.Unlock()
	old, known := b.mu.known[m.Store]
	if known && m.Start < old.Member.Start || m.Store == b.self.Store && m.Start <= b.self.Start || b.mu.gone[m.Store] {
		return
	}
	b.noteLocked(Event{Member: m, Status: s})
}

// suspect notes that a member did not answer.
func (b *book) suspect(id string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if e, ok := b.findLocked(id); ok && e.Status == Alive {
		e.Status = Suspected
		b.noteLocked(e)
	}
}

// hear notes that a member is said to be alive.
func (b *book) hear(id string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if e, ok := b.findLocked(id); ok && e.Status == Suspected {
		e.Status = Alive
		b.noteLocked(e)
	}
}

// conflict notes that a second process claims to be a member, maybe this one.
func (b *book) conflict(m Member, s Status, addr string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if e, ok := b.mu.known[m.Store]; ok {
		s = e.Status
	}
	b.queueLocked(Event{Member: m, Status: s, Conflict: addr})
}

func (b *book) findLocked(id string) (Event, bool) {
	for _, e := range b.mu.known {
		if e.Member.id() == id {
			return e, true
		}
	}
	return Event{}, false
}

func (b *book) noteLocked(e Event) {
	b.mu.known[e.Member.Store] = e
	if queued, ok := b.mu.changed[e.Member.Store]; ok {
		e.Conflict = queued.Conflict
	}
	b.queueLocked(e)
}

func (b *book) queueLocked(e Event) {
	b.mu.changed[e.Member.Store] = e
	select {
	case b.mu.wake <- struct{}{}:
	default:
	}
}

// take returns the changes since the last take, by store.
func (b *book) take() []Event {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := sorted(b.mu.changed)
	clear(b.mu.changed)
	return out
}

// all returns what is known, by store.
func (b *book) all() []Event {
	b.mu.Lock()
	defer b.mu.Unlock()
	return sorted(b.mu.known)
}

// forget drops a store that is no longer of the cluster. Its id is never used again.
func (b *book) forget(store metapb.StoreID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mu.gone[store] = true
	delete(b.mu.known, store)
	delete(b.mu.changed, store)
}

func sorted(m map[metapb.StoreID]Event) []Event {
	out := make([]Event, 0, len(m))
	for _, e := range m {
		out = append(out, e)
	}
	slices.SortFunc(out, func(a, b Event) int { return cmp.Compare(a.Member.Store, b.Member.Store) })
	return out
}
