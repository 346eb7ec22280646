package ranges

import (
	"slices"

	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/mvcc"
	"github.com/flotilladb/flotilla/proto/cmdpb"
	"github.com/flotilladb/flotilla/proto/peerpb"
	"github.com/flotilladb/flotilla/proto/txnpb"
)

// evaluatePrepare locks what a transaction touches here and reads what it needs
// to see, once it is its turn. What it saw of the overlay must be applied before
// it is answered: what it is told, it may tell its client.
func (r *Replica) evaluatePrepare(b *batch, st mvcc.State, w *work, body *peerpb.Prepare) (verdict, error) {
	if body.Lock != 0 {
		return r.evaluateReadOn(b, st, w, body)
	}
	if body.Revoke != nil {
		return r.evaluateRevokePrepare(b, w, body), nil
	}
	if r.splits > 0 && !w.admitted && r.locks.get(body.Txn) == nil {
		r.hold(w) // a split waits until nothing is locked
		return parks, nil
	}
	if err := r.noRoom(); err != nil && body.Puts {
		// Not later: a revision that is refused would be a hole.
		r.store.reply(w.req.ID, nil, err)
		return taken, nil
	}
	if !w.admitted {
		admitted, err := r.lockFor(w, body)
		if err != nil {
			r.store.reply(w.req.ID, nil, err)
			return taken, nil
		}
		if !admitted {
			return parks, nil
		}
	}
	l := r.locks.get(body.Txn)
	if l == nil { // it died while the request waited
		r.store.reply(w.req.ID, nil, peerpb.ErrLockLost)
		return taken, nil
	}
	if len(body.Uses) > 0 && len(r.lacking(w, body.Uses)) > 0 {
		r.store.reply(w.req.ID, nil, peerpb.ErrMarkMissing) // what is locked is given back
		return taken, nil
	}
	return r.readFor(b, st, w, body, l)
}

// evaluateReadOn reads on for a transaction that has its locks: they keep writers
// off what it reads, so that its pages are of one state. It also shows that its
// coordinator lives, and begins the age of the lock anew.
func (r *Replica) evaluateReadOn(b *batch, st mvcc.State, w *work, body *peerpb.Prepare) (verdict, error) {
	l := r.locks.get(body.Txn)
	if l == nil || l.token != body.Lock || l.revision != 0 {
		r.store.reply(w.req.ID, nil, peerpb.ErrLockLost)
		return taken, nil
	}
	l.since = r.store.now
	return r.readFor(b, st, w, body, l)
}

// readFor reads a page of what a transaction needs to see.
func (r *Replica) readFor(b *batch, st mvcc.State, w *work, body *peerpb.Prepare, l *lock) (verdict, error) {
	if b.changes > 0 && r.readsAhead(body.Accesses) {
		return cuts, nil
	}
	cfg := &r.store.cfg
	r.overlay.ResetTouched()
	page, err := mvcc.CollectRows(st, body.Accesses, body.From, mvcc.Budget{RowsMax: cfg.EntryKeysMax, BytesMax: cfg.EntryBytesMax})
	if err != nil {
		return taken, err
	}
	r.store.looked(page.Read, page.Bytes)
	touched := r.overlay.Touched()
	if touched == b.number {
		return cuts, nil // it would see revisions that are still open
	}
	if page.Next == nil {
		// Not with each page: there may be many, and the revision comes after the last.
		l.holdUntil = max(l.holdUntil, r.store.now.Add(l.hold))
	}
	b.answers = append(b.answers, answer{
		id: w.req.ID,
		body: &peerpb.Prepared{
			Rows: page.Rows, Counts: page.Counts, Next: page.Next, Lock: l.token, Compacted: r.store.compacted, Known: r.store.known,
		},
		touched: touched,
	})
	return taken, nil
}

// readsAhead reports whether one of the accesses is to a revision that the store
// does not know to be current: a change that is still open may get it, or one
// below it.
func (r *Replica) readsAhead(accesses []peerpb.Access) bool {
	return slices.ContainsFunc(accesses, func(a peerpb.Access) bool { return a.Revision > r.store.known })
}

// lockFor asks for the locks of a prepare; false if it has to wait for them.
func (r *Replica) lockFor(w *work, body *peerpb.Prepare) (bool, error) {
	for i := range body.Accesses {
		a := &body.Accesses[i]
		if !r.desc.Span().ContainsSpan(keys.UserSpan(a.Start, a.End)) {
			return false, r.moved(w.req)
		}
	}
	r.tickets++
	w.ticket = r.tickets
	r.store.watchClock(r)
	admitted, err := r.locks.prepare(w.ticket, body.Txn, body.Accesses, r.store.now, body.Hold, usesOf(body.Uses)...)
	switch {
	case err != nil:
		return false, err
	case admitted:
		w.admitted = true
	default:
		r.park(w)
	}
	return admitted, nil
}

// acceptIntents takes a transaction's revision the moment that it arrives, long
// before its intents are logged: reads at or above it must wait from now on,
// since a later write may be applied, and so be current, before the intents.
func (r *Replica) acceptIntents(body *peerpb.WriteIntents) error {
	switch {
	case r.leading == 0 || len(body.Intents) == 0:
		return peerpb.ErrLockLost // a new leader has no locks without intents
	case body.Epoch < r.store.epoch:
		return &peerpb.RefusedRevisionError{Closed: body.Revision}
	}
	now := r.store.now
	pushAt := now.Add(r.store.cfg.IntentAgeMax)
	if err := r.locks.setRevision(body.Lock, body.Txn, body.Revision, body.Intents, pushAt, now); err != nil {
		return err
	}
	return nil
}

// evaluateIntents logs the intents that were accepted when they arrived.
func (r *Replica) evaluateIntents(b *batch, w *work, body *peerpb.WriteIntents) (verdict, error) {
	l := r.locks.get(body.Txn)
	if l == nil || l.token != body.Lock || l.revision != body.Revision || r.pending(b, l.endBatch) {
		r.store.reply(w.req.ID, nil, peerpb.ErrLockLost)
		return taken, nil
	}
	b.command(&cmdpb.Command{Kind: &cmdpb.Command_Intent{Intent: &cmdpb.IntentCommand{Intents: body.Intents}}})
	b.done(w.req.ID, &peerpb.Done{})
	return taken, nil
}

// pending reports whether what was logged with a batch is still under way.
func (r *Replica) pending(b *batch, number uint64) bool {
	return number != 0 && (number == b.number ||
		slices.ContainsFunc(r.inflight, func(b *batch) bool { return b.number == number }))
}

// evaluateRecord logs the decision to commit. It is taken only while the
// transaction's own intents are here, applied, at the record's revision: who
// aborts it takes these away, so a commit and an abort cannot both be. Who is
// told that it is aborted starts over, so they must be gone by then.
func (r *Replica) evaluateRecord(b *batch, w *work, body *peerpb.WriteRecord) (verdict, error) {
	rec := body.Record
	if r.txns.records[keyOf(rec.Id)] != nil {
		r.store.reply(w.req.ID, &peerpb.Done{}, nil)
		return taken, nil
	}
	if err := checkRecord(rec); err != nil {
		r.store.reply(w.req.ID, nil, err)
		return taken, nil
	}
	l := r.locks.get(rec.Id)
	switch {
	case l == nil || l.revision == 0:
		r.answerRead(answer{id: w.req.ID, err: peerpb.ErrTxnAborted})
		return taken, nil
	case !l.applied || l.revision != Revision(rec.Revision) || r.pending(b, l.endBatch):
		// Perhaps aborted, but not for good: what ends it may be lost, and then a
		// late copy of the record would be taken.
		r.store.reply(w.req.ID, nil, peerpb.ErrRefused)
		return taken, nil
	}
	l.recordBatch = b.number
	b.command(&cmdpb.Command{Kind: &cmdpb.Command_Record{Record: rec}})
	b.done(w.req.ID, &peerpb.Done{})
	return taken, nil
}

// evaluatePush says what became of a transaction whose record would be here. If
// it is undecided it is aborted: by taking its lock and its intents away, after
// which no record is taken.
func (r *Replica) evaluatePush(b *batch, w *work, body *peerpb.Push) (verdict, error) {
	aborted := &peerpb.Pushed{Status: txnpb.RecordStatus_ABORTED}
	if rec := r.txns.records[keyOf(body.Txn)]; rec != nil {
		r.answerRead(answer{id: w.req.ID, body: &peerpb.Pushed{
			Status: txnpb.RecordStatus_COMMITTED, Revision: Revision(rec.Revision),
		}})
		return taken, nil
	}
	l := r.locks.get(body.Txn)
	switch {
	case l == nil:
		r.answerRead(answer{id: w.req.ID, body: aborted})
	case l.revision == 0:
		r.unpark(r.locks.release(body.Txn, r.store.now))
		r.answerRead(answer{id: w.req.ID, body: aborted})
	case r.pending(b, l.recordBatch):
		r.store.reply(w.req.ID, nil, peerpb.ErrRefused) // soon decided
	default:
		r.logEnd(b, l, false)
		b.done(w.req.ID, aborted)
	}
	return taken, nil
}

// logEnd logs the end of a transaction here.
func (r *Replica) logEnd(b *batch, l *lock, commit bool) {
	l.endBatch = b.number
	b.command(&cmdpb.Command{Kind: &cmdpb.Command_Resolve{Resolve: &cmdpb.ResolveCommand{Id: l.id, Commit: commit}}})
}

// evaluateResolve ends a transaction here, or goes on with its end.
func (r *Replica) evaluateResolve(b *batch, st mvcc.State, w *work, body *peerpb.Resolve) (verdict, error) {
	l := r.locks.get(body.Txn)
	if l == nil || l.revision == 0 {
		r.forsake(body.Txn)
		r.unpark(r.locks.release(body.Txn, r.store.now))
		// When all have said so the record goes: a deposed leader may not.
		r.answerRead(answer{id: w.req.ID, body: &peerpb.Done{}})
		return taken, nil
	}
	if body.Commit && r.txns.deletes(body.Txn) {
		return r.evaluatePiece(b, st, w, l)
	}
	r.logEnd(b, l, body.Commit)
	b.done(w.req.ID, &peerpb.Done{})
	return taken, nil
}

// evaluateRelease gives back locks without intents.
func (r *Replica) evaluateRelease(_ *batch, w *work, body *peerpb.Release) (verdict, error) {
	l := r.locks.get(body.Txn)
	if l == nil {
		r.forsake(body.Txn)
	}
	held := l != nil && l.token == body.Lock && r.holdsLease()
	if l != nil && l.revision == 0 {
		r.unpark(r.locks.release(body.Txn, r.store.now))
	}
	if body.Lock != 0 && !held {
		r.store.reply(w.req.ID, nil, peerpb.ErrLockLost)
		return taken, nil
	}
	r.store.reply(w.req.ID, &peerpb.Done{}, nil)
	return taken, nil
}

// forsake sends the prepares of a transaction away that wait for locks, or for a
// split: nobody would give the locks back.
func (r *Replica) forsake(id *txnpb.TxnID) {
	r.held = slices.DeleteFunc(r.held, func(w *work) bool {
		p, ok := w.req.Body.(*peerpb.Prepare)
		if !ok || keyOf(p.Txn) != keyOf(id) {
			return false
		}
		r.queue.aside -= w.bytes
		r.store.reply(w.req.ID, nil, peerpb.ErrLockLost)
		return true
	})
	for _, t := range sortedTickets(r.parked) {
		w := r.parked[t]
		if w == nil { // let on by one before it
			continue
		}
		if p, ok := w.req.Body.(*peerpb.Prepare); ok && keyOf(p.Txn) == keyOf(id) {
			delete(r.parked, t)
			r.queue.aside -= w.bytes
			r.store.reply(w.req.ID, nil, peerpb.ErrLockLost)
			r.unpark(r.locks.remove(t, r.store.now))
		}
	}
}

// evaluateForget removes a record that nobody needs any more.
func (r *Replica) evaluateForget(b *batch, w *work, body *peerpb.Forget) (verdict, error) {
	if r.txns.records[keyOf(body.Txn)] == nil {
		r.store.reply(w.req.ID, &peerpb.Done{}, nil)
		return taken, nil
	}
	b.command(&cmdpb.Command{Kind: &cmdpb.Command_Forget{Forget: &cmdpb.ForgetCommand{Id: body.Txn, Anchor: body.Anchor}}})
	b.done(w.req.ID, &peerpb.Done{})
	return taken, nil
}
