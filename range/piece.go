package ranges

import (
	"bytes"
	"slices"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/internal/invariant"
	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/mvcc"
	"github.com/flotilladb/flotilla/proto/cmdpb"
	"github.com/flotilladb/flotilla/proto/txnpb"
)

// A transaction's delete of a span is one intent, however many keys there are.
// Its end names them: the leader reads some, logs their tombstones, and when
// these are applied goes on behind them. Each piece shortens the intent that it
// is of, in the same entry, so that whoever leads next goes on there; lock and
// bound stay until the last.

// deletes reports whether a transaction deletes spans here.
func (t *txnRows) deletes(id *txnpb.TxnID) bool {
	ti := t.intents[keyOf(id)]
	return ti != nil && slices.ContainsFunc(ti.rows, func(row *cmdpb.AddressedIntent) bool { return len(row.Intent.Deletes) > 0 })
}

// evaluatePiece logs the next piece of a committed transaction's end. Only one is
// under way at a time: the next is read from what it leaves in the engine.
func (r *Replica) evaluatePiece(b *batch, st mvcc.State, w *work, l *lock) (verdict, error) {
	if before := r.underWay(b, l.endBatch); before != nil {
		before.goOn = append(before.goOn, w)
		return taken, nil
	}
	tombstones, next, err := r.nextTombstones(st, r.txns.intents[keyOf(l.id)])
	if err != nil {
		return taken, err
	}
	r.store.looked(len(tombstones), 0)
	// Nobody has to ask the anchor while the end goes on.
	l.pushAt = r.store.now.Add(r.store.cfg.IntentAgeMax)
	l.endBatch = b.number
	b.command(&cmdpb.Command{Kind: &cmdpb.Command_Resolve{Resolve: &cmdpb.ResolveCommand{
		Id: l.id, Commit: true, Tombstones: tombstones, Next: next,
	}}})
	b.goOn = append(b.goOn, w)
	return taken, nil
}

// underWay returns the batch of a number if it is not advanced, or nil.
func (r *Replica) underWay(b *batch, number uint64) *batch {
	if number == b.number {
		return b
	}
	if i := slices.IndexFunc(r.inflight, func(b *batch) bool { return b.number == number }); i >= 0 {
		return r.inflight[i]
	}
	return nil
}

// nextTombstones names the next keys of a transaction's deletes of spans, and
// where to go on, if there are more. The transaction's locks keep others off them,
// so that the engine has what the prepare saw, without what is deleted by now.
func (r *Replica) nextTombstones(st mvcc.State, ti *txnIntents) (tombstones []*txnpb.Mutation, next []byte, err error) {
	cfg := &r.store.cfg
	size := 0
	for _, row := range ti.rows {
		for _, d := range row.Intent.Deletes {
			sub := d.Sub
			name := func(key []byte, lease int64) bool {
				if len(tombstones) >= cfg.EntryKeysMax || size >= cfg.EntryBytesMax {
					next = key
					return false
				}
				tombstones = append(tombstones, &txnpb.Mutation{Key: key, Sub: sub, Tombstone: true, Existed: true, PrevLease: lease})
				sub++
				size += len(key)
				return true
			}
			if d.Lease != 0 {
				r.index.From(leaseID(d.Lease), d.Start, func(key []byte) bool {
					return startsBelow(key, d.End) && name(key, d.Lease)
				})
			} else {
				err = st.Scan(d.Start, d.End, mvcc.Latest, func(row *mvcc.Row) bool { return name(bytes.Clone(row.Key), row.Lease) })
			}
			if pause := mvcc.PauseOf(err); pause != nil {
				next, err = pause.Key, nil
			}
			if next != nil || err != nil {
				return tombstones, next, err
			}
			invariant.Check(sub == d.Sub+d.Count, "a delete of %d keys finds %d", d.Count, sub-d.Sub)
		}
	}
	return tombstones, nil, nil
}

// applyPiece writes the tombstones of a piece and shortens the intents that they
// are of.
func (r *Replica) applyPiece(b engine.Batch, c *cmdpb.ResolveCommand) error {
	ti := r.txns.intents[keyOf(c.Id)]
	invariant.Must(ti != nil, "range %d: a piece of a transaction without intents", r.desc.RangeId)
	// Not changed in place: the entry that brought the rows has them too.
	rows := slices.Clone(ti.rows)
	left := c.Tombstones
	for i, row := range rows {
		shorter, rest := shortenIntent(row, left, c.Next)
		if shorter == nil {
			continue
		}
		value, err := shorter.Intent.MarshalVT()
		if err != nil {
			return err
		}
		b.Set(keys.Intent(row.Address, ti.id), value)
		rows[i], left = shorter, rest
	}
	invariant.Must(len(left) == 0, "range %d: %d tombstones are of no intent", r.desc.RangeId, len(left))
	r.txns.intents[keyOf(c.Id)] = &txnIntents{id: ti.id, revision: ti.revision, rows: rows}
	// The deletes are in key order, and need not be so in the request.
	muts := slices.Clone(c.Tombstones)
	slices.SortFunc(muts, compareSubs)
	r.applyUpdates(b, []*cmdpb.Update{{Revision: int64(ti.revision), Mutations: muts}})
	return nil
}

// shortenIntent takes the first of tombstones out of the deletes of an intent, as
// many as are of them, and has the one with the key next go on there. It returns
// what is left of both; no intent if it stays as it is.
func shortenIntent(row *cmdpb.AddressedIntent, tombstones []*txnpb.Mutation, next []byte) (*cmdpb.AddressedIntent, []*txnpb.Mutation) {
	in, changed := row.Intent, false
	shorter := &txnpb.Intent{
		Id: in.Id, Revision: in.Revision, Anchor: in.Anchor, Mutations: in.Mutations,
		DeletedRows: in.DeletedRows, Marks: in.Marks,
	}
	for _, d := range in.Deletes {
		n := uint32(0)
		for int(n) < len(tombstones) && n < d.Count && tombstones[n].Sub == d.Sub+n {
			n++
		}
		tombstones = tombstones[n:]
		goesOn := bytes.Compare(d.Start, next) <= 0 && startsBelow(next, d.End)
		changed = changed || n > 0 || goesOn
		if n == d.Count {
			continue
		}
		rest := &txnpb.SpanDelete{Start: d.Start, End: d.End, Sub: d.Sub + n, Count: d.Count - n, Lease: d.Lease}
		if goesOn {
			rest.Start = next
		}
		shorter.Deletes = append(shorter.Deletes, rest)
	}
	if !changed {
		return nil, tombstones
	}
	return &cmdpb.AddressedIntent{Address: row.Address, Intent: shorter}, tombstones
}
