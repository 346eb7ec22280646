package ranges

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/proto/cmdpb"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/txnpb"
)

// txnRows mirrors, in memory, the intents and the records in a replica's rows:
// few, since a transaction's go when it is over. So ending a transaction reads
// nothing. It changes only with applied entries, on every replica alike.
type txnRows struct {
	intents map[txnKey]*txnIntents
	records map[txnKey]*txnpb.Record
}

// txnIntents are the applied intents of one transaction in a range.
type txnIntents struct {
	id       *txnpb.TxnID
	revision Revision
	rows     []*cmdpb.AddressedIntent
}

func newTxnRows() txnRows {
	return txnRows{intents: make(map[txnKey]*txnIntents), records: make(map[txnKey]*txnpb.Record)}
}

// anchorOf is the address of a record: the first of those with intents.
func anchorOf(rec *txnpb.Record) []byte { return rec.IntentAddresses[0] }

// loadIntents reads what the engine has of unfinished transactions.
func (r *Replica) loadIntents() error {
	r.txns = newTxnRows()
	err := scanRows(r.store.cfg.Reader, keys.IntentSpan(r.desc.Span()), func(key, value []byte) error {
		addr, _, err := keys.DecodeIntent(key)
		if err != nil {
			return err
		}
		in := &txnpb.Intent{}
		if err := in.UnmarshalVT(value); err != nil {
			return fmt.Errorf("intent at %s: %w", keys.FormatAddress(addr), err)
		}
		r.txns.add(&cmdpb.AddressedIntent{Address: addr, Intent: in})
		return nil
	})
	if err != nil {
		return err
	}
	return scanRows(r.store.cfg.Reader, keys.RecordSpan(r.desc.Span()), func(key, value []byte) error {
		anchor, _, err := keys.DecodeRecord(key)
		if err != nil {
			return err
		}
		rec := &txnpb.Record{}
		if err := rec.UnmarshalVT(value); err != nil {
			return fmt.Errorf("transaction record at %s: %w", keys.FormatAddress(anchor), err)
		}
		if err := checkRecord(rec); err != nil {
			return err
		}
		r.txns.records[keyOf(rec.Id)] = rec
		return nil
	})
}

// scanRows calls fn for the rows of a span of engine keys.
func scanRows(reader engine.Reader, span keys.Span, fn func(key, value []byte) error) error {
	it, err := reader.NewIter(engine.IterOptions{Lower: span.Start, Upper: span.End})
	if err != nil {
		return err
	}
	defer it.Close()
	for ok := it.First(); ok; ok = it.Next() {
		value, err := it.Value()
		if err != nil {
			return err
		}
		if err := fn(it.Key(), value); err != nil {
			return err
		}
	}
	return it.Error()
}

func checkRecord(rec *txnpb.Record) error {
	if rec.Id == nil || len(rec.IntentAddresses) == 0 || rec.Status != txnpb.RecordStatus_COMMITTED {
		return errBadRecord
	}
	return nil
}

// add puts one intent into the mirror.
func (t *txnRows) add(in *cmdpb.AddressedIntent) {
	key := keyOf(in.Intent.Id)
	ti := t.intents[key]
	if ti == nil {
		ti = &txnIntents{id: in.Intent.Id}
		t.intents[key] = ti
	}
	ti.revision = Revision(in.Intent.Revision)
	ti.rows = append(ti.rows, in)
}

// attaches reports whether there are intents that attach a key to a lease or detach
// one. Those of a decided transaction are all applied.
//
// A delete of a span names no keys: it is one if keys of the lease are there. Those
// of them that are gone by now are detached.
func (r *Replica) attaches(id int64) bool {
	for _, ti := range r.txns.intents {
		for _, row := range ti.rows {
			if slices.ContainsFunc(row.Intent.Deletes, func(d *txnpb.SpanDelete) bool { return r.deletesOne(d, id) }) {
				return true
			}
			if slices.ContainsFunc(row.Intent.Mutations, func(m *txnpb.Mutation) bool {
				return m.Lease != m.PrevLease && (m.Lease == id || m.PrevLease == id)
			}) {
				return true
			}
		}
	}
	return false
}

// deletesOne reports whether a key of a lease is among those of a delete.
func (r *Replica) deletesOne(d *txnpb.SpanDelete, id int64) (one bool) {
	if d.Lease != 0 && d.Lease != id {
		return false
	}
	r.index.From(leaseID(id), d.Start, func(key []byte) bool {
		one = startsBelow(key, d.End)
		return false
	})
	return one
}

// sortedIntents returns the transactions with intents in order of revision.
func (t *txnRows) sortedIntents() []*txnIntents {
	all := make([]*txnIntents, 0, len(t.intents))
	for _, ti := range t.intents {
		all = append(all, ti)
	}
	slices.SortFunc(all, func(a, b *txnIntents) int {
		return cmp.Or(cmp.Compare(a.revision, b.revision), compareTxns(a.id, b.id))
	})
	return all
}

// sortedRecords returns the records in order of revision.
func (t *txnRows) sortedRecords() []*txnpb.Record {
	all := make([]*txnpb.Record, 0, len(t.records))
	for _, rec := range t.records {
		all = append(all, rec)
	}
	slices.SortFunc(all, func(a, b *txnpb.Record) int {
		return cmp.Or(cmp.Compare(a.Revision, b.Revision), compareTxns(a.Id, b.Id))
	})
	return all
}

func compareTxns(a, b *txnpb.TxnID) int {
	return cmp.Or(cmp.Compare(a.StoreId, b.StoreId), cmp.Compare(a.StoreStart, b.StoreStart),
		cmp.Compare(a.Number, b.Number), cmp.Compare(a.Attempt, b.Attempt))
}

// applyIntents writes the intents of one transaction. A later revision of the
// same transaction replaces all that is there, an earlier one does nothing.
func (r *Replica) applyIntents(b engine.Batch, c *cmdpb.IntentCommand) error {
	if len(c.Intents) == 0 {
		return nil
	}
	first := c.Intents[0].Intent
	key, rev := keyOf(first.Id), Revision(first.Revision)
	if old := r.txns.intents[key]; old != nil {
		if old.revision > rev {
			return nil
		}
		for _, row := range old.rows {
			b.Delete(keys.Intent(row.Address, old.id))
		}
	}
	for _, in := range c.Intents {
		k := keys.Intent(in.Address, first.Id)
		kb, vb := b.SetDeferred(len(k), in.Intent.SizeVT())
		copy(kb, k)
		if _, err := in.Intent.MarshalToSizedBufferVT(vb); err != nil {
			return err
		}
	}
	r.txns.intents[key] = &txnIntents{id: first.Id, revision: rev, rows: c.Intents}
	r.sawRevision(rev)
	r.locks.setApplied(first.Id, rev)
	r.store.more = true // the coordinator's record
	return nil
}

// applyRecord writes a commit record.
func (r *Replica) applyRecord(b engine.Batch, rec *txnpb.Record) error {
	if err := checkRecord(rec); err != nil {
		return err
	}
	value, err := rec.MarshalVT()
	if err != nil {
		return err
	}
	b.Set(keys.Record(anchorOf(rec), rec.Id), value)
	r.txns.records[keyOf(rec.Id)] = rec
	r.sawRevision(Revision(rec.Revision))
	r.store.decided(Revision(rec.Revision))
	r.watchRecords()
	return nil
}

// applyResolve ends a transaction here: its intents go, and become versions at
// their revision if it is committed.
func (r *Replica) applyResolve(b engine.Batch, c *cmdpb.ResolveCommand) error {
	key := keyOf(c.Id)
	if len(c.Next) > 0 {
		return r.applyPiece(b, c)
	}
	if ti := r.txns.intents[key]; ti != nil {
		delete(r.txns.intents, key)
		for _, row := range ti.rows {
			b.Delete(keys.Intent(row.Address, ti.id))
		}
		if c.Commit {
			r.applyCommitted(b, ti, c.Tombstones)
		}
		if err := r.endRevoke(b, ti, c.Commit); err != nil {
			return err
		}
	}
	r.ended = append(r.ended, c.Id)
	return nil
}

// applyCommitted writes the versions of a committed transaction. Writes of other
// keys at higher revisions may have been applied before: the locks kept them off
// these keys, and the revision kept the range from being called closed.
func (r *Replica) applyCommitted(b engine.Batch, ti *txnIntents, tombstones []*txnpb.Mutation) {
	muts := slices.Clone(tombstones)
	for _, row := range ti.rows {
		muts = append(muts, row.Intent.Mutations...)
	}
	if len(muts) == 0 {
		return
	}
	slices.SortFunc(muts, compareSubs)
	r.applyUpdates(b, []*cmdpb.Update{{Revision: int64(ti.revision), Mutations: muts}})
}

// compareSubs has mutations in the order of their revision, in which watchers get them.
func compareSubs(a, b *txnpb.Mutation) int { return cmp.Compare(a.Sub, b.Sub) }

// applyForget removes a transaction's record.
func (r *Replica) applyForget(b engine.Batch, c *cmdpb.ForgetCommand) error {
	delete(r.txns.records, keyOf(c.Id))
	b.Delete(keys.Record(c.Anchor, c.Id))
	return nil
}

// beginTxns makes the locks of a new leader out of the intents that are there.
// Locks without intents died with the leader before.
func (r *Replica) beginTxns() {
	r.locks = newLockTable(firstToken(r.leading), r.store.lockLimits())
	now := r.store.now
	for _, ti := range r.txns.sortedIntents() {
		pushAt := now
		if !r.store.coordinatorGone(ti.id) {
			pushAt = now.Add(r.store.cfg.IntentAgeMax)
		}
		r.locks.load(ti.rows, pushAt, now)
	}
	if !r.locks.idle() {
		r.store.watchClock(r)
	}
	r.sweeps = nil // what was asked in another term may have been answered while nobody led here
	r.watchRecords()
}

// advanceTxns lets go the locks of transactions whose end can be read.
func (r *Replica) advanceTxns() {
	for _, id := range r.ended {
		r.unpark(r.locks.release(id, r.store.now))
	}
	r.ended = r.ended[:0]
	if r.splits > 0 && r.locks.idle() {
		r.releaseHeld()
	}
}

// coordinatorGone reports whether a transaction's coordinator cannot come back:
// it was of an earlier start of this store.
func (s *Store) coordinatorGone(id *txnpb.TxnID) bool {
	return id.StoreId == uint64(s.cfg.StoreID) && id.StoreStart != s.cfg.StoreStart
}

// dropOutside forgets the records that a split gave to the right side, which
// reads them from the engine. Intents are never cut: a split waits for locks.
func (t *txnRows) dropOutside(desc *metapb.Descriptor) {
	for key, rec := range t.records {
		if !desc.Contains(anchorOf(rec)) {
			delete(t.records, key)
		}
	}
}

// endRevoke ends what a transaction did to leases besides their keys.
func (r *Replica) endRevoke(b engine.Batch, ti *txnIntents, commit bool) error {
	for _, row := range ti.rows {
		for _, id := range row.Intent.Marks {
			r.unmark(id)
		}
		if commit && len(row.Intent.DeletedRows) > 0 {
			if err := r.applyDeletedRows(b, row.Intent.DeletedRows); err != nil {
				return err
			}
		}
	}
	return nil
}
