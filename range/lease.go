package ranges

import (
	"errors"
	"math"
	"slices"
	"time"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/internal/clock"
	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/lease"
	"github.com/flotilladb/flotilla/proto/cmdpb"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/peerpb"
	"github.com/flotilladb/flotilla/proto/txnpb"
)

// leases is what a replica has of leases: as the home of some, and as a range
// whose keys are attached to some.
type leases struct {
	table *lease.Table // records at the range's addresses
	index *lease.Index // attached keys of the range
	// sweeping: a split left something in them that is to be freed.
	sweeping bool

	// Of a leader:
	expirer *lease.Expirer // nil if the range is nobody's home
	view    recordView
	marks   marks
	regs    map[int64]*registration
	// asking is the request under evaluation, lessor what says to it whether a
	// lease exists.
	asking *work
	// from is the expirer of the range that this one was split from, for the first
	// leader of this one, if that is here: nil when another has led it.
	from *lease.Expirer
}

// loadLeases reads what the engine has of leases, or takes it from the range
// that this one was split from.
func (r *Replica) loadLeases(born *leases) error {
	if born != nil {
		r.leases = *born
	} else {
		r.table, r.index = lease.NewTable(r.desc.Span()), lease.NewIndex(r.desc.Span())
		if err := r.table.Load(r.store.cfg.Reader, r.desc.Span()); err != nil {
			return err
		}
		if err := r.index.Load(r.store.cfg.Reader, r.desc.Span()); err != nil {
			return err
		}
	}
	r.marks.max = r.store.cfg.MarksMax
	r.watchLeases()
	return nil
}

// splitLeases gives the right side of a split its part. Marks stay on the left;
// the right side asks for its own.
func (r *Replica) splitLeases(right *metapb.Descriptor) *leases {
	born := &leases{table: r.table.Split(right.Span()), index: r.index.Split(right.Span()), from: r.expirer, sweeping: true}
	r.sweeping = true
	if r.expirer != nil {
		r.expirer.Bounded()
	}
	r.store.watchClock(r)
	return born
}

// isHome reports whether the range is the home of leases.
func (r *Replica) isHome() bool { return r.desc.Span().Overlaps(keys.LeaseSpan()) }

// beginLeases is called when the replica begins to lead.
func (r *Replica) beginLeases() error {
	r.view, r.regs = recordView{}, nil
	r.marks.clear()
	if !r.isHome() {
		r.from = nil
		return nil
	}
	var err error
	if r.expirer, err = lease.NewExpirer(r.store.cfg.Expirer); err != nil {
		return err
	}
	r.expirer.Begin(r.store.now, r.table, r.from)
	r.from = nil
	for _, id := range r.locks.endingRecords() { // locked again from intents
		r.expirer.Ending(leaseID(id))
	}
	if r.single() {
		r.expirer.Renewals().SetLease(lease.Forever)
	} else {
		r.store.peers.homes = append(r.store.peers.homes, r)
	}
	r.watchLeases()
	return nil
}

// endLeases is called when it no longer leads.
func (r *Replica) endLeases() {
	if r.expirer != nil {
		r.expirer.Renewals().SetLease(0)
	}
	r.view, r.expirer = recordView{}, nil
	r.marks.clear()
	r.dropRegistrations(peerpb.ErrNotLeader)
}

// watchLeases has tickLeases called while there is something to expire or free.
func (r *Replica) watchLeases() {
	if r.sweeping || r.expirer != nil && r.table.Len() > 0 {
		r.store.watchClock(r)
	}
}

// sweepMax bounds what is freed at a time of what a split took away.
const sweepMax = 2048

// tickLeases hands out leases whose time is over, and what is to be persisted.
func (r *Replica) tickLeases(now clock.Time) {
	if r.sweeping {
		index := r.index.Sweep(sweepMax)
		r.sweeping = r.table.Sweep(sweepMax) || index
	}
	if r.expirer != nil && r.leading != 0 {
		r.expirer.Tick(now)
		for _, d := range r.expirer.Ready() {
			r.store.out.Expired = append(r.store.out.Expired, Expired{Range: r.desc.ID(), ID: int64(d.ID)})
		}
		r.checkpointLeases()
	}
	r.watchLeases()
}

// Expired is a lease whose deadline has passed: its revoke is to be asked for,
// and Store.Revoked told what became of it.
type Expired struct {
	Range metapb.RangeID
	ID    int64
}

// Revoked says what became of the revoke of a lease that Output.Expired named.
func (s *Store) Revoked(e Expired, err error) {
	r := s.replicas[e.Range]
	if r == nil || r.expirer == nil {
		return
	}
	if errors.Is(err, peerpb.ErrLeaseNotFound) {
		err = nil
	}
	r.expirer.Done(leaseID(e.ID), err)
	r.tickLeases(s.now) // another may take its place
}

// checkpointLeases asks for what the expirer wants to have persisted.
func (r *Replica) checkpointLeases() {
	cs := r.expirer.Checkpoints(r.store.now)
	if len(cs) == 0 {
		return
	}
	body := &peerpb.CheckpointLeases{Leases: make([]peerpb.LeaseCheckpoint, 0, len(cs))}
	for _, c := range cs {
		rec, _ := r.table.Get(c.ID)
		body.Leases = append(body.Leases, peerpb.LeaseCheckpoint{ID: int64(c.ID), Remaining: c.Remaining, Number: rec.Number})
	}
	r.enqueue(body)
}

// checkpointsDone tells the expirer that checkpoints are applied or, with an
// error, that they will not be.
func (r *Replica) checkpointsDone(cs []peerpb.LeaseCheckpoint, err error) {
	for _, c := range cs {
		if r.expirer != nil {
			r.expirer.CheckpointDone(lease.Checkpoint{ID: leaseID(c.ID), Remaining: c.Remaining}, err)
		}
	}
}

// applyLeaseRows takes in rows that an entry wrote at the addresses of leases.
func (r *Replica) applyLeaseRows(rows []*cmdpb.Row) error {
	if !r.isHome() {
		return nil
	}
	for _, row := range rows {
		a, err := keys.DecodeAddress(row.Address)
		if err != nil {
			return err
		}
		if a.Kind != keys.KindLease {
			continue
		}
		id := leaseID(a.Lease)
		old, was := r.table.Get(id)
		if err := r.table.Apply([]*cmdpb.Row{row}); err != nil {
			return err
		}
		if r.expirer != nil {
			r.expireRecord(id, old.Number, was)
		}
	}
	r.watchLeases()
	return nil
}

// expireRecord tells the expirer of a record that was written, or went.
func (r *Replica) expireRecord(id leaseID, oldNumber uint64, was bool) {
	rec, is := r.table.Get(id)
	switch {
	case !is:
		r.expirer.Revoked(id)
	case !was || rec.Number != oldNumber:
		r.expirer.Granted(id, rec.TTL, r.store.now)
		// What is evaluated goes ahead of what is applied.
		if p := r.view.top[id]; p != nil && p.gone || r.locks.ending(int64(id), true) {
			r.expirer.Ending(id)
		}
	}
}

// applyDeletedRows removes rows as a committed transaction says.
func (r *Replica) applyDeletedRows(b engine.Batch, addresses [][]byte) error {
	rows := make([]*cmdpb.Row, 0, len(addresses))
	for _, addr := range addresses {
		b.Delete(keys.Row(addr))
		rows = append(rows, &cmdpb.Row{Address: addr, Deleted: true})
	}
	return r.applyLeaseRows(rows)
}

// attach keeps the index of attached keys.
func (r *Replica) attach(m *txnpb.Mutation) {
	if m.Lease == m.PrevLease {
		return
	}
	if m.PrevLease != 0 {
		r.index.Detach(m.Key, leaseID(m.PrevLease))
	}
	if m.Lease != 0 {
		r.index.Attach(m.Key, leaseID(m.Lease))
	}
}

// answerLeases answers what needs neither its turn nor the log; false if the
// request is another.
func (r *Replica) answerLeases(req *peerpb.Request) bool {
	var body any
	var err error
	switch q := req.Body.(type) {
	case *peerpb.RenewLeases:
		body = r.renew(q)
	case *peerpb.LookupLease:
		body, err = r.lookup(q)
	case *peerpb.ListLeases:
		body = r.list(q)
	case *peerpb.LeaseKeys:
		body, err = r.leaseKeys(q)
	default:
		return false
	}
	if !r.holdsLease() { // after all was read
		err = peerpb.ErrNotLeader
	}
	if err != nil {
		body = nil // and not a nil pointer
	}
	r.store.reply(req.ID, body, err)
	return true
}

// leaseEnded reports whether a lease was revoked by a transaction that is committed
// and not yet ended here: its client may know. The record of the transaction is
// on this range.
func (r *Replica) leaseEnded(id int64) bool {
	return slices.ContainsFunc(r.locks.leases.held[leaseName{id, true}], func(h leaseHolder) bool {
		return h.alone && r.txns.records[keyOf(h.lock.id)] != nil
	})
}

// Renewals are for renewals of the range's leases that do not take the way through
// the replica; nil if it does not lead, or is nobody's home.
func (r *Replica) Renewals() *lease.Renewals {
	if r.expirer == nil || r.leading == 0 {
		return nil
	}
	return r.expirer.Renewals()
}

// ending is called when the end of a lease begins, before anybody is told.
func (r *Replica) ending(id int64) {
	if r.expirer != nil {
		r.expirer.Ending(leaseID(id))
	}
}

// renew renews leases. Whoever was told that a lease lives may count on it, so
// what may end it must not be under way.
func (r *Replica) renew(q *peerpb.RenewLeases) *peerpb.Renewed {
	out := &peerpb.Renewed{TTLs: make([]int64, len(q.IDs))}
	if r.expirer == nil {
		return out
	}
	cleared := false
	for i, id := range q.IDs {
		if r.leaseEnded(id) {
			continue
		}
		p := r.view.top[leaseID(id)]
		if p != nil && p.gone || r.locks.ending(id, true) {
			out.TTLs[i] = peerpb.RenewAgain
			continue
		}
		ttl, err := r.expirer.Renewed(leaseID(id), r.store.now)
		switch {
		case err == nil:
			out.TTLs[i] = ttl
		case errors.Is(err, lease.ErrNotFound):
			out.TTLs[i] = peerpb.RenewUnknown
		case errors.Is(err, lease.ErrExpired):
			out.TTLs[i] = peerpb.RenewExpired
		default:
			out.TTLs[i] = peerpb.RenewAgain
			cleared = cleared || errors.Is(err, lease.ErrCheckpointed)
		}
	}
	if cleared {
		r.checkpointLeases()
	}
	return out
}

// lookup says what is applied of a lease.
func (r *Replica) lookup(q *peerpb.LookupLease) (*peerpb.LeaseInfo, error) {
	rec, ok := r.table.Get(leaseID(q.ID))
	if !ok || r.leaseEnded(q.ID) {
		return nil, peerpb.ErrLeaseNotFound
	}
	return &peerpb.LeaseInfo{TTL: rec.TTL, Remaining: r.remaining(q.ID), Spans: rec.Spans}, nil
}

func (r *Replica) remaining(id int64) time.Duration {
	if r.expirer == nil {
		return 0
	}
	left, _ := r.expirer.Remaining(leaseID(id), r.store.now)
	return left
}

func (r *Replica) list(q *peerpb.ListLeases) *peerpb.LeaseList {
	out := &peerpb.LeaseList{}
	from := leaseID(0)
	if a, err := keys.DecodeAddress(q.From); err == nil {
		from = leaseID(a.Lease)
	}
	r.table.Ascend(from, func(rec lease.Record) bool {
		if r.leaseEnded(int64(rec.ID)) {
			return true
		}
		if len(out.Leases) >= q.LimitMax {
			out.More = true
			return false
		}
		out.Leases = append(out.Leases, peerpb.LeaseEntry{ID: int64(rec.ID), Remaining: r.remaining(int64(rec.ID))})
		return true
	})
	return out
}

// leaseKeys says which keys of a lease are applied. A transaction that changes them
// may be committed, and its client told, before its end is applied here.
func (r *Replica) leaseKeys(q *peerpb.LeaseKeys) (*peerpb.LeaseFound, error) {
	if r.attaches(q.ID) {
		return nil, peerpb.ErrRefused // it soon ends
	}
	out := &peerpb.LeaseFound{}
	start, _, _ := keys.UserBounds(q.Span)
	size, limit := 0, r.store.cfg.RevokeBytesMax
	switch {
	case r.store.format.Has(metapb.LeaseSpans):
		limit = r.store.cfg.RevokeNamesMax
	case !r.store.many:
		limit = math.MaxInt
	}
	r.index.From(leaseID(q.ID), start, func(key []byte) bool {
		if !keys.HoldsUser(q.Span, key) {
			return false
		}
		if size += foundBytes + len(key); size > limit && len(out.Keys) > 0 {
			out.Spans = []metapb.Span{{Start: keys.User(key), End: q.Span.End}}
			return false
		}
		out.Keys = append(out.Keys, key)
		return true
	})
	if len(out.Spans) > 0 && !r.store.format.Has(metapb.LeaseSpans) {
		return nil, peerpb.ErrTooLarge
	}
	return out, nil
}
