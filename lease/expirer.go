package lease

import (
	"errors"
	"math"
	"time"

	"github.com/flotilladb/flotilla/internal/clock"
)

// ExpirerConfig bounds what an expirer asks for.
type ExpirerConfig struct {
	// RevokesInFlightMax bounds the revokes that were handed out and not Done, but for
	// those that take longer than RevokeSlow: a range that cannot be reached must not
	// keep leases from ending that have nothing to do with it. Of these there are
	// RevokesSlowMax at most.
	RevokesInFlightMax int
	RevokeSlow         time.Duration
	RevokesSlowMax     int
	// RevokesPerSecondMax paces them, so that a storm leaves room for other work.
	RevokesPerSecondMax int
	// RetryDelayMin and RetryDelayMax bound the wait after a failed revoke, which
	// doubles from one to the other.
	RetryDelayMin, RetryDelayMax time.Duration
	// CheckpointInterval is how often what remains of a lease is persisted, if its
	// TTL is above that. 0: never.
	CheckpointInterval time.Duration
	// CheckpointsMax bounds what Checkpoints hands out at a time.
	CheckpointsMax int
	// TickWorkMax bounds the leases that one Tick looks at.
	TickWorkMax int
}

// DefaultExpirerConfig returns what suits a range on an ordinary machine. Few
// revokes are under way at a time, so that a storm slows down by itself where they
// are expensive, over several ranges, or the machine is busy.
func DefaultExpirerConfig() ExpirerConfig {
	return ExpirerConfig{
		RevokesInFlightMax:  4,
		RevokeSlow:          time.Second,
		RevokesSlowMax:      64,
		RevokesPerSecondMax: 2000,
		RetryDelayMin:       100 * time.Millisecond,
		RetryDelayMax:       5 * time.Second,
		CheckpointInterval:  5 * time.Minute,
		CheckpointsMax:      1000,
		TickWorkMax:         4096,
	}
}

// Validate reports what is wrong with a configuration.
func (c *ExpirerConfig) Validate() error {
	switch {
	case c.RevokesInFlightMax <= 0, c.RevokesSlowMax <= 0, c.RevokesPerSecondMax <= 0, c.TickWorkMax <= 0, c.CheckpointsMax <= 0:
		return errors.New("lease: a bound of the expirer is not above 0")
	case c.RevokesPerSecondMax > int(time.Second):
		return errors.New("lease: RevokesPerSecondMax is above one in a nanosecond")
	case c.RevokeSlow <= 0, c.RetryDelayMin <= 0, c.RetryDelayMax < c.RetryDelayMin:
		return errors.New("lease: bad delays of the expirer")
	case c.CheckpointInterval < 0:
		return errors.New("lease: CheckpointInterval is negative")
	}
	return nil
}

// Due is a lease that must be revoked.
type Due struct {
	ID       ID
	Deadline clock.Time
}

// Checkpoint is what is to be written into a record. Remaining 0 clears it.
type Checkpoint struct {
	ID        ID
	Remaining int64 // seconds
}

// Expirer knows the deadlines of a range's leases while its replica leads. A new
// one is made for each term. Owned by the replica; not safe for concurrent use.
type Expirer struct {
	cfg   ExpirerConfig
	table *Table
	now   clock.Time // of the last call that said it. Invariant: never goes back.

	states states
	queue  queue
	load   load

	dues     dues
	inFlight int // states that are revoking, but for slow ones
	slow     int // these
	begun    []handout
	// paidUntil is when the revokes handed out so far would have ended at the
	// allowed pace. It may lag behind now by the burst and no more.
	paidUntil clock.Time

	clears, checkpoints fifo // wanted; some may be gone meanwhile
	out                 []Due
}

// burst is how far back unused pace is remembered.
const burst = 100 * time.Millisecond

// NewExpirer returns an expirer that knows no lease yet.
func NewExpirer(cfg ExpirerConfig) (*Expirer, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	e := &Expirer{cfg: cfg}
	e.states.init()
	return e, nil
}

// Begin is called when the replica begins to lead. It only notes the table,
// which must be the replica's own and always be ahead of what the expirer is
// told: Tick takes the leases in, portion by portion, and a call about one takes
// it in at once. From is the expirer of the left side if this is the right side
// of a split, or nil: deadlines are taken over from it as long as it has them.
func (e *Expirer) Begin(now clock.Time, table *Table, from *Expirer) {
	e.table = table
	e.Bounded()
	e.advanceTo(now)
	e.queue.init(now)
	e.paidUntil = now
	e.load.begin(now, from, max(1, e.cfg.RevokesPerSecondMax*3/4))
}

// Renewals are the expirer's deadlines for renewals that do not come to it. They
// are refused until SetLease, and for good after SetLease(0).
func (e *Expirer) Renewals() *Renewals { return e.states.index }

// Bounded is called when the table has lost leases in a split.
func (e *Expirer) Bounded() { e.states.index.setBounds(e.table.bounds) }

// Ending is called when the end of a lease begins, before anything of it can be
// seen: from then on the lease is renewed here only, when the caller knows that
// it goes on living.
func (e *Expirer) Ending(id ID) {
	if _, st := e.find(id); st != nil {
		st.shut()
	}
}

func (e *Expirer) advanceTo(now clock.Time) { e.now = max(e.now, now) }

// Granted is called when a grant is applied.
func (e *Expirer) Granted(id ID, ttl int64, now clock.Time) {
	e.advanceTo(now)
	e.Revoked(id)
	e.insert(id, ttl, deadline(e.now, ttl), 0)
}

// insert takes a lease in that has no state. The first renewal of one with flags
// has something to do that is for the expirer alone.
func (e *Expirer) insert(id ID, ttl int64, at clock.Time, f flags) {
	i, st := e.states.add(id, ttl, at, f)
	e.schedule(st, e.now)
	e.queue.push(&e.states, i, st.wake())
}

// deadline adds a TTL to a time. The largest TTL nearly fills the clock.
func deadline(now clock.Time, ttl int64) clock.Time {
	if ttl > (math.MaxInt64-int64(now))/int64(time.Second) {
		return math.MaxInt64
	}
	return now + clock.Time(ttl)*clock.Time(time.Second)
}

// schedule says when what remains of a lease is next to be persisted, which was
// renewed or persisted last at a time.
func (e *Expirer) schedule(st *state, last clock.Time) {
	st.checkpointAt = 0
	if every := e.cfg.CheckpointInterval; every > 0 && st.deadline().Sub(last) > every {
		st.checkpointAt = last.Add(every)
	}
}

// mayCheckpoint has what remains of a lease persisted if that was wanted for now
// and the lease was not renewed meanwhile, of which nobody told.
func (e *Expirer) mayCheckpoint(st *state) {
	last := e.now
	if renewed := st.deadline() - clock.Time(st.ttl)*clock.Time(time.Second); renewed.After(e.now.Add(-e.cfg.CheckpointInterval)) {
		last = min(last, renewed)
	} else if st.checkpointAt != 0 {
		e.wantCheckpoint(st)
	}
	e.schedule(st, last)
}

// wake is when somebody must look at a live lease.
func (st *state) wake() clock.Time {
	if st.checkpointAt != 0 {
		return min(st.checkpointAt, st.deadline())
	}
	return st.deadline()
}

// find returns the state of a lease, taking it in if Tick has not come to it.
func (e *Expirer) find(id ID) (int32, *state) {
	i, st := e.states.find(id)
	if st == nil && e.load.active {
		if r, ok := e.table.Get(id); ok {
			e.take(&r)
			return e.states.find(id)
		}
	}
	return i, st
}

// Renewed is called when a client renews its lease and returns the TTL as
// granted. The caller then still has to make sure that it leads. It is refused
// with ErrNotFound, ErrExpired or ErrCheckpointed.
func (e *Expirer) Renewed(id ID, now clock.Time) (ttl int64, err error) {
	e.advanceTo(now)
	i, st := e.find(id)
	switch {
	case st == nil:
		return 0, ErrNotFound
	case st.phase != live || st.claim(e.now):
		return 0, ErrExpired
	case st.flags&mayBeCheckpointed != 0:
		if st.flags&clearing == 0 {
			st.flags |= clearing
			e.clears.push(id)
		}
		return 0, ErrCheckpointed
	case st.flags&prolonged != 0: // the cell is shut: nobody else renewed it
		st.flags &^= prolonged
		e.queue.remove(&e.states, i)
		st.set(deadline(e.now, st.ttl), true)
		e.schedule(st, e.now)
		e.queue.push(&e.states, i, st.wake())
		return st.ttl, nil
	}
	// The queue is not told: it finds the new deadline when it looks.
	st.extend(deadline(e.now, st.ttl))
	return st.ttl, nil
}

// Remaining returns how long a lease has to live, never below 0.
func (e *Expirer) Remaining(id ID, now clock.Time) (time.Duration, bool) {
	e.advanceTo(now)
	_, st := e.find(id)
	if st == nil {
		return 0, false
	}
	// Who is told that nothing remains must not see it renewed.
	if st.phase != live || st.claim(e.now) {
		return 0, true
	}
	return max(0, st.deadline().Sub(e.now)), true
}

// Revoked is called when the end of a lease is applied, whoever asked for it.
func (e *Expirer) Revoked(id ID) {
	if i, st := e.states.find(id); st != nil {
		e.forget(i, st)
	}
}

func (e *Expirer) forget(i int32, st *state) {
	if st.phase == revoking {
		e.handedBack(st)
	}
	e.queue.remove(&e.states, i)
	e.states.drop(i)
}

// Tick tells the expirer what time it is and reports whether it should be called
// again at once: it looks at a bounded number of leases.
func (e *Expirer) Tick(now clock.Time) (more bool) {
	e.advanceTo(now)
	work := e.cfg.TickWorkMax
	if e.load.active {
		work = e.loadSome(work)
	}
	for ; work > 0; work-- {
		i, ok := e.queue.pop(&e.states, e.now)
		if !ok {
			return false
		}
		e.look(i, e.states.at(i))
	}
	return true
}

// look is called when the time for which a lease was queued has come, or is near.
func (e *Expirer) look(i int32, st *state) {
	switch {
	case st.phase == live && !st.claim(e.now): // renewed, or not yet, or to be persisted
		if !st.checkpointAt.After(e.now) {
			e.mayCheckpoint(st)
		}
		e.queue.push(&e.states, i, st.wake())
	case st.phase == retrying && st.checkpointAt.After(e.now):
		e.queue.push(&e.states, i, st.checkpointAt)
	case !e.table.Has(st.id): // a split took it away
		e.forget(i, st)
	default:
		st.phase = due
		e.dues.push(st)
	}
}

// Ready hands over the leases that the caller must now have revoked. The slice
// is valid until the next call.
func (e *Expirer) Ready() []Due {
	e.out = e.out[:0]
	e.passSlow()
	e.paidUntil = max(e.paidUntil, e.now.Add(-burst))
	cost := clock.Time(int(time.Second) / e.cfg.RevokesPerSecondMax)
	for e.mayRevoke() && !e.paidUntil.After(e.now) {
		id, ok := e.dues.pop()
		if !ok {
			break
		}
		_, st := e.states.find(id)
		if st == nil || st.phase != due {
			continue
		}
		e.paidUntil += cost
		e.out = append(e.out, Due{id, st.deadline()})
		e.handOut(st)
	}
	return e.out
}

// Done says what became of a revoke that Ready handed out. After an error it is
// tried again, after nil nothing remains to be done: the lease goes with Revoked.
func (e *Expirer) Done(id ID, err error) {
	i, st := e.states.find(id)
	if st == nil || st.phase != revoking {
		return
	}
	if err == nil {
		if !e.table.Has(id) { // a split took it away: nobody tells
			e.forget(i, st)
		}
		return
	}
	e.handedBack(st)
	delay := e.cfg.RetryDelayMax
	if st.attempts < 16 {
		delay = min(delay, e.cfg.RetryDelayMin<<st.attempts)
		st.attempts++
	}
	st.phase, st.checkpointAt = retrying, e.now.Add(delay)
	e.queue.push(&e.states, i, st.checkpointAt)
}

// Next returns when Tick or Ready have something to do; ok is false if nothing
// is to come. It may be too early, never too late.
func (e *Expirer) Next() (at clock.Time, ok bool) {
	if e.load.active {
		return e.now, true
	}
	at, ok = e.queue.next()
	if e.dues.len() > 0 && (e.mayRevoke() || e.slow < e.cfg.RevokesSlowMax) {
		free := e.paidUntil
		if !e.mayRevoke() {
			free = max(free, e.slowAt())
		}
		if !ok || free.Before(at) {
			return free, true
		}
	}
	return at, ok
}

// Stats are figures for metrics.
type Stats struct {
	Leases, Due, Revoking int
}

// Stats returns how many leases the expirer knows, how many of them wait to be
// revoked, at most, and how many are being revoked.
func (e *Expirer) Stats() Stats {
	return Stats{e.states.len(), e.dues.len(), e.inFlight + e.slow}
}

// fifo is a queue of leases.
type fifo struct {
	ids  []ID
	head int
}

func (f *fifo) len() int   { return len(f.ids) - f.head }
func (f *fifo) push(id ID) { f.ids = append(f.ids, id) }

func (f *fifo) pop() (ID, bool) {
	if f.head == len(f.ids) {
		*f = fifo{}
		return 0, false
	}
	id := f.ids[f.head]
	f.head++
	if f.head >= 1024 && f.head*2 >= len(f.ids) {
		f.ids = append([]ID(nil), f.ids[f.head:]...)
		f.head = 0
	}
	return id, true
}
