package lease

import "github.com/flotilladb/flotilla/internal/clock"

// A revoke may take as long as a range with keys of the lease cannot be reached. Such
// revokes are few at a time, but must not be all that is done.

// dues are leases that wait for their revoke, by the time they were found due; some may
// be gone meanwhile.
type dues struct {
	first fifo // it was not tried yet
	again fifo // it failed, and may do so once more
	turns int
}

func (d *dues) len() int { return d.first.len() + d.again.len() }

func (d *dues) push(st *state) {
	if st.attempts > 0 {
		d.again.push(st.id)
	} else {
		d.first.push(st.id)
	}
}

// againEvery is the part of the turns that those have which failed, while others wait.
const againEvery = 4

func (d *dues) pop() (ID, bool) {
	d.turns++
	one, other := &d.first, &d.again
	if d.turns%againEvery == 0 {
		one, other = other, one
	}
	if id, ok := one.pop(); ok {
		return id, true
	}
	return other.pop()
}

// handout is a revoke that was handed out.
type handout struct {
	id ID
	at clock.Time
}

// handOut notes a revoke that is handed out.
func (e *Expirer) handOut(st *state) {
	st.phase, st.checkpointAt = revoking, e.now
	e.inFlight++
	e.begun = append(e.begun, handout{st.id, e.now})
}

// handedBack notes that one is over.
func (e *Expirer) handedBack(st *state) {
	if st.flags&slow != 0 {
		st.flags &^= slow
		e.slow--
	} else {
		e.inFlight--
	}
}

// passSlow lets others go on beside revokes that take long, as many as may be.
func (e *Expirer) passSlow() {
	for len(e.begun) > 0 && e.slow < e.cfg.RevokesSlowMax && !e.slowAt().After(e.now) {
		h := e.begun[0]
		e.begun = e.begun[1:]
		if _, st := e.states.find(h.id); st != nil && st.phase == revoking && st.checkpointAt == h.at {
			st.flags |= slow
			e.inFlight--
			e.slow++
		}
	}
	if len(e.begun) == 0 {
		e.begun = nil
	}
}

// slowAt is when the oldest revoke that is handed out is slow, or was.
func (e *Expirer) slowAt() clock.Time {
	if len(e.begun) == 0 {
		return e.now.Add(e.cfg.RevokeSlow)
	}
	return e.begun[0].at.Add(e.cfg.RevokeSlow)
}

func (e *Expirer) mayRevoke() bool { return e.inFlight < e.cfg.RevokesInFlightMax }
