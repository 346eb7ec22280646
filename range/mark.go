package ranges

import (
	"bytes"
	"errors"
	"slices"
	"time"

	"github.com/flotilladb/flotilla/internal/clock"
	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/lease"
	"github.com/flotilladb/flotilla/mvcc"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/peerpb"
)

// A mark is a range's leave to attach keys of some spans to a lease. Its leader
// has it in memory, for its term; before it takes one it has the spans noted in
// the lease's record, at the lease's home, so that a revoke finds the range.

// mark is the leave to attach keys to one lease.
type mark struct {
	number uint64  // of the grant
	spans  spanSet // user keys; all are in the record
	since  clock.Time
}

// markAgeMin is how long a mark stays though there are too many. Were it to go
// before who asked for it had its turn, requests could take the marks from each
// other for ever.
const markAgeMin = time.Second

// marks are the marks of a leader. To lose one does no harm: it is asked for
// again.
type marks struct {
	byID  map[int64]*mark
	order []markPlace // oldest first; some may be gone
	max   int
}

// markPlace is a mark in the order in which they go.
type markPlace struct {
	id    int64
	since clock.Time
}

// allows reports whether a key may be attached to a lease.
func (m *marks) allows(id int64, key []byte) bool {
	mk := m.byID[id]
	return mk != nil && mk.spans.contains(key)
}

// add takes a mark, or adds spans to it. When there are too many the oldest go.
func (m *marks) add(now clock.Time, id int64, number uint64, spans []metapb.Span) {
	mk := m.byID[id]
	if mk == nil || mk.number != number {
		if m.byID == nil {
			m.byID = make(map[int64]*mark)
		}
		mk = &mark{number: number, since: now}
		m.byID[id] = mk
		m.order = append(m.order, markPlace{id, now})
	}
	for _, s := range spans {
		if start, end, ok := keys.UserBounds(s); ok {
			mk.spans.add(metapb.Span{Start: start, End: end})
		}
	}
	for len(m.order) > m.max && now.Sub(m.order[0].since) >= markAgeMin {
		if oldest := m.order[0]; m.byID[oldest.id] != nil && m.byID[oldest.id].since == oldest.since {
			delete(m.byID, oldest.id)
		}
		m.order = m.order[1:]
	}
}

func (m *marks) drop(id int64) { delete(m.byID, id) }

func (m *marks) clear() { m.byID, m.order = nil, nil }

// registration asks a lease's home to note spans.
type registration struct {
	id      int64
	waiting []registering
	// handout is when the question leaves the store.
	handout uint64
	// spoiled: a revoke of the lease was prepared here after the home was asked.
	// What it answers may be of before the revoke.
	spoiled bool
}

// registering is a request that waits for a registration. That the lease is absent
// counts for those that came before the home was asked: to a later one an answer
// that is on its way may be of before its lease was granted.
type registering struct {
	work  *work
	early bool
}

// leaseOf says whether a key may be attached to a lease, to a request that is
// being evaluated.
func (r *Replica) leaseOf(id int64, key []byte) mvcc.LeaseState {
	switch {
	case r.marks.allows(id, key):
		return mvcc.LeaseExists
	case r.asking != nil && slices.Contains(r.asking.absent, id):
		return mvcc.LeaseAbsent
	}
	return mvcc.LeaseUnknown
}

// lacking returns what a request may attach that the range has no mark for.
func (r *Replica) lacking(w *work, uses []peerpb.LeaseUse) []peerpb.LeaseUse {
	var out []peerpb.LeaseUse
	for _, u := range uses {
		if !r.marks.allows(u.Lease, u.Key) && !slices.Contains(w.absent, u.Lease) {
			out = append(out, u)
		}
	}
	return out
}

// register lets a request wait until the homes of leases have noted that keys of
// them may be here. It holds no lock meanwhile, and takes its turn anew then: a
// registration may wait for a revoke, and that for a lock. A home may be out of reach
// for long: half of the room is left to those that need none.
func (r *Replica) register(w *work, uses []peerpb.LeaseUse) {
	w.admitted, w.ticket = false, 0
	if !r.queue.fitsAside(w, r.store.cfg.QueueBytesMax/2) {
		r.store.reply(w.req.ID, nil, peerpb.ErrOverloaded)
		return
	}
	r.queue.aside += w.bytes
	for i, u := range uses {
		if slices.ContainsFunc(uses[:i], func(o peerpb.LeaseUse) bool { return o.Lease == u.Lease }) {
			continue
		}
		w.registers++
		reg := r.regs[u.Lease]
		if reg == nil {
			reg = &registration{id: u.Lease, handout: r.store.handout}
			if r.regs == nil {
				r.regs = make(map[int64]*registration)
			}
			r.regs[u.Lease] = reg
			r.store.send(keys.Lease(u.Lease), r.registerRequest(u.Lease, uses), pushOf{rangeID: r.desc.ID(), reg: reg})
		}
		reg.waiting = append(reg.waiting, registering{w, reg.handout == r.store.handout})
	}
}

// registerHere notes where keys of leases may be whose home this very range is,
// in the entry of the put that needs it; false if it could not for one of them.
func (r *Replica) registerHere(b *batch, uses []peerpb.LeaseUse) bool {
	for _, u := range uses {
		rec, ok, _ := r.record(leaseID(u.Lease))
		if !ok || !r.desc.Contains(keys.Lease(u.Lease)) || r.locks.ending(u.Lease, true) || r.locks.ending(u.Lease, false) {
			return false
		}
		user, _ := r.desc.Span().Intersect(keys.UserSpan(nil, nil))
		if noteSpans(&rec, []metapb.Span{keys.UserKeySpan(u.Key)}, user) {
			r.writeRecord(b, rec)
		}
		r.marks.add(r.store.now, u.Lease, rec.Number, spansIn(&rec, user))
		if !r.marks.allows(u.Lease, u.Key) {
			return false
		}
	}
	return true
}

// noteSpans registers spans in a record and reports whether it changed. If others
// of a range are there, the whole of that is registered: not each key for itself.
func noteSpans(rec *lease.Record, spans []metapb.Span, in metapb.Span) (changed bool) {
	if !slices.ContainsFunc(spans, func(s metapb.Span) bool { return !rec.Covers(s) }) {
		return false
	}
	if slices.ContainsFunc(rec.Spans, in.Overlaps) {
		spans = []metapb.Span{in}
	}
	for _, s := range spans {
		rec.Register(s)
	}
	return true
}

// spansIn returns what is registered of a range.
func spansIn(rec *lease.Record, in metapb.Span) (out []metapb.Span) {
	for _, s := range rec.Spans {
		if part, ok := s.Intersect(in); ok {
			out = append(out, part)
		}
	}
	return out
}

// registerRequest asks for the keys that are needed, and says what the range is:
// if others of its keys are noted already, the whole of it is.
func (r *Replica) registerRequest(id int64, uses []peerpb.LeaseUse) *peerpb.RegisterLease {
	req := &peerpb.RegisterLease{ID: id}
	for _, u := range uses {
		if u.Lease == id {
			req.Spans = append(req.Spans, keys.UserKeySpan(u.Key))
		}
	}
	if span, ok := r.desc.Span().Intersect(keys.UserSpan(nil, nil)); ok {
		req.Range = span
	}
	return req
}

// registered takes the answer of a lease's home.
func (r *Replica) registered(reg *registration, rep peerpb.Reply) {
	if r.regs[reg.id] != reg {
		return // of another term
	}
	delete(r.regs, reg.id)
	body, _ := rep.Body.(*peerpb.Registered)
	absent := errors.Is(rep.Err, peerpb.ErrLeaseNotFound)
	// Who waits is let on in any case. If the answer does not count they ask again.
	if body != nil && rep.Err == nil && !reg.spoiled && !r.locks.ending(reg.id, false) {
		r.marks.add(r.store.now, reg.id, body.Number, body.Spans)
	}
	for _, wait := range reg.waiting {
		w := wait.work
		switch {
		case absent && wait.early:
			w.absent = append(w.absent, reg.id)
		case body == nil && !absent:
			w.failed = true
		}
		if w.registers--; w.registers == 0 {
			r.afterRegister(w)
		}
	}
}

// afterRegister lets a request take its turn that waited for registrations.
func (r *Replica) afterRegister(w *work) {
	r.queue.aside -= w.bytes
	switch {
	case w.req.Generation != r.desc.Generation: // split meanwhile
		r.store.reply(w.req.ID, nil, r.moved(w.req))
	case w.failed:
		r.store.reply(w.req.ID, nil, peerpb.ErrRefused)
	default:
		r.queue.push(w)
		r.store.mark(r)
	}
}

// dropRegistrations answers everybody who waits for one.
func (r *Replica) dropRegistrations(err error) {
	ids := make([]int64, 0, len(r.regs))
	for id := range r.regs {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	for _, id := range ids {
		for _, wait := range r.regs[id].waiting {
			w := wait.work
			if w.registers--; w.registers == 0 {
				r.store.reply(w.req.ID, nil, err)
			}
		}
	}
	r.regs = nil
}

// unmark takes a mark away, and what was asked to get it: the lease is being
// revoked.
func (r *Replica) unmark(id int64) {
	r.marks.drop(id)
	if reg := r.regs[id]; reg != nil {
		reg.spoiled = true
	}
}

// evaluateMarks answers when the range has, or cannot have, the marks that a
// transaction will need.
//
// While a revoke holds one it waits. The answer of a home whose lock died of
// age would come at once and not count, time and again, without an end.
func (r *Replica) evaluateMarks(w *work, body *peerpb.EnsureMarks) verdict {
	if !w.admitted && !r.locks.idle() && !r.admit(w, nil, usesOf(body.Uses)...) {
		return parks
	}
	if lacking := r.lacking(w, body.Uses); len(lacking) > 0 {
		r.register(w, lacking)
		return parks
	}
	r.answerRead(answer{id: w.req.ID, body: &peerpb.Marks{Absent: w.absent}})
	return taken
}

// attached returns the keys that are attached to a lease after everything that
// was evaluated, in order, and the highest batch that has to do with them.
func (r *Replica) attached(id int64) (found [][]byte, touched uint64) {
	found = r.index.Keys(leaseID(id))
	changed := make(map[string]int64)
	r.overlay.Leases(id, func(key []byte, lease int64, batch uint64) {
		changed[string(key)] = lease
		touched = max(touched, batch)
	})
	if len(changed) == 0 {
		return found, touched
	}
	kept := found[:0]
	for _, key := range found {
		if _, ok := changed[string(key)]; !ok {
			kept = append(kept, key)
		}
	}
	for key, lease := range changed {
		if lease == id {
			kept = append(kept, []byte(key))
		}
	}
	slices.SortFunc(kept, bytes.Compare)
	return kept, touched
}
