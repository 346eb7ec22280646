package lease

import "github.com/flotilladb/flotilla/internal/clock"

// phase is where a lease stands with its leader.
type phase uint8

const (
	live     phase = iota
	due            // its deadline has passed; it waits for its turn
	revoking       // handed out by Ready
	retrying       // a revoke failed; it is due again after a while
)

// state is what a leader knows of a lease beyond its record. There may be a
// million: every field counts.
type state struct {
	cell
	id           ID
	checkpointAt clock.Time // when what remains is to be persisted; retrying, when it is due again; revoking, when it was handed out; 0: never

	prev, next int32  // in a list of the queue, or of the free
	slot       uint16 // of the queue; see there
	phase      phase
	flags      flags
	attempts   uint8 // revokes that failed
}

// flags of a state.
type flags uint8

const (
	// mayBeCheckpointed: the record holds a checkpoint, or one was handed out and
	// may be on its way.
	mayBeCheckpointed flags = 1 << iota
	// clearing: a renewal waits for the record to be cleared.
	clearing
	// queuedCheckpoint: it waits to be handed out.
	queuedCheckpoint
	// prolonged: the deadline is later than the TTL says, which a new leader gave;
	// a renewal ends that.
	prolonged
	// slow: its revoke was handed out so long ago that others go on beside it.
	slow
)

// states are all states of an expirer, by id. They lie in chunks, so that they
// are never copied when there are more, and are found by a small number, which
// is half of a pointer and nothing for the garbage collector to follow.
type states struct {
	index  *Renewals
	chunks []*chunk
	free   int32 // first of the unused ones
}

const chunkLen = 256

type chunk [chunkLen]state

func (s *states) init() {
	if s.index == nil {
		s.index = &Renewals{}
	}
	s.chunks, s.free = nil, none
	s.index.setChunks(nil)
}

func (s *states) len() int { return s.index.leases }

func (s *states) at(i int32) *state { return &s.chunks[i/chunkLen][i%chunkLen] }

func (s *states) find(id ID) (i int32, st *state) {
	i, ok := s.index.lookup(id)
	if !ok {
		return none, nil
	}
	return i, s.at(i)
}

// add makes room for a lease. REQUIRES: it has none.
func (s *states) add(id ID, ttl int64, at clock.Time, f flags) (int32, *state) {
	if s.free == none {
		first := int32(len(s.chunks) * chunkLen)
		s.chunks = append(s.chunks, new(chunk))
		s.index.setChunks(s.chunks)
		for i := first + chunkLen - 1; i >= first; i-- {
			s.at(i).next, s.free = s.free, i
		}
	}
	i := s.free
	st := s.at(i)
	s.free = st.next
	st.id, st.checkpointAt = id, 0
	st.prev, st.next, st.slot = none, none, none16
	st.phase, st.flags, st.attempts = live, f, 0
	st.ttl = ttl
	st.set(at, f == 0)
	s.index.publish(id, i)
	return i, st
}

// drop forgets a lease that is in no list. With the last one all memory goes:
// maps and chunks do not shrink by themselves.
func (s *states) drop(i int32) {
	st := s.at(i)
	s.index.conceal(st.id)
	if s.len() == 0 {
		s.init()
		return
	}
	st.next, s.free = s.free, i
}
