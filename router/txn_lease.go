package router

import (
	"bytes"
	"errors"
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/mvcc"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/peerpb"
	"github.com/flotilladb/flotilla/proto/txnpb"
)

// A transaction has to do with leases in two ways. One that attaches keys has
// each range get the marks that it will need, before it takes any lock; a lease
// that did not exist is looked up once more when all locks are held. One that
// revokes a lease locks the record first, and then the mark and the keys in each
// range where the record says that there may be some.

// txnLeases is what a transaction has to do with leases.
type txnLeases struct {
	// uses are what it may attach. absent are those of their leases that did not
	// exist before the locks were taken, gone those that do not with them held.
	uses         []peerpb.LeaseUse
	absent, gone []int64
	// revoke is set if the transaction is the revoke of a lease; found are the
	// keys, foundSpans those that are too many to be named.
	revoke     *RevokeRequest
	found      [][]byte
	foundSpans []*txnpb.SpanDelete
}

// newRevokeTxn makes the transaction that revokes a lease.
func newRevokeTxn(r *Router, req *RevokeRequest) op {
	o := newTxnOp(r, nil).(*txnOp)
	o.revoke = req
	return o
}

// isHome reports whether a part is of the home of the lease that is revoked.
func (o *txnOp) isHome(p *txnPart) bool {
	return o.revoke != nil && p.desc.Contains(keys.Lease(o.revoke.ID))
}

// address is an address of the part's range.
func (o *txnOp) address(p *txnPart) []byte {
	if o.isHome(p) {
		return keys.Lease(o.revoke.ID)
	}
	return keys.User(p.accesses[0].Start)
}

// divide finds the ranges that an attempt begins with.
func (o *txnOp) divide(r *Router) ([]txnPart, error) {
	o.absent, o.gone, o.found, o.foundSpans = nil, nil, nil, nil
	if o.revoke == nil {
		return divideAccesses(r.cache, o.accesses)
	}
	d := r.cache.Lookup(keys.Lease(o.revoke.ID))
	if d == nil {
		return nil, ErrNoRange
	}
	return []txnPart{{desc: d}}, nil
}

// usesIn returns what the transaction may attach in a range.
func (o *txnOp) usesIn(d *metapb.Descriptor) []peerpb.LeaseUse {
	var out []peerpb.LeaseUse
	for _, u := range o.uses {
		if keys.HoldsUser(d.Span(), u.Key) && !slices.Contains(o.absent, u.Lease) {
			out = append(out, u)
		}
	}
	return out
}

// prepareBody asks a range for its locks, and for what it reads from a place on.
func (o *txnOp) prepareBody(r *Router, p *txnPart, from peerpb.Cursor) peerpb.Prepare {
	body := peerpb.Prepare{Txn: o.id, Accesses: p.accesses, Hold: o.hold(r), Lock: p.lock, From: from}
	if o.revoke != nil {
		body.Revoke = &peerpb.LeaseRevoke{ID: o.revoke.ID, Home: o.isHome(p), Expired: o.revoke.Expired}
		return body
	}
	body.Puts = mvcc.Puts(o.req)
	if len(o.uses) > 0 {
		body.Uses = o.usesIn(p.desc)
	}
	return body
}

// ensureMarks has the ranges get the marks that they will need, or goes on if
// none are. Nothing is locked yet: a mark may have to wait for a revoke, and that
// would wait for the locks.
func (o *txnOp) ensureMarks(r *Router) {
	o.phase, o.lost = txnMarks, nil
	for i := range o.parts {
		p := &o.parts[i]
		if uses := o.usesIn(p.desc); len(uses) > 0 {
			o.open++
			r.send(o, i, p.desc.ID(), p.desc.Generation, &peerpb.EnsureMarks{Uses: uses})
		}
	}
	if o.open == 0 {
		o.prepare(r)
	}
}

// marksOf takes the answer of one range to that.
func (o *txnOp) marksOf(r *Router, body any, err error) {
	o.open--
	if m, ok := body.(*peerpb.Marks); ok {
		for _, id := range m.Absent {
			if !slices.Contains(o.absent, id) {
				o.absent = append(o.absent, id)
			}
		}
	}
	o.failedOne(r, err)
	switch {
	case o.open > 0:
	case o.lost != nil && !o.mayStartOver(o.lost):
		o.giveUp(r, o.lost)
	case o.lost != nil || o.answered:
		o.startOver(r, o.lost)
	default:
		o.prepare(r)
	}
}

// failedOne notes an error of one of several answers.
func (o *txnOp) failedOne(r *Router, err error) {
	if err == nil {
		return
	}
	o.lost = err
	var moved *peerpb.MovedError
	if errors.As(err, &moved) {
		r.Descriptors(moved.Newer)
	}
}

// lease says to the evaluation whether a lease exists.
func (o *txnOp) lease(id int64, _ []byte) mvcc.LeaseState {
	switch {
	case slices.Contains(o.gone, id):
		return mvcc.LeaseAbsent
	case slices.Contains(o.absent, id):
		return mvcc.LeaseUnknown
	}
	return mvcc.LeaseExists
}

// lookUp asks the homes of the leases that did not exist whether that is still so
// with the locks held: what was compared and what is said of the leases must be
// true at one moment.
func (o *txnOp) lookUp(r *Router) {
	homes := make([]*metapb.Descriptor, len(o.absent))
	for i, id := range o.absent {
		if homes[i] = r.cache.Lookup(keys.Lease(id)); homes[i] == nil {
			o.startOver(r, ErrNoRange)
			return
		}
	}
	o.phase, o.lost, o.open = txnLookups, nil, len(o.absent)
	for i, d := range homes {
		r.send(o, i, d.ID(), d.Generation, &peerpb.LookupLease{ID: o.absent[i]})
	}
}

// lookedUp takes the answer of one home.
func (o *txnOp) lookedUp(r *Router, tag int, body any, err error) {
	o.open--
	switch {
	case errors.Is(err, peerpb.ErrLeaseNotFound):
		o.gone = append(o.gone, o.absent[tag])
	case err == nil:
		o.lost = peerpb.ErrMarkMissing // it exists by now
	default:
		o.failedOne(r, err)
	}
	switch {
	case o.open > 0:
	case o.lost != nil && !o.mayStartOver(o.lost):
		o.giveUp(r, o.lost)
	case o.lost != nil || o.answered:
		o.startOver(r, o.lost)
	default:
		o.evaluate(r)
	}
}

// foundIn takes what a range found of the lease. The home says what other ranges
// there are to ask.
func (o *txnOp) foundIn(r *Router, p *txnPart, prepared *peerpb.Prepared) error {
	found := prepared.Found
	switch {
	case len(prepared.Counts) == 0:
		o.found = append(o.found, found.Keys...)
	case len(found.Keys) != 2: // the lease would end without them
		return ErrBadRequest
	default:
		o.foundSpans = append(o.foundSpans, &txnpb.SpanDelete{
			Start: found.Keys[0], End: append(bytes.Clone(found.Keys[1]), 0), Count: uint32(prepared.Counts[0]), Lease: o.revoke.ID,
		})
	}
	if !o.isHome(p) {
		return nil
	}
	home := p.desc
	var pieces []piece
	for _, s := range found.Spans {
		var err error
		if pieces, err = divide(r.cache, pieces, s); err != nil {
			return err
		}
	}
	for _, pc := range pieces {
		if pc.desc.ID() == home.ID() {
			continue
		}
		var a peerpb.Access
		a.Start, a.End, _ = keys.UserBounds(pc.span)
		o.parts = addAccess(o.parts, pc.desc, a)
	}
	return nil
}

// runRevoke is what run is for others.
func (o *txnOp) runRevoke(rev metapb.Revision) {
	slices.SortFunc(o.found, bytes.Compare)
	slices.SortFunc(o.foundSpans, compareStarts)
	resp := &pb.DeleteRangeResponse{Header: &pb.ResponseHeader{}}
	o.result = mvcc.Result{Response: resp}
	sub, spans := uint32(0), o.foundSpans
	spansBelow := func(key []byte) { // nil: all that are left
		for len(spans) > 0 && (key == nil || bytes.Compare(spans[0].Start, key) < 0) {
			f := spans[0] // not changed: what was sent at an earlier revision may be on its way
			o.result.Deletes = append(o.result.Deletes, &txnpb.SpanDelete{
				Start: f.Start, End: f.End, Sub: sub, Count: f.Count, Lease: f.Lease,
			})
			sub += f.Count
			spans = spans[1:]
		}
	}
	for _, key := range o.found {
		spansBelow(key)
		o.result.Mutations = append(o.result.Mutations, &txnpb.Mutation{
			Key: key, Sub: sub, Tombstone: true, Existed: true, PrevLease: o.revoke.ID,
		})
		sub++
	}
	spansBelow(nil)
	if o.result.Changed = sub > 0; o.result.Changed {
		resp.Header.Revision, resp.Deleted = int64(rev), int64(sub)
	}
}

// remove ends a lease without keys: that takes no revision, but every range that
// could attach one is locked.
func (o *txnOp) remove(r *Router) {
	o.phase = txnRemove
	p := &o.parts[0]
	r.send(o, 0, p.desc.ID(), p.desc.Generation, &peerpb.RemoveLease{Txn: o.id, Lock: p.lock, ID: o.revoke.ID})
}

// removed takes the home's answer.
func (o *txnOp) removed(r *Router, err error) {
	switch {
	case err == nil:
		o.end(r, false)
		r.finish(o, o.result.Response, nil)
	case judge(err) == verdictUnknown || !o.mayStartOver(err):
		o.giveUp(r, err)
	default:
		o.startOver(r, err)
	}
}

// anchorOf is the address of the record: the lease's, which is locked first, or
// the shortest key that changes: each intent names it.
func (o *txnOp) anchorOf(muts []*txnpb.Mutation, deletes []*txnpb.SpanDelete) []byte {
	if o.revoke != nil {
		return keys.Lease(o.revoke.ID)
	}
	return keys.User(shortestChanged(muts, deletes))
}

// dealRevoke adds to the intents of a part what they do besides deleting keys.
func (o *txnOp) dealRevoke(p *txnPart, anchor []byte) {
	if o.revoke == nil {
		return
	}
	switch {
	case o.isHome(p):
		o.intent(p, anchor, nil).DeletedRows = [][]byte{anchor}
		last := len(p.intents) - 1
		in := p.intents[last]
		in.Address = anchor
		p.intents = slices.Insert(p.intents[:last:last], 0, in)
	case len(p.intents) == 0:
		o.intent(p, anchor, p.accesses[0].Start)
	}
	p.intents[0].Intent.Marks = []int64{o.revoke.ID}
}
