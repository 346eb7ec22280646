package router

import (
	"bytes"
	"errors"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/flotilladb/flotilla/internal/clock"
	"github.com/flotilladb/flotilla/internal/invariant"
	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/mvcc"
	"github.com/flotilladb/flotilla/placement"
	"github.com/flotilladb/flotilla/proto/cmdpb"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/peerpb"
	"github.com/flotilladb/flotilla/proto/txnpb"
)

// txnPhase is what a cross-range transaction waits for.
type txnPhase int

const (
	txnIdle     txnPhase = iota // for its time to start (over), or to send again
	txnPrepares                 // the locks of one range after the other
	txnKnown                    // Current, to tell whether a revision is in the future
	txnHeader                   // Current, for the header of one that changes nothing
	txnConfirm                  // all ranges to say that its locks held until then
	txnRevision                 // its revision
	txnIntents                  // all ranges to have its intents
	txnRecord                   // the anchor to have its record
	txnLearn                    // the anchor to say what became of it
	txnMarks                    // the ranges to have the marks of leases
	txnLookups                  // the homes of leases that did not exist
	txnRemove                   // the home of a lease without keys to remove it
)

// txnOp coordinates a request whose keys lie in several ranges, or which changes
// too much for one entry.
//
//	prepare range after range, in key order, each page by page
//	   → evaluate → nothing changes: Current → release, if held → answer
//	   → revision → intents everywhere → record at the anchor → answer
//	   → (txnEnd) resolve everywhere → forget the record
//
// It starts over, as a new attempt, when a range lost its locks, as long as no
// record was sent; after that only when the anchor said that it is aborted. The
// ranges' half of the protocol, and why each rule is there, is in
// range/DESIGN.md.
type txnOp struct {
	opBase
	req      proto.Message
	accesses []peerpb.Access
	id       *txnpb.TxnID // of this attempt; not changed once it was sent
	phase    txnPhase
	parts    []txnPart // in key order
	prepared int       // how many of parts have their locks
	txnLeases
	open int // answers of this phase that are missing
	// from is where the range that is being prepared reads on; touched is when
	// those before it last heard that the transaction lives.
	from    peerpb.Cursor
	touched clock.Time
	// asksSince is when the sequencer was asked for the revision, or for Current.
	asksSince clock.Time

	state     *mvcc.RowsState
	known     metapb.Revision
	compacted metapb.Revision
	asked     bool // known is Current, taken with all locks held
	exact     bool // to be evaluated at the revision itself
	result    mvcc.Result
	failure   error // instead of result

	rev    metapb.Revision
	since  clock.Time // when it was granted
	epoch  uint64
	record *txnpb.Record
	// What the ranges said to the intents, beyond done.
	refused bool  // one wants a higher revision
	misled  bool  // one was asked in the wrong place
	lost    error // one cannot go on
}

// txnPart is what a transaction has to do with one range.
type txnPart struct {
	desc     *metapb.Descriptor
	accesses []peerpb.Access
	lock     uint64 // 0: not yet held
	intents  []*cmdpb.AddressedIntent
	done     bool // has its intents at the revision
}

// A request and its body in one piece.
type (
	prepareRequest struct {
		peerpb.Request
		body peerpb.Prepare
	}
	intentsRequest struct {
		peerpb.Request
		body peerpb.WriteIntents
	}
)

// newTxnOp makes the operation of a request that no single entry can carry.
func newTxnOp(r *Router, req proto.Message) op {
	return &txnOp{
		req:       req,
		accesses:  mvcc.TxnFootprint(req),
		txnLeases: txnLeases{uses: mvcc.Leases(req)},
		id: &txnpb.TxnID{
			StoreId: uint64(r.cfg.Store), StoreStart: r.cfg.StoreStart, Number: r.nextTxnNumber(),
		},
	}
}

// start begins an attempt.
func (o *txnOp) start(r *Router) {
	o.id = &txnpb.TxnID{
		StoreId: o.id.StoreId, StoreStart: o.id.StoreStart, Number: o.id.Number, Attempt: o.id.Attempt + 1,
	}
	o.prepared, o.state, o.asked, o.exact = 0, mvcc.NewRowsState(), false, false
	o.from, o.touched = peerpb.Cursor{}, r.now
	o.known, o.compacted = 0, -1
	o.rev, o.record, o.lost = 0, nil, nil
	parts, err := o.divide(r)
	if err != nil {
		o.startOver(r, err)
		return
	}
	o.parts = parts
	if len(o.uses) > 0 {
		o.ensureMarks(r)
		return
	}
	o.prepare(r)
}

// prepare asks the next range for its locks and a first page, or one that has
// them for its next. One range after the other, in key order: two transactions
// that did it in parallel could each hold what the other waits for.
func (o *txnOp) prepare(r *Router) {
	o.phase = txnPrepares
	if o.prepared == len(o.parts) {
		// The holds of the first may be nearly over. A reader that then came between the
		// grant of the revision and the intents would have it taken for nothing.
		if len(o.parts) > 1 && !r.now.Before(o.touched.Add(o.hold(r)/2)) {
			o.touch(r)
			return
		}
		o.seal(r)
		return
	}
	if !r.now.Before(o.touched.Add(r.cfg.TouchEvery)) && o.prepared > 0 {
		o.touch(r)
		return
	}
	o.sendPrepare(r, o, o.prepared, o.from)
}

// seal evaluates what all ranges have returned.
func (o *txnOp) seal(r *Router) {
	o.state.Seal()
	o.evaluate(r)
}

// touch tells the ranges before that the transaction lives: the next may have
// many pages, and their locks die of age. They hold closing back anew.
func (o *txnOp) touch(r *Router) {
	o.touched = r.now
	for i := range o.prepared {
		o.open++
		o.sendTouch(r, o, i)
	}
}

// sendTouch tells one range so; by gets the answer.
func (o *txnOp) sendTouch(r *Router, by op, part int) {
	o.sendPrepare(r, by, part, peerpb.Cursor{Access: len(o.parts[part].accesses)})
}

func (o *txnOp) sendPrepare(r *Router, by op, part int, from peerpb.Cursor) {
	p := &o.parts[part]
	q := &prepareRequest{body: o.prepareBody(r, p, from)}
	q.Range, q.Generation, q.Body = p.desc.ID(), p.desc.Generation, &q.body
	r.sendRequest(by, part, &q.Request)
}

// hold doubles with each attempt: one that closing overtook gets more time.
func (o *txnOp) hold(r *Router) time.Duration {
	return min(r.cfg.HoldMin<<min(o.id.Attempt-1, 10), r.cfg.HoldMax)
}

// run evaluates the request on what the ranges returned.
func (o *txnOp) run(r *Router) error { return o.runAt(r, mvcc.OpenRevision) }

// runAt is run at a revision, open or known.
func (o *txnOp) runAt(r *Router, rev metapb.Revision) error {
	if o.revoke != nil {
		o.runRevoke(rev)
		return nil
	}
	env := mvcc.Env{
		Revision: rev, Known: o.known, Compacted: o.compacted, Stale: !o.asked, Lease: o.lease, DeletesMax: r.cfg.TxnDeletesMax,
	}
	if !mvcc.IsOpen(rev) {
		env.Known = rev - 1
	}
	var err error
	o.result, err = mvcc.Evaluate(o.state, env, o.req)
	if errors.Is(err, mvcc.ErrTooLarge) || err == nil && intentBytes(o.result.Mutations, o.result.Deletes) > r.cfg.TxnIntentBytesMax {
		err = ErrTooLarge
	}
	return err
}

// intentBytes is what the intents of changes take on their way, and not much less. Each
// has its key twice and that of the record, which is the shortest of all of them. Deletes of
// spans do not count: a range has no more of them than the request.
func intentBytes(muts []*txnpb.Mutation, deletes []*txnpb.SpanDelete) (size int) {
	const each = 128 // beside keys and value
	for _, m := range muts {
		size += each + 2*len(m.Key) + len(m.Value)
	}
	return size + len(muts)*len(shortestChanged(muts, deletes))
}

// evaluate finds out what the transaction does, and asks for the revision that
// it takes or shows.
func (o *txnOp) evaluate(r *Router) {
	err := o.run(r)
	if errors.Is(err, mvcc.ErrWait) {
		if !o.asked {
			o.phase = txnKnown
			o.askWithHolds(r, 0)
			return
		}
		// The request compares its own revision with one that was not issued:
		// what it changes does not depend on it, what its response shows does.
		// So it is evaluated once more at the revision that it gets.
		o.exact = true
		err = o.runAt(r, o.known+1)
	}
	switch {
	case errors.Is(err, mvcc.ErrLeaseUnknown):
		o.lookUp(r)
	case err != nil:
		o.confirm(r, err)
	case o.revoke != nil && !o.result.Changed:
		o.remove(r)
	case !o.result.Changed:
		o.phase = txnHeader
		r.ask(o, 0)
	default:
		o.askRevision(r)
	}
}

// askRevision asks for the revision that the transaction takes.
func (o *txnOp) askRevision(r *Router) {
	o.phase = txnRevision
	o.askWithHolds(r, 1)
}

// askWithHolds asks the sequencer, and has the holds last until it answers.
func (o *txnOp) askWithHolds(r *Router, n int64) {
	o.asksSince = r.now
	r.ask(o, n)
	r.wakeAt(o, o.touched.Add(o.hold(r)/2))
}

// keepHolds has the ranges hold closing back for as long as a sequencer needs that moves.
func (o *txnOp) keepHolds(r *Router) {
	if !r.now.Before(o.asksSince.Add(r.cfg.HoldMax)) {
		return
	}
	o.touched = r.now
	k := &txnKeep{open: len(o.parts)}
	k.answered = true // nobody waits for it
	r.begin(k)
	for i := range o.parts {
		o.sendTouch(r, k, i)
	}
	r.wakeAt(o, o.touched.Add(o.hold(r)/2))
}

func (o *txnOp) granted(r *Router, a placement.Answer) {
	r.wakeAt(o, 0)
	if a.Err != nil || o.answered {
		o.startOver(r, a.Err)
		return
	}
	o.compacted = max(o.compacted, a.Compacted)
	switch o.phase {
	case txnKnown:
		o.known, o.asked = a.First, true
		o.evaluate(r)
	case txnHeader:
		mvcc.FillResponse(o.result.Response, a.First+1)
		o.confirm(r, nil)
	case txnRevision:
		o.rev, o.epoch, o.since = a.First, a.Epoch, r.now
		if o.exact {
			if err := o.runAt(r, o.rev); err != nil {
				o.giveUp(r, err)
				return
			}
		}
		mvcc.FillMutations(o.result.Mutations, o.rev)
		mvcc.FillResponse(o.result.Response, o.rev)
		o.deal()
		o.phase = txnIntents
		o.sendIntents(r)
	default:
		invariant.Must(false, "transaction in phase %d is granted a revision", o.phase)
	}
}

// sendIntents sends the intents that no range has confirmed.
func (o *txnOp) sendIntents(r *Router) {
	o.refused, o.misled, o.lost = false, false, nil
	for i := range o.parts {
		p := &o.parts[i]
		if p.done {
			continue
		}
		o.open++
		q := &intentsRequest{body: peerpb.WriteIntents{
			Txn: o.id, Lock: p.lock, Revision: o.rev, Epoch: o.epoch, Intents: p.intents,
		}}
		q.Range, q.Generation, q.Body = p.desc.ID(), p.desc.Generation, &q.body
		r.sendRequest(o, i, &q.Request)
	}
}

// sendAnchor asks the range that holds the anchor.
func (o *txnOp) sendAnchor(r *Router) {
	anchor := o.record.IntentAddresses[0]
	d := r.cache.Lookup(anchor)
	if d == nil {
		o.wait(r)
		return
	}
	var body peerpb.Body = &peerpb.WriteRecord{Anchor: anchor, Record: o.record}
	if o.phase == txnLearn {
		body = &peerpb.Push{Txn: o.id, Anchor: anchor}
	}
	r.send(o, 0, d.ID(), d.Generation, body)
}

// wait has tick called after a while that grows.
func (o *txnOp) wait(r *Router) {
	r.wakeAt(o, r.now.Add(r.backoff(o.tries)))
	o.tries++
}

// tick goes on where the transaction waited for its time.
func (o *txnOp) tick(r *Router) {
	switch {
	case (o.phase == txnKnown || o.phase == txnRevision) && !o.answered:
		o.keepHolds(r)
	case o.slots > 0: // the deadline passed; what is under way decides
	case o.phase == txnIdle && o.answered:
		r.end(o)
	case o.phase == txnIdle:
		o.start(r)
	case o.phase == txnIntents:
		o.sendIntents(r)
	case o.phase == txnRecord, o.phase == txnLearn:
		o.sendAnchor(r)
	}
}

// startOver gives back what this attempt has and begins another after a while.
// REQUIRES: no record was sent, or the anchor said that it is aborted.
func (o *txnOp) startOver(r *Router, err error) {
	o.end(r, false)
	if o.answered {
		r.finish(o, nil, err)
		return
	}
	o.phase = txnIdle
	o.wait(r)
}

// giveUp gives back what this attempt has; the error is the client's.
func (o *txnOp) giveUp(r *Router, err error) {
	o.end(r, false)
	r.finish(o, nil, err)
}

// end has the ranges that this attempt asked for locks end it, in the background.
func (o *txnOp) end(r *Router, commit bool) {
	n := o.prepared
	if o.phase == txnPrepares && n < len(o.parts) {
		n++ // what it was asked for may be under way
	}
	if n == 0 {
		return
	}
	e := &txnEnd{id: o.id, commit: commit, locksOnly: o.rev == 0, parts: make([]txnEndPart, n)}
	for i := range e.parts {
		e.parts[i].addr = o.address(&o.parts[i])
	}
	if commit {
		e.anchor = o.record.IntentAddresses[0]
	}
	e.answered = true
	r.begin(e)
}

// divideAccesses cuts accesses at the borders of ranges: one part for each
// range, in key order.
func divideAccesses(c *Cache, accesses []peerpb.Access) ([]txnPart, error) {
	var parts []txnPart
	var pieces []piece
	for i := range accesses {
		a := &accesses[i]
		var err error
		if pieces, err = divide(c, pieces[:0], keys.UserSpan(a.Start, a.End)); err != nil {
			return nil, err
		}
		for _, pc := range pieces {
			in := *a
			in.Start, in.End, _ = keys.UserBounds(pc.span)
			parts = addAccess(parts, pc.desc, in)
		}
	}
	return parts, nil
}

// addAccess adds an access to the part of its range, in key order of parts.
func addAccess(parts []txnPart, d *metapb.Descriptor, a peerpb.Access) []txnPart {
	i, ok := slices.BinarySearchFunc(parts, d, func(p txnPart, d *metapb.Descriptor) int {
		return bytes.Compare(p.desc.Start, d.Start)
	})
	if !ok {
		parts = slices.Insert(parts, i, txnPart{desc: d})
	}
	parts[i].accesses = append(parts[i].accesses, a)
	return parts
}
