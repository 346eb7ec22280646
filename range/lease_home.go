package ranges

import (
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/lease"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/peerpb"
	"github.com/flotilladb/flotilla/proto/txnpb"
)

// evaluateLease evaluates what a lease's home decides in its turn.
func (r *Replica) evaluateLease(b *batch, w *work) (verdict, bool) {
	switch body := w.req.Body.(type) {
	case *peerpb.GrantLease:
		return r.evaluateGrant(b, w, body), true
	case *peerpb.RegisterLease:
		return r.evaluateRegister(b, w, body), true
	case *peerpb.RevokeLease:
		return r.evaluateRevoke(b, w, body), true
	case *peerpb.RemoveLease:
		return r.evaluateRemove(b, w, body), true
	case *peerpb.CheckpointLeases:
		r.evaluateCheckpoints(b, body)
		return taken, true
	case *peerpb.EnsureMarks:
		return r.evaluateMarks(w, body), true
	}
	return taken, false
}

// told answers a request by what was evaluated in a batch or before.
func (b *batch) told(w *work, body any, err error, touched uint64) {
	b.answers = append(b.answers, answer{id: w.req.ID, body: body, err: err, touched: touched})
}

// evaluateGrant writes the record of a new lease.
func (r *Replica) evaluateGrant(b *batch, w *work, body *peerpb.GrantLease) verdict {
	if !w.admitted && !r.locks.idle() && !r.admit(w, nil, leaseLock{id: body.ID, record: true, alone: true}) {
		return parks
	}
	switch rec, ok, batch := r.record(leaseID(body.ID)); {
	case ok && rec.Number == body.Number:
		b.told(w, &peerpb.Done{}, nil, batch)
	case ok:
		b.told(w, nil, lease.ErrExists, batch)
	default:
		if err := r.noRoom(); err != nil {
			r.store.reply(w.req.ID, nil, err)
			return taken
		}
		r.writeRecord(b, lease.Record{ID: leaseID(body.ID), TTL: body.TTL, Number: body.Number})
		b.done(w.req.ID, &peerpb.Done{})
	}
	return taken
}

// evaluateRegister notes where keys of a lease may be. While the lease is being
// revoked it waits: the revoke has read the record, and would not find them.
func (r *Replica) evaluateRegister(b *batch, w *work, body *peerpb.RegisterLease) verdict {
	if !w.admitted && !r.locks.idle() && !r.admit(w, nil, leaseLock{id: body.ID, record: true}) {
		return parks
	}
	rec, ok, batch := r.record(leaseID(body.ID))
	if !ok {
		b.told(w, nil, peerpb.ErrLeaseNotFound, batch)
		return taken
	}
	changed := noteSpans(&rec, body.Spans, body.Range)
	out := &peerpb.Registered{Number: rec.Number, Spans: spansIn(&rec, body.Range)}
	if changed {
		r.writeRecord(b, rec)
		b.done(w.req.ID, out)
	} else {
		b.told(w, out, nil, batch) // durable before it is told
	}
	return taken
}

// notDue reports whether a lease that was to be revoked because it expired has
// not: another leader may have found so, and this one given it more time; or the one
// that expired has ended, and the id was granted again, which may not be applied yet.
func (r *Replica) notDue(rec *lease.Record, expired bool) bool {
	if !expired {
		return false
	}
	known, ok := r.table.Get(rec.ID)
	return r.expirer == nil || !ok || known.Number != rec.Number || r.remaining(int64(rec.ID)) > 0
}

// evaluateRevoke ends a lease whose keys can only be here, if nothing is locked
// that it needs. It is one entry, like a delete.
func (r *Replica) evaluateRevoke(b *batch, w *work, body *peerpb.RevokeLease) verdict {
	rec, ok, touched := r.record(leaseID(body.ID))
	switch {
	case !ok:
		b.told(w, nil, peerpb.ErrLeaseNotFound, touched)
		return taken
	case r.notDue(&rec, body.Expired):
		b.told(w, nil, peerpb.ErrLeaseNotDue, 0)
		return taken
	case slices.ContainsFunc(rec.Spans, func(s metapb.Span) bool { return !r.desc.Span().ContainsSpan(s) }):
		b.told(w, nil, peerpb.ErrNeedsTxn, 0)
		return taken
	}
	found, _ := r.attached(body.ID)
	if !r.locks.idle() && r.locks.blocks(found, revokeLocks(body.ID, true)) {
		b.told(w, nil, peerpb.ErrNeedsTxn, 0)
		return taken
	}
	switch size := sizeOf(found, 1, tombstoneBytes); {
	case r.namesLease(size):
		b.told(w, nil, peerpb.ErrNeedsTxn, 0)
		return taken
	case r.store.many && size > 2*r.store.cfg.RevokeBytesMax:
		b.told(w, nil, peerpb.ErrTooLarge, 0)
		return taken
	}
	r.unmark(body.ID)
	resp := &pb.DeleteRangeResponse{Header: &pb.ResponseHeader{}, Deleted: int64(len(found))}
	place := b.changes
	if len(found) > 0 {
		rev := b.open()
		resp.Header.Revision = int64(rev)
		muts := leaseTombstones(body.ID, found)
		r.overlay.Add(b.number, rev, muts)
		b.update(rev, muts)
		b.asks = true
		for _, key := range found {
			b.bytes += len(key)
		}
	}
	r.deleteRecord(b, leaseID(body.ID))
	b.answers = append(b.answers, answer{id: w.req.ID, body: resp, changed: true, place: place})
	return taken
}

// What a key of a lease takes, and more, in an answer, as a tombstone and as an intent:
// the key itself, once or twice, and so much beside it.
const (
	foundBytes     = 8
	tombstoneBytes = 64
	intentBytes    = 128
)

// sizeOf is what keys take, each so many times and with so much beside it.
func sizeOf(found [][]byte, times, each int) int {
	size := each * len(found)
	for _, key := range found {
		size += times * len(key)
	}
	return size
}

// namesLease reports whether a revoke names the lease, and not its keys, which take so much.
func (r *Replica) namesLease(size int) bool {
	return size > r.store.cfg.RevokeNamesMax && r.store.format.Has(metapb.LeaseSpans)
}

// leaseTombstones are the deletions of a lease's keys, in their order.
func leaseTombstones(id int64, found [][]byte) []*txnpb.Mutation {
	room := make([]txnpb.Mutation, len(found))
	muts := make([]*txnpb.Mutation, len(found))
	for i, key := range found {
		muts[i] = &room[i]
		muts[i].Key, muts[i].Sub, muts[i].Tombstone, muts[i].Existed, muts[i].PrevLease = key, uint32(i), true, true, id
	}
	return muts
}

// blocks reports whether somebody locks, or waits for, one of the keys or leases.
func (t *lockTable) blocks(found [][]byte, leases []leaseLock) bool {
	return t.leases.conflicts(nil, leases, true) || slices.ContainsFunc(found, func(key []byte) bool {
		s := pointSpan(key)
		return t.conflicts(s.Start, s.End)
	})
}

// evaluateRemove ends a lease that has no keys, for a transaction that holds it
// and every range that could attach some.
func (r *Replica) evaluateRemove(b *batch, w *work, body *peerpb.RemoveLease) verdict {
	l := r.locks.get(body.Txn)
	if l == nil || l.token != body.Lock || l.revision != 0 {
		r.store.reply(w.req.ID, nil, peerpb.ErrLockLost)
		return taken
	}
	if _, ok, batch := r.record(leaseID(body.ID)); !ok {
		b.told(w, &peerpb.Done{}, nil, batch)
		return taken
	}
	r.deleteRecord(b, leaseID(body.ID))
	b.done(w.req.ID, &peerpb.Done{})
	r.unpark(r.locks.release(body.Txn, r.store.now))
	return taken
}

// evaluateCheckpoints writes what remains of leases. Not of one that is being
// revoked, whose record would be there again after the end that is under way; nor
// of one that was granted again, which has more time.
func (r *Replica) evaluateCheckpoints(b *batch, body *peerpb.CheckpointLeases) {
	for i, c := range body.Leases {
		rec, ok, _ := r.record(leaseID(c.ID))
		if !ok || rec.Number != c.Number || r.locks.ending(c.ID, true) {
			r.checkpointsDone(body.Leases[i:i+1], peerpb.ErrRefused)
			continue
		}
		rec.Remaining = c.Remaining
		r.writeRecord(b, rec)
		b.checkpoints = append(b.checkpoints, c)
	}
}

// evaluateRevokePrepare locks what the revoke of a lease touches here and finds
// the lease's keys. They are those after everything that was evaluated, and with
// the mark locked none is added: what waits for a registration when the lock is
// taken will have to ask again.
func (r *Replica) evaluateRevokePrepare(b *batch, w *work, body *peerpb.Prepare) verdict {
	rv := body.Revoke
	l := r.locks.get(body.Txn)
	if r.splits > 0 && !w.admitted && l == nil {
		r.hold(w)
		return parks
	}
	if w.admitted && l == nil { // it died while the request waited
		r.store.reply(w.req.ID, nil, peerpb.ErrLockLost)
		return taken
	}
	found, touched := r.attached(rv.ID)
	size := sizeOf(found, 2, intentBytes)
	many := r.namesLease(size)
	if !many && r.store.many && size > r.store.cfg.RevokeBytesMax && !r.attaches(rv.ID) {
		// There will not be fewer. What is locked is given back.
		r.store.reply(w.req.ID, nil, peerpb.ErrTooLarge)
		return taken
	}
	late := w.admitted // there may be others that were let on, and are behind it
	if l == nil || slices.ContainsFunc(found, func(key []byte) bool { return !l.spans.contains(key) }) {
		admitted, err := r.lockForRevoke(w, body, found, many)
		if err != nil {
			r.store.reply(w.req.ID, nil, err)
			return taken
		}
		if !admitted {
			return parks
		}
		if late {
			// They were let on when these keys were not locked, and will not ask
			// again: it looks once more when they have had their turn.
			r.unparked = append(r.unparked, w)
			return parks
		}
		l = r.locks.get(body.Txn)
	}
	out := &peerpb.Prepared{Lock: l.token, Compacted: r.store.compacted, Known: r.store.known, Found: &peerpb.LeaseFound{Keys: found}}
	if many {
		out.Found.Keys, out.Counts = [][]byte{found[0], found[len(found)-1]}, []int64{int64(len(found))}
	}
	var err error
	if rv.Home {
		r.ending(rv.ID)
		rec, ok, batch := r.record(leaseID(rv.ID))
		touched = max(touched, batch)
		switch {
		case !ok:
			err = peerpb.ErrLeaseNotFound
		case r.notDue(&rec, rv.Expired):
			err = peerpb.ErrLeaseNotDue
		}
		out.Found.Spans = rec.Spans
	}
	if touched == b.number {
		return cuts // it is answered when that is applied
	}
	r.unmark(rv.ID)
	if err != nil {
		b.told(w, nil, err, touched)
	} else {
		b.told(w, out, nil, touched)
	}
	return taken
}

// lockForRevoke asks for the locks; false if the request has to wait for them.
func (r *Replica) lockForRevoke(w *work, body *peerpb.Prepare, found [][]byte, many bool) (bool, error) {
	rv := body.Revoke
	if rv.Home && !r.desc.Contains(keys.Lease(rv.ID)) {
		return false, r.moved(w.req)
	}
	for _, a := range body.Accesses {
		if !r.desc.Span().ContainsSpan(keys.UserSpan(a.Start, a.End)) {
			return false, r.moved(w.req)
		}
	}
	var accesses []peerpb.Access
	if many { // what lies between them waits too, as for a delete of all
		end := pointSpan(found[len(found)-1]).End
		accesses = append(accesses, peerpb.Access{Start: found[0], End: end, Write: true})
	} else {
		accesses = make([]peerpb.Access, len(found))
		for i, key := range found {
			s := pointSpan(key)
			accesses[i] = peerpb.Access{Start: s.Start, End: s.End, Write: true}
		}
	}
	r.tickets++
	w.ticket, w.admitted = r.tickets, false
	r.store.watchClock(r)
	admitted, err := r.locks.prepare(w.ticket, body.Txn, accesses, r.store.now, body.Hold, revokeLocks(rv.ID, rv.Home)...)
	if err == nil && !admitted {
		r.park(w)
	}
	w.admitted = admitted
	return admitted, err
}
