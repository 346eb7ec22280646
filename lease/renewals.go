package lease

import (
	"math"
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
)

type stripe struct {
	mu struct {
		sync.Mutex
		byID map[ID]int32 // written by the expirer alone, which reads without mutex
	}
	_ [48]byte // one stripe in a line of the processor's cache
}

func (r *Renewals) stripe(id ID) *stripe {
	return &r.stripes[uint64(id)*0x9e3779b97f4a7c15>>(64-stripeBits)]
}

// Renew renews a lease and returns its TTL as granted; ok is false if that is for
// the expirer to decide. The lease lives from a time on that is not later than
// now.
func (r *Renewals) Renew(id ID, at clock.Time, now func() clock.Time) (ttl int64, ok bool) {
	s := r.stripe(id)
	s.mu.Lock()
	if i, found := s.mu.byID[id]; found {
		c := &(*r.chunks.Load())[i/chunkLen][i%chunkLen].cell
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
	i, ok := r.stripe(id).mu.byID[id]
	return i, ok
}

// publish makes a lease known whose cell is set.
func (r *Renewals) publish(id ID, i int32) {
	s := r.stripe(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.byID == nil {
		s.mu.byID = make(map[ID]int32)
	}
	s.mu.byID[id] = i
	r.leases++
}

// conceal makes that nobody finds a lease any more. With the last one of a stripe
// its memory goes: a map does not shrink by itself.
func (r *Renewals) conceal(id ID) {
	s := r.stripe(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.mu.byID, id)
	if len(s.mu.byID) == 0 {
		s.mu.byID = nil
	}
	r.leases--
}

// setChunks says where the cells are.
func (r *Renewals) setChunks(all []*chunk) { r.chunks.Store(&all) }
