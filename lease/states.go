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
	id           ID
	deadline     clock.Time
	ttl          int64      // seconds
	checkpointAt clock.Time // when what remains is to be persisted; 0: never

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
)

// states are all states of an expirer, by id. They lie in chunks, so that they
// are never copied when there are more, and are found by a small number, which
// is half of a pointer and nothing for the garbage collector to follow.
type states struct {
	byID   map[ID]int32
	chunks [][]state
	free   int32 // first of the unused ones
}

const chunkLen = 256

func (s *states) init() { *s = states{byID: make(map[ID]int32), free: none} }

func (s *states) at(i int32) *state { return &s.chunks[i/chunkLen][i%chunkLen] }

func (s *states) find(id ID) (i int32, st *state) {
	i, ok := s.byID[id]
	if !ok {
		return none, nil
	}
	return i, s.at(i)
}

// add makes room for a lease. REQUIRES: it has none.
func (s *states) add(id ID) (int32, *state) {
	if s.free == none {
		first := int32(len(s.chunks) * chunkLen)
		s.chunks = append(s.chunks, make([]state, chunkLen))
		for i := first + chunkLen - 1; i >= first; i-- {
			s.at(i).next, s.free = s.free, i
		}
	}
	i := s.free
	st := s.at(i)
	s.free = st.next
	*st = state{id: id, prev: none, next: none, slot: none16}
	s.byID[id] = i
	return i, st
}

// drop forgets a lease that is in no list. With the last one all memory goes:
// maps and chunks do not shrink by themselves.
func (s *states) drop(i int32) {
	st := s.at(i)
	delete(s.byID, st.id)
	if len(s.byID) == 0 {
		s.init()
		return
	}
	st.next, s.free = s.free, i
}
