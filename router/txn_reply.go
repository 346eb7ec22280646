package router

import (
	"bytes"
	"errors"
	"slices"

	"github.com/flotilladb/flotilla/internal/invariant"
	"github.com/flotilladb/flotilla/mvcc"
	"github.com/flotilladb/flotilla/proto/peerpb"
	"github.com/flotilladb/flotilla/proto/txnpb"
)

// reply brings a range's answer to a transaction.
func (o *txnOp) reply(r *Router, tag int, body any, err error) {
	switch o.phase {
	case txnPrepares:
		o.preparedOne(r, tag, body, err)
	case txnIntents:
		o.intentsOf(r, tag, err)
	case txnConfirm:
		o.confirmed(r, err)
	case txnRecord:
		o.recorded(r, err)
	case txnLearn:
		o.learned(r, body, err)
	case txnMarks:
		o.marksOf(r, body, err)
	case txnLookups:
		o.lookedUp(r, tag, body, err)
	case txnRemove:
		o.removed(r, err)
	default:
		invariant.Must(false, "transaction in phase %d gets a reply", o.phase)
	}
}

// preparedOne takes the answer of a range that was asked for its locks, for more
// of what they hold, or to keep them.
func (o *txnOp) preparedOne(r *Router, tag int, body any, err error) {
	switch p, _ := body.(*peerpb.Prepared); {
	case tag < o.prepared:
		o.touchedOne(r, err)
	case err != nil:
		o.prepareFailed(r, err)
	case p == nil:
		o.giveUp(r, ErrBadRequest)
	case o.answered: // nobody waits any more
		o.startOver(r, nil)
	default:
		o.page(r, p)
	}
}

// touchedOne takes the answer of a range that was told to keep its locks.
func (o *txnOp) touchedOne(r *Router, err error) {
	o.open--
	if err != nil {
		o.lost = err
	}
	switch {
	case o.open > 0:
	case o.lost == nil && !o.answered && o.prepared == len(o.parts):
		o.seal(r)
	case o.lost == nil && !o.answered:
		// Whatever that took, one more range has its turn before they are told again.
		o.sendPrepare(r, o, o.prepared, o.from)
	case o.lost == nil || o.mayStartOver(o.lost):
		o.startOver(r, o.lost)
	default:
		o.giveUp(r, o.lost)
	}
}

// page takes in what the range that is being prepared has read.
func (o *txnOp) page(r *Router, p *peerpb.Prepared) {
	part := &o.parts[o.prepared]
	part.lock = p.Lock
	o.known, o.compacted = max(o.known, p.Known), max(o.compacted, p.Compacted)
	if p.Found == nil {
		o.state.Add(part.accesses, p.Rows, p.Counts)
	}
	switch {
	case o.state.Bytes() > r.cfg.TxnRowsBytesMax:
		o.giveUp(r, ErrTooLarge)
		return
	case p.Next != nil:
		o.from = *p.Next
	default:
		o.from = peerpb.Cursor{}
		o.prepared++
		if o.revoke != nil && !o.answered {
			// A lease may have keys in any number of ranges, and ends at once in all. It is as
			// long in coming to an end as they are many, but each has its time.
			r.extend(o)
		}
	}
	if p.Found != nil {
		if err := o.foundIn(r, part, p); err != nil {
			o.startOver(r, err)
			return
		}
	}
	o.prepare(r)
}

// prepareFailed divides a part anew whose range was cut, keeping the locks
// before it; for anything else that may pass the attempt starts over, so that
// no lock waits for an election.
func (o *txnOp) prepareFailed(r *Router, err error) {
	var moved *peerpb.MovedError
	unread := o.parts[o.prepared].lock == 0
	if errors.As(err, &moved) && len(moved.Newer) > 0 {
		r.Descriptors(moved.Newer)
	}
	if moved != nil && len(moved.Newer) > 0 && o.tries < triesAtOnceMax && !o.answered &&
		unread && len(o.parts[o.prepared].accesses) > 0 {
		o.tries++
		parts, divErr := divideAccesses(r.cache, o.parts[o.prepared].accesses)
		if divErr == nil {
			o.parts = slices.Replace(o.parts, o.prepared, o.prepared+1, parts...)
			o.prepare(r)
			return
		}
	}
	if o.mayStartOver(err) {
		o.startOver(r, err)
		return
	}
	o.giveUp(r, err)
}

// mayStartOver reports whether another attempt may fare better. An unknown
// outcome is one here as well: of locks and intents without a record.
func (o *txnOp) mayStartOver(err error) bool {
	return judge(err) != verdictFail || errors.Is(err, peerpb.ErrLockLost) || errors.Is(err, peerpb.ErrTxnAborted) ||
		errors.Is(err, peerpb.ErrMarkMissing)
}

// intentsOf takes the answer of one range to its intents, and goes on when all
// have answered.
func (o *txnOp) intentsOf(r *Router, tag int, err error) {
	o.open--
	switch {
	case err == nil:
		o.parts[tag].done = true
	case errors.Is(err, peerpb.ErrRevisionRefused):
		o.refused = true
	case errors.Is(err, peerpb.ErrRefused), errors.Is(err, peerpb.ErrOverloaded):
		// Not logged, and the locks are still there: the same again.
	case r.now.Before(o.since.Add(o.hold(r)/2)) && o.follow(r, &o.parts[tag], err):
		o.misled = true
	default:
		o.lost = err
	}
	if o.open > 0 {
		return
	}
	switch {
	case o.lost != nil && !o.mayStartOver(o.lost):
		o.giveUp(r, o.lost)
	case o.lost != nil || o.answered:
		o.startOver(r, o.lost)
	case o.refused:
		o.reviseRevision(r)
	case o.misled && o.tries < triesAtOnceMax:
		o.tries++
		o.sendIntents(r)
	case o.misled:
		r.wakeAt(o, r.now.Add(r.cfg.RetryDelayMin))
	case slices.ContainsFunc(o.parts, func(p txnPart) bool { return !p.done }):
		o.wait(r)
	default:
		o.phase = txnRecord
		o.sendAnchor(r)
	}
}

// follow reports whether an error says no more than that the range's leader is elsewhere, and
// takes what comes with it: the leader has the locks. Replicas may move under them, while a
// split, and in its time a transfer, waits until there are none.
func (o *txnOp) follow(r *Router, p *txnPart, err error) bool {
	if errors.Is(err, peerpb.ErrNotLeader) || errors.Is(err, peerpb.ErrRangeNotFound) {
		return true // whoever sends has heard of it
	}
	var moved *peerpb.MovedError
	if !errors.As(err, &moved) {
		return false
	}
	r.Descriptors(moved.Newer)
	for _, d := range moved.Newer {
		if d.ID() == p.desc.ID() && bytes.Equal(d.Start, p.desc.Start) && bytes.Equal(d.End, p.desc.End) {
			p.desc = d
			return true
		}
	}
	return false
}

// confirm gives the locks back and asks whether they held. A lock without an
// intent dies of age: had one died before Current was taken, what was read there
// could be older than the header says, or be of another state than what was read
// elsewhere: an error must fit one state as well.
func (o *txnOp) confirm(r *Router, failure error) {
	o.phase, o.lost, o.failure = txnConfirm, nil, failure
	if len(o.parts) == 0 { // it names no key
		r.finish(o, o.result.Response, failure)
		return
	}
	for i := range o.parts {
		p := &o.parts[i]
		o.open++
		r.send(o, i, p.desc.ID(), p.desc.Generation, &peerpb.Release{Txn: o.id, Lock: p.lock})
	}
}

// confirmed takes the answer of one range to that.
func (o *txnOp) confirmed(r *Router, err error) {
	o.open--
	if err != nil {
		o.lost = err
	}
	switch {
	case o.open > 0:
	case o.lost == nil:
		r.finish(o, o.result.Response, o.failure)
	case o.mayStartOver(o.lost):
		o.startOver(r, o.lost)
	default:
		o.giveUp(r, o.lost)
	}
}

// reviseRevision asks for a new revision with the locks held. What the ranges
// keep of the old one is not touched: the request is evaluated once more.
func (o *txnOp) reviseRevision(r *Router) {
	if err := o.run(r); err != nil && !(o.exact && errors.Is(err, mvcc.ErrWait)) {
		o.giveUp(r, err)
		return
	}
	o.askRevision(r)
}

// recorded takes the anchor's answer to the record.
func (o *txnOp) recorded(r *Router, err error) {
	switch {
	case err == nil:
		o.committed(r)
	case errors.Is(err, peerpb.ErrTxnAborted):
		o.startOver(r, err)
	case judge(err) == verdictUnknown:
		o.phase = txnLearn
		o.sendAnchor(r)
	case judge(err) == verdictFail:
		o.giveUp(r, err)
	default: // certainly not logged
		o.again(r, err)
	}
}

// learned takes what the anchor knows of the transaction. If it cannot be asked
// for too long the client was told so by its deadline.
func (o *txnOp) learned(r *Router, body any, err error) {
	p, _ := body.(*peerpb.Pushed)
	switch {
	case err == nil && p != nil && p.Status == txnpb.RecordStatus_COMMITTED:
		o.committed(r)
	case err == nil && p != nil && r.now.Before(o.deadline):
		o.startOver(r, peerpb.ErrTxnAborted)
	case err == nil:
		// Long ago: a record may have been there, and be forgotten by now.
		o.end(r, false)
		r.finish(o, nil, peerpb.ErrUnknown)
	case o.answered || (judge(err) == verdictFail && err != nil):
		r.finish(o, nil, peerpb.ErrUnknown) // the ranges find out by themselves
	default:
		o.again(r, err)
	}
}

// again asks the anchor once more after a while, wherever it is then.
func (o *txnOp) again(r *Router, err error) {
	var moved *peerpb.MovedError
	if errors.As(err, &moved) {
		r.Descriptors(moved.Newer)
	}
	o.wait(r)
}

// committed answers the client; the ranges are told in the background.
func (o *txnOp) committed(r *Router) {
	o.end(r, true)
	r.finish(o, o.result.Response, nil)
}
