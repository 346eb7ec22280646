package lease

import (
	"math"
	"math/bits"
	"sync"
	"sync/atomic"

	"github.com/flotilladb/flotilla/internal/clock"
)

// cell is what decides between a renewal and the end of a lease: one word, its
// deadline, negative while only the expirer may renew it. Clients' goroutines
// change it from one open deadline to a later one, the expirer in any way;
// whoever comes second finds that the word is another.
type cell struct {
	word atomic.Int64
	ttl  int64 // seconds; not changed while the lease can be found
}

// deadline is when the lease is to end, open or not.
func (c *cell) deadline() clock.Time { return clock.Time(abs(c.word.Load())) }

func (c *cell) open() bool { return c.word.Load() > 0 }

func abs(w int64) int64 { return max(w, -w) }

// set says what the deadline is. REQUIRES: the cell is shut, or nobody finds it.
func (c *cell) set(at clock.Time, open bool) {
	w := max(1, int64(at))
	if !open {
		w = -w
	}
	c.word.Store(w)
}

// shut leaves renewals to the expirer and returns the deadline that stays.
func (c *cell) shut() clock.Time {
	for {
		w := c.word.Load()
		if w < 0 || c.word.CompareAndSwap(w, -w) {
			return clock.Time(abs(w))
		}
	}
}

// claim shuts the cell if the deadline has passed, and reports whether it has.
// From then on nobody renews the lease.
func (c *cell) claim(now clock.Time) bool {
	for {
		w := c.word.Load()
		if clock.Time(abs(w)).After(now) {
			return false
		}
		if w < 0 || c.word.CompareAndSwap(w, -w) {
			return true
		}
	}
}

// extend opens the cell and moves the deadline to a time, never back. It is the
// expirer's: the lease is live.
func (c *cell) extend(at clock.Time) {
	for {
		w := c.word.Load()
		if c.word.CompareAndSwap(w, max(abs(w), int64(at))) {
			return
		}
	}
}

// renew moves the deadline if the cell is open and its deadline has not passed.
func (c *cell) renew(now clock.Time) bool {
	for {
		w := c.word.Load()
		if w <= int64(now) { // shut, too: then it is negative
			return false
		}
		if c.word.CompareAndSwap(w, max(w, int64(deadline(now, c.ttl)))) {
			return true
		}
	}
}

// Forever is an end of a leaderLease that does not come by itself: the leader is
// alone in its group.
const Forever clock.Time = math.MaxInt64

// Renewals are the deadlines of an expirer, for renewals from any goroutine: they
// need not go through whoever drives the expirer. What such a renewal must not
// decide is left to the expirer: a lease that is not found or not taken in yet,
// whose deadline passed, whose end has begun, whose record holds a checkpoint.
//
// A lease is found only under the mutex of its stripe, so what was found is not
// dropped, nor its place given to another, while it is renewed.
type Renewals struct {
	until atomic.Int64 // of the leaderLease; 0: none
	// bounds are the ids whose home the range is.
	bounds  atomic.Pointer[idBounds]
	chunks  atomic.Pointer[[]*chunk]
	leases  int // the expirer's
	stripes [stripes]stripe
}

const (
	stripeBits = 6
	stripes    = 1 << stripeBits
	// slotsMin is the least number of slots of a stripe that has leases. A power of 2.
	slotsMin = 8
)

// stripe is the part of the leases with the same first bits of the hash: a table
// of their places, in which who finds its slot taken lies in the next free one.
// It takes a quarter of what a map takes.
type stripe struct {
	mu struct {
		sync.Mutex
		// slots are places, counted from 1, or 0. Written by the expirer alone, which
		// reads without mutex. At most three in four are used.
		slots []int32
		used  int
	}
	_ [24]byte // one stripe in a line of the processor's cache
}

func hashOf(id ID) uint64 { return uint64(id) * 0x9e3779b97f4a7c15 }

func (r *Renewals) stripe(id ID) *stripe { return &r.stripes[hashOf(id)>>(64-stripeBits)] }

// home is the slot where a lease would best lie.
func (s *stripe) home(id ID) int {
	n := len(s.mu.slots)
	return int(hashOf(id) << stripeBits >> (64 - bits.Len(uint(n-1))))
}

// find returns the slot of a lease, or the free one that ends the search.
// REQUIRES: there are slots.
func (s *stripe) find(chunks []*chunk, id ID) (slot int, found bool) {
	mask := len(s.mu.slots) - 1
	for slot = s.home(id); s.mu.slots[slot] != 0; slot = (slot + 1) & mask {
		if place(chunks, s.mu.slots[slot]-1).id == id {
			return slot, true
		}
	}
	return slot, false
}

func place(chunks []*chunk, i int32) *state { return &chunks[i/chunkLen][i%chunkLen] }

// get returns the place of a lease.
func (s *stripe) get(chunks []*chunk, id ID) (i int32, found bool) {
	if s.mu.used == 0 {
		return none, false
	}
	slot, found := s.find(chunks, id)
	return s.mu.slots[slot] - 1, found
}

// grow makes room for one more.
func (s *stripe) growLocked(chunks []*chunk) {
	old := s.mu.slots
	if (s.mu.used+1)*4 <= len(old)*3 {
		return
	}
	s.mu.slots = make([]int32, max(slotsMin, 2*len(old)))
	for _, i := range old {
		if i != 0 {
			slot, _ := s.find(chunks, place(chunks, i-1).id)
			s.mu.slots[slot] = i
		}
	}
}

// dropLocked frees a slot, and moves up who lies behind it for want of a better.
func (s *stripe) dropLocked(chunks []*chunk, slot int) {
	mask := len(s.mu.slots) - 1
	for next := (slot + 1) & mask; s.mu.slots[next] != 0; next = (next + 1) & mask {
		home := s.home(place(chunks, s.mu.slots[next]-1).id)
		if (next-home)&mask >= (next-slot)&mask {
			s.mu.slots[slot] = s.mu.slots[next]
			slot = next
		}
	}
	s.mu.slots[slot] = 0
}

// Renew renews a lease and returns its TTL as granted; ok is false if that is for
// the expirer to decide. The lease lives from a time on that is not later than
// now.
func (r *Renewals) Renew(id ID, at clock.Time, now func() clock.Time) (ttl int64, ok bool) {
	s := r.stripe(id)
	s.mu.Lock()
	chunks := *r.chunks.Load()
	if i, found := s.get(chunks, id); found {
		c := &place(chunks, i).cell
		ttl, ok = c.ttl, c.renew(at)
	}
	s.mu.Unlock()
	// After the renewal: if the replica still led then, whoever leads next gives
	// the lease no less.
	return ttl, ok && r.holds(id, now)
}

// holds reports whether the range may answer from memory, and is the lease's home.
func (r *Renewals) holds(id ID, now func() clock.Time) bool {
	until := clock.Time(r.until.Load())
	if until != Forever && (until == 0 || !now().Before(until)) {
		return false
	}
	b := r.bounds.Load()
	return b != nil && b.contains(id)
}

// SetLease says until when the leader may answer from memory: 0, not any more.
func (r *Renewals) SetLease(until clock.Time) { r.until.Store(int64(until)) }

// setBounds says which leases have their home here.
func (r *Renewals) setBounds(b idBounds) { r.bounds.Store(&b) }

// What follows is for the expirer alone.

// lookup finds a lease's place.
func (r *Renewals) lookup(id ID) (int32, bool) {
	return r.stripe(id).get(*r.chunks.Load(), id)
}

// publish makes a lease known whose cell is set. REQUIRES: it was not.
func (r *Renewals) publish(id ID, i int32) {
	s, chunks := r.stripe(id), *r.chunks.Load()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.growLocked(chunks)
	slot, _ := s.find(chunks, id)
	s.mu.slots[slot] = i + 1
	s.mu.used++
	r.leases++
}

// conceal makes that nobody finds a lease any more. With the last one of a stripe
// its memory goes.
func (r *Renewals) conceal(id ID) {
	s, chunks := r.stripe(id), *r.chunks.Load()
	s.mu.Lock()
	defer s.mu.Unlock()
	slot, found := s.find(chunks, id)
	if !found {
		return
	}
	s.dropLocked(chunks, slot)
	if s.mu.used--; s.mu.used == 0 {
		s.mu.slots = nil
	}
	r.leases--
}

// setChunks says where the cells are.
func (r *Renewals) setChunks(all []*chunk) { r.chunks.Store(&all) }
