package lease

import (
	"time"

	"github.com/flotilladb/flotilla/internal/clock"
)

// A new leader knows of each lease what was granted, or a checkpoint, and lets it
// live that long from now on. If many would then expire in the same second,
// because their clients went away with the old leader or all TTLs are equal, the
// later ones are given more time, so that revokes come at a pace that is kept
// anyway. Clients that are there renew, and then nothing remains of it.

// load is the taking in of a table's leases.
type load struct {
	active  bool
	begun   clock.Time
	nextID  ID       // the first that was not looked at
	from    *Expirer // may know better
	perSec  int
	seconds map[int64]second // since begun
}

// second says how many deadlines were put into a second, and where to look once
// it is full.
type second struct {
	leases int
	next   int64
}

func (l *load) begin(now clock.Time, from *Expirer, perSec int) {
	*l = load{active: true, begun: now, from: from, perSec: perSec, seconds: make(map[int64]second)}
}

// loadSome takes in what is left of the table, as far as the work allows, and
// returns what is left of that.
func (e *Expirer) loadSome(work int) int {
	l := &e.load
	done := true
	e.table.Ascend(l.nextID, func(r Record) bool {
		if work == 0 {
			l.nextID, done = r.ID, false
			return false
		}
		work--
		if _, st := e.states.find(r.ID); st == nil {
			e.take(&r)
		}
		return true
	})
	if done {
		e.load = load{}
	}
	return work
}

// take takes in a lease of the table.
func (e *Expirer) take(r *Record) {
	l := &e.load
	if l.from != nil {
		if i, st := l.from.states.find(r.ID); st != nil {
			// Not renewed there any more, and so not what is taken over too little.
			at, f := st.shut(), st.flags&(mayBeCheckpointed|prolonged)
			l.from.forget(i, st)
			e.insert(r.ID, r.TTL, at, f|checkpointed(r))
			return
		}
	}
	ttl := r.TTL
	if r.Remaining > 0 {
		ttl = min(ttl, r.Remaining)
	}
	at, f := deadline(l.begun, ttl), checkpointed(r)
	if wait := l.spread(ttl) - ttl; wait > 0 {
		at, f = deadline(at, wait), f|prolonged
	}
	e.insert(r.ID, r.TTL, at, f)
}

func checkpointed(r *Record) flags {
	if r.Remaining > 0 {
		return mayBeCheckpointed
	}
	return 0
}

// spread returns the first second from s on that is not full, and counts it.
func (l *load) spread(s int64) int64 {
	at := s
	for l.seconds[at].leases >= l.perSec {
		at = max(at+1, l.seconds[at].next)
	}
	// Who comes next at s need not walk the same way: it is full all along.
	if at != s {
		full := l.seconds[s]
		full.next = at
		l.seconds[s] = full
	}
	sec := l.seconds[at]
	sec.leases++
	l.seconds[at] = sec
	return at
}

// wantCheckpoint has what remains of a lease persisted.
func (e *Expirer) wantCheckpoint(st *state) {
	if st.flags&(queuedCheckpoint|clearing) == 0 {
		st.flags |= queuedCheckpoint
		e.checkpoints.push(st.id)
	}
}

// Checkpoints hands over what the caller must have written into records: first
// what renewals wait for, then what remains of long leases. The caller may wait
// with the latter as long as it likes.
func (e *Expirer) Checkpoints(now clock.Time) []Checkpoint {
	e.advanceTo(now)
	var out []Checkpoint
	for len(out) < e.cfg.CheckpointsMax {
		id, ok := e.clears.pop()
		if !ok {
			break
		}
		if _, st := e.states.find(id); st != nil && st.flags&clearing != 0 {
			out = append(out, Checkpoint{ID: id})
		}
	}
	for len(out) < e.cfg.CheckpointsMax {
		id, ok := e.checkpoints.pop()
		if !ok {
			break
		}
		_, st := e.states.find(id)
		if st == nil || st.flags&queuedCheckpoint == 0 {
			continue
		}
		st.flags &^= queuedCheckpoint
		if st.phase != live || st.flags&clearing != 0 {
			continue
		}
		// From here on a renewal comes here, and has it cleared.
		if left := st.shut().Sub(e.now); left > 0 {
			st.flags |= mayBeCheckpointed
			out = append(out, Checkpoint{id, int64((left + time.Second - 1) / time.Second)})
		}
	}
	return out
}

// CheckpointDone says what became of a checkpoint. Nil: it is applied.
func (e *Expirer) CheckpointDone(c Checkpoint, err error) {
	_, st := e.states.find(c.ID)
	if st == nil || c.Remaining != 0 || st.flags&clearing == 0 {
		return // a failed checkpoint may still be applied: the flag stays
	}
	st.flags &^= clearing
	if err == nil {
		st.flags &^= mayBeCheckpointed
	}
}
