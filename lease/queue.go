package lease

import (
	"math/bits"

	"github.com/flotilladb/flotilla/internal/clock"
)

// queue holds leases by the time at which somebody must look at them. It is a
// wheel of wheels: a lease that is wanted far in the future lies in a coarse
// slot and is put into a finer one when that opens. Taking one in and out costs
// the same whatever waits; a heap would pay for every lease that was renewed,
// and would need a place in each lease besides.
//
// A renewal does not touch the queue at all: who finds on looking that a lease
// has more time puts it back.
//
// Slots are lists through the leases themselves. Each slot of level n spans
// 64^n ticks. Invariant: the tick of a lease in a slot of level n is that of the
// cursor in all groups of 6 bits above n, and higher in group n.
type queue struct {
	slots  [levels * slotsPerLevel]int32 // first lease of each list, or none
	used   [levels]uint64                // which slots of a level have leases
	ready  int32                         // leases of an opened slot, to be looked at
	cursor uint64                        // every tick up to it was opened
}

const (
	tickBits      = 24 // a tick is 2^24 ns, 16.8 ms
	levelBits     = 6
	slotsPerLevel = 1 << levelBits
	levels        = 7 // 64^7 ticks are more than clock.Time can say

	none   int32  = -1
	none16 uint16 = levels * slotsPerLevel
)

func (q *queue) init(now clock.Time) {
	for i := range q.slots {
		q.slots[i] = none
	}
	q.used, q.ready, q.cursor = [levels]uint64{}, none, uint64(now)>>tickBits
}

// tickOf is the first tick that is not before a time.
func tickOf(t clock.Time) uint64 { return (uint64(max(t, 0)) + 1<<tickBits - 1) >> tickBits }

// push takes a lease in, to be looked at when the time has come.
// REQUIRES: it is in no list.
func (q *queue) push(s *states, i int32, at clock.Time) {
	st, head := s.at(i), &q.ready
	st.slot = none16
	if tick := tickOf(at); tick > q.cursor {
		level := (bits.Len64(tick^q.cursor) - 1) / levelBits
		slot := tick >> (level * levelBits) % slotsPerLevel
		q.used[level] |= 1 << slot
		st.slot = uint16(level*slotsPerLevel) + uint16(slot)
		head = &q.slots[st.slot]
	}
	st.prev, st.next = none, *head
	if *head != none {
		s.at(*head).prev = i
	}
	*head = i
}

// remove takes a lease out. It may be in no list.
func (q *queue) remove(s *states, i int32) {
	st := s.at(i)
	switch {
	case st.prev != none:
		s.at(st.prev).next = st.next
	case q.ready == i: // perhaps out of a slot that was opened, and has others now
		q.ready = st.next
	case st.slot != none16 && q.slots[st.slot] == i:
		q.slots[st.slot] = st.next
		if st.next == none {
			q.used[st.slot/slotsPerLevel] &^= 1 << (st.slot % slotsPerLevel)
		}
	}
	if st.next != none {
		s.at(st.next).prev = st.prev
	}
	st.slot, st.prev, st.next = none16, none, none
}

// pop takes out a lease that must be looked at, of those wanted up to now. Of a
// coarse slot they come although their time has not: they are pushed again.
func (q *queue) pop(s *states, now clock.Time) (i int32, ok bool) {
	for q.ready == none {
		tick, slot, ok := q.earliest()
		if !ok || tick > uint64(now)>>tickBits {
			q.cursor = max(q.cursor, uint64(now)>>tickBits)
			return none, false
		}
		q.cursor = tick
		q.ready, q.slots[slot] = q.slots[slot], none
		q.used[slot/slotsPerLevel] &^= 1 << (slot % slotsPerLevel)
	}
	i = q.ready
	q.remove(s, i)
	return i, true
}

// earliest returns the first slot that has leases, and the tick at which it
// opens. Every finer slot comes before every coarser one.
func (q *queue) earliest() (tick uint64, slot uint16, ok bool) {
	for level := range levels {
		if q.used[level] == 0 {
			continue
		}
		shift := level * levelBits
		i := bits.TrailingZeros64(q.used[level])
		tick = q.cursor>>shift&^(slotsPerLevel-1) | uint64(i)
		return tick << shift, uint16(level*slotsPerLevel + i), true
	}
	return 0, 0, false
}

// next is when the first slot opens.
func (q *queue) next() (at clock.Time, ok bool) {
	if q.ready != none {
		return clock.Time(q.cursor << tickBits), true
	}
	tick, _, ok := q.earliest()
	return clock.Time(tick << tickBits), ok
}
