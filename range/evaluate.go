package ranges

import (
	"errors"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"

	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/mvcc"
	"github.com/flotilladb/flotilla/proto/cmdpb"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/peerpb"
	"github.com/flotilladb/flotilla/raftgroup"
)

// verdict is what became of a request whose turn it was.
type verdict int

const (
	taken verdict = iota // it is in the batch, or answered
	parks                // it waits for locks, out of the queue
	cuts                 // it and what follows wait for the next batch
)

// evaluate makes a batch of what waits, if it is time. Without a free sync it
// waits for one, so that more requests share the next; transactions that only
// take locks go on, since they need no disk.
func (r *Replica) evaluate(free bool, base *mvcc.EngineState) {
	r.again = false
	if r.gone || len(r.queue.items) == 0 || r.asked != nil || r.frozen || r.leaving.stops() {
		return
	}
	if r.leading == 0 {
		if !r.group.IsLeader() {
			r.refuseQueue(peerpb.ErrNotLeader)
		}
		return
	}
	if !free && r.queue.hurried == 0 {
		r.waitForSync()
		return
	}
	if r.mustWait() || r.mayWait() {
		return // advance marks the replica again
	}
	r.settling = false
	if r.dropped {
		r.dropped = false
		r.store.cfg.System.Reset()
	}
	r.batches++
	b := &batch{number: r.batches}
	b.reserve(len(r.queue.items))
	r.fillBatch(b, base)
	switch {
	case b.empty():
	case b.asks:
		r.asked = b
		r.store.asks = append(r.store.asks, Ask{Range: r.desc.ID(), Term: r.leading, Number: b.number, N: b.changes})
	default:
		r.finish(b)
	}
	if len(r.queue.items) > 0 && r.asked == nil {
		// Not all was taken, and it may be that nothing was logged whose
		// application would call the replica up again.
		r.again = true
		r.store.mark(r)
	}
}

// mustWait reports whether no batch may be begun before one that is proposed is
// applied.
func (r *Replica) mustWait() bool {
	cfg := &r.store.cfg
	return len(r.inflight) >= cfg.ProposalsMax || r.proposed >= cfg.ProposalBytesMax ||
		((r.dropped || r.settling) && len(r.inflight) > 0)
}

const (
	// With busyEntries proposed at a store, a range that has one of them makes no entry
	// of fewer than fullBatch requests beside it.
	busyEntries = 8
	fullBatch   = 32
	// With Config.ShareRequests of a range proposed, it makes no further entry within
	// shareTime of the last, unless there is enough for a whole batch.
	shareTime = 20 * time.Millisecond
)

// mayWait reports whether what waits should share a batch with what comes until the
// one that is proposed is applied. An entry costs each replica far more than a
// request in it: with requests for many ranges under way they would else be nearly
// all of one request. With many for one range there would be several entries under
// way, each with its syncs, messages and answers; those who wait longer for a commit
// wait less for a processor. Where no other store is told of entries, those that share
// a sync are cheap, and waiting is not.
func (r *Replica) mayWait() bool {
	if !r.store.many || r.applied == len(r.inflight) || r.queue.hurried > 0 {
		return false
	}
	if r.store.flying >= busyEntries && len(r.queue.items) < fullBatch {
		return true
	}
	flying := r.inflight[r.applied:]
	last, n := flying[len(flying)-1], 0
	for _, b := range flying {
		n += len(b.answers)
	}
	if n < r.store.cfg.ShareRequests || r.queue.bytes >= r.store.cfg.BatchBytesMax || r.store.now.Sub(last.proposed) >= shareTime {
		return false
	}
	r.store.watchClock(r)
	return true
}

func (r *Replica) waitForSync() {
	if !r.waiting {
		r.waiting = true
		r.store.waiting = append(r.store.waiting, r)
	}
}

// fillBatch evaluates from the queue until the batch is full or cut. A request
// for which the engine cannot be read gets that as its answer; it left nothing
// in the batch.
func (r *Replica) fillBatch(b *batch, base *mvcc.EngineState) {
	st := r.overlay.Over(base)
	r.filling = true
	r.queue.sortPuts(r.store.cfg.BatchBytesMax)
	n := 0
	// What the lock table lets on meanwhile goes first: behind it in the queue may
	// be a prepare of the same keys, which would not know of it.
	for n < len(r.queue.items) && b.bytes < r.store.cfg.BatchBytesMax && !r.frozen && b.exact == nil && len(r.unparked) == 0 {
		w := r.queue.items[n]
		if r.store.rows >= r.store.cfg.EntryKeysMax && readsMany(w.req.Body) {
			break
		}
		v, err := r.evaluateOne(b, st, w)
		r.store.looked(base.Dead()/deadPerRow, 0)
		if err != nil {
			r.store.reply(w.req.ID, nil, err)
			v = taken
		}
		if v == cuts {
			break
		}
		if v == taken {
			b.bytes += w.bytes
		}
		n++
	}
	r.filling = false
	r.queue.drop(n)
	// Not earlier: the queue was being walked.
	r.queue.pushFront(r.unparked)
	r.unparked = nil
}

// readsMany reports whether a request may look at many rows at a time.
func readsMany(body peerpb.Body) bool {
	switch body := body.(type) {
	case *peerpb.Prepare, *peerpb.Resolve:
		return true
	case *peerpb.Write:
		_, put := body.Req.(*pb.PutRequest)
		return !put
	}
	return false
}

// evaluateOne evaluates one request. Errors of the request are its answer; an
// error returned is one of the engine's.
func (r *Replica) evaluateOne(b *batch, st mvcc.State, w *work) (verdict, error) {
	switch body := w.req.Body.(type) {
	case *peerpb.Write:
		return r.evaluateWrite(b, st, w, body)
	case *peerpb.Close:
		r.close(w.req.ID, body)
		return taken, nil
	case *peerpb.Read:
		r.closeRead(w, body.Revision, body.Epoch, body.Start, body.End)
		return taken, nil
	case *peerpb.History:
		r.closeRead(w, body.To, body.Epoch, body.Start, body.End)
		return taken, nil
	case *peerpb.Hash:
		r.closeRead(w, body.Revision, body.Epoch, body.Start, body.End)
		return taken, nil
	case *peerpb.Split:
		return r.evaluateSplit(b, w, body), nil
	case *peerpb.ChangeReplicas:
		return r.evaluateChange(b, w, body), nil
	case *peerpb.System:
		return r.evaluateSystem(b, w, body), nil
	case *peerpb.Prepare:
		return r.evaluatePrepare(b, st, w, body)
	case *peerpb.WriteIntents:
		return r.evaluateIntents(b, w, body)
	case *peerpb.WriteRecord:
		return r.evaluateRecord(b, w, body)
	case *peerpb.Push:
		return r.evaluatePush(b, w, body)
	case *peerpb.Resolve:
		return r.evaluateResolve(b, st, w, body)
	case *peerpb.Release:
		return r.evaluateRelease(b, w, body)
	case *peerpb.Forget:
		return r.evaluateForget(b, w, body)
	case *peerpb.CheckRange:
		return r.evaluateCheck(b, w, body), nil
	case *peerpb.Transfer:
		r.store.out.Transfers = append(r.store.out.Transfers, WantedTransfer{w.req.ID, r.desc.ID(), body.To})
		return taken, nil
	}
	if v, ok := r.evaluateLease(b, w); ok {
		return v, nil
	}
	r.store.reply(w.req.ID, nil, peerpb.ErrRefused)
	return taken, nil
}

// evaluateWrite evaluates a client's request.
func (r *Replica) evaluateWrite(b *batch, st mvcc.State, w *work, body *peerpb.Write) (verdict, error) {
	if !w.admitted && !r.locks.idle() && !r.admit(w, accessesOf(body.Req), usesOf(mvcc.Leases(body.Req))...) {
		return parks, nil
	}
	if err := r.noRoom(); err != nil && mvcc.Puts(body.Req) {
		r.store.reply(w.req.ID, nil, err)
		return taken, nil
	}
	r.overlay.ResetTouched()
	r.asking = w
	rev := b.open()
	res, err := r.evaluateAt(st, rev, body.Req)
	if errors.Is(err, mvcc.ErrWait) {
		if b.changes > 0 {
			return cuts, nil
		}
		if r.store.many {
			// What is current, and what is compacted, only the sequencer knows. A
			// transaction asks it.
			r.store.reply(w.req.ID, nil, peerpb.ErrNeedsTxn)
			return taken, nil
		}
		if len(r.inflight) > 0 {
			// It may see what is under way, and so more than is current.
			r.settling = true
			return cuts, nil
		}
		// The request compares its own revision with one that was not issued. It
		// is evaluated at the one that comes next, and once more if it gets
		// another.
		rev = r.store.known + 1
		if res, err = r.evaluateAt(st, rev, body.Req); err == nil && res.Changed {
			b.exact = body.Req
		}
	}
	if errors.Is(err, mvcc.ErrTooLarge) || err == nil && r.showsMore(res.Response) {
		r.store.looked(r.store.cfg.EntryKeysMax, 0)
		r.store.reply(w.req.ID, nil, peerpb.ErrTooLarge)
		return taken, nil
	}
	if errors.Is(err, mvcc.ErrLeaseUnknown) {
		lacking := r.lacking(w, mvcc.Leases(body.Req))
		if r.registerHere(b, lacking) {
			return r.evaluateWrite(b, st, w, body)
		}
		r.register(w, lacking)
		return parks, nil
	}
	if errors.Is(err, mvcc.ErrLeaseNotFound) && hasCompares(body.Req) {
		// The lease was absent when its home was asked, but the compares are of
		// now: there may have been no moment for which both are true. A
		// transaction asks with its keys locked.
		err = peerpb.ErrNeedsTxn
	}
	if err != nil {
		b.answers = append(b.answers, answer{id: w.req.ID, err: err, touched: r.overlay.Touched()})
		return taken, nil
	}
	r.store.looked(res.Named, res.NamedBytes)
	b.asks = true
	b.answers = append(b.answers, answer{
		id: w.req.ID, body: res.Response, changed: res.Changed, place: b.changes, touched: r.overlay.Touched(),
	})
	if res.Changed {
		r.overlay.Add(b.number, rev, res.Mutations)
		b.update(rev, res.Mutations)
	}
	return taken, nil
}

// evaluateAt evaluates a client's request at a revision, open or assumed.
func (r *Replica) evaluateAt(st mvcc.State, rev Revision, req proto.Message) (mvcc.Result, error) {
	cfg := &r.store.cfg
	env := mvcc.Env{
		Revision: rev, Known: r.store.known, Compacted: r.store.compacted, Stale: r.store.many,
		Lease:      r.lessor,
		DeletesMax: cfg.EntryKeysMax, DeleteBytesMax: cfg.EntryBytesMax,
	}
	if !mvcc.IsOpen(rev) {
		env.Known = rev - 1
	}
	return mvcc.Evaluate(st, env, req)
}

// showsMore reports whether the answer to a transaction shows more bytes than may go to
// another store at once: then a coordinator is to read page by page. That of any other
// request is bounded.
func (r *Replica) showsMore(resp proto.Message) bool {
	m, ok := resp.(*pb.TxnResponse)
	return ok && r.store.many && shownBytes(m, r.store.cfg.EntryBytesMax) > r.store.cfg.EntryBytesMax
}

// shownBytes is what an answer shows, up to a bound and one operation.
func shownBytes(m *pb.TxnResponse, bytesMax int) (n int) {
	for _, op := range m.Responses {
		var kvs []*mvccpb.KeyValue
		switch o := op.Response.(type) {
		case *pb.ResponseOp_ResponseRange:
			kvs = o.ResponseRange.Kvs
		case *pb.ResponseOp_ResponseDeleteRange:
			kvs = o.ResponseDeleteRange.PrevKvs
		case *pb.ResponseOp_ResponsePut:
			if kv := o.ResponsePut.PrevKv; kv != nil {
				n += len(kv.Key) + len(kv.Value)
			}
		case *pb.ResponseOp_ResponseTxn:
			n += shownBytes(o.ResponseTxn, bytesMax-n)
		}
		for _, kv := range kvs {
			n += len(kv.Key) + len(kv.Value)
		}
		if n > bytesMax {
			return n
		}
	}
	return n
}

// hasCompares reports whether what a request does depends on compares.
func hasCompares(req proto.Message) bool {
	_, ok := req.(*pb.TxnRequest)
	return ok
}

// evaluateExact evaluates the one change of a batch again, at the revision that
// it got instead of the one that was assumed. What it changes does not depend on
// the revision; what its response shows may.
func (r *Replica) evaluateExact(b *batch, rev Revision) error {
	r.overlay.Drop(b.number)
	r.asking = nil
	start, end, _ := keys.UserBounds(r.desc.Span())
	base := mvcc.NewEngineState(r.store.cfg.Reader, start, end)
	defer base.Close()
	res, err := r.evaluateAt(r.overlay.Over(base), rev, b.exact)
	if err != nil {
		return err
	}
	r.overlay.Add(b.number, rev, res.Mutations)
	b.entry.Updates[0].Mutations = res.Mutations
	b.answers[len(b.answers)-1].body = res.Response
	return nil
}

// evaluateSystem evaluates an operation of the system range.
func (r *Replica) evaluateSystem(b *batch, w *work, body *peerpb.System) verdict {
	if r.desc.ID() != metapb.SystemRange {
		r.store.reply(w.req.ID, nil, peerpb.ErrRefused)
		return taken
	}
	if op, ok := body.Op.(interface{ OfTerm() uint64 }); ok && op.OfTerm() != r.leading {
		r.store.reply(w.req.ID, nil, peerpb.ErrRefused)
		return taken
	}
	rows, reply, err := r.store.cfg.System.Evaluate(body.Op)
	if err != nil || len(rows) == 0 {
		b.answers = append(b.answers, answer{id: w.req.ID, body: reply, err: err, touched: b.number})
		return taken
	}
	b.command(&cmdpb.Command{Kind: &cmdpb.Command_Rows{Rows: &cmdpb.RowsCommand{Rows: rows}}})
	b.system = append(b.system, rows...)
	b.done(w.req.ID, reply)
	return taken
}

// granted takes the revisions of the batch that was asked for.
func (r *Replica) granted(g Grant) {
	b := r.asked
	if b == nil || g.Term != r.leading || g.Number != b.number {
		return // of a term or a batch that is over
	}
	// Of an older epoch, or late: the range may have called it closed.
	if g.Refused || g.Epoch < r.store.epoch || b.changes > 0 && g.First <= r.called {
		g.Ask.N = b.changes
		r.store.asks = append(r.store.asks, g.Ask)
		return
	}
	r.asked = nil
	if b.exact != nil && Revision(b.entry.Updates[0].Revision) != g.First {
		if err := r.evaluateExact(b, g.First); err != nil {
			r.dropEffects(b.number)
			if errors.Is(err, mvcc.ErrLeaseUnknown) {
				err = peerpb.ErrRefused // its mark had to give way to another
			}
			r.refuse(b, err)
			return
		}
	}
	if b.check != nil {
		b.check.Compacted = int64(r.store.compacted)
	}
	for i, u := range b.entry.Updates {
		u.Revision = int64(g.First) + int64(i)
	}
	r.overlay.Fill(b.number, g.First)
	for i := range b.answers {
		r.fillAnswer(b, &b.answers[i], &g)
	}
	r.finish(b)
	if len(r.queue.items) > 0 {
		r.store.mark(r)
	}
}

// fillAnswer fills revisions into a response. The header of a request that
// changed nothing is the current revision, or that of the last change it saw if
// that is higher: nothing at or below it is missing from what was read, and
// nothing that is not applied yet, on any range, shows in it.
func (r *Replica) fillAnswer(b *batch, a *answer, g *Grant) {
	msg, ok := a.body.(proto.Message)
	if !ok {
		return
	}
	mvcc.FillResponse(msg, g.First)
	switch {
	case a.changed:
	case a.touched == b.number:
		// Not the batch's last: what comes later in it the request did not see.
		setHeader(msg, g.First+Revision(a.place)-1)
	default:
		setHeader(msg, max(g.Current, r.lastRevision(a.touched)))
	}
}

// lastRevision returns the last revision of a batch that is proposed; 0 if it is
// over, or changes nothing.
func (r *Replica) lastRevision(number uint64) Revision {
	for _, b := range r.inflight {
		if b.number == number && len(b.entry.Updates) > 0 {
			return Revision(b.entry.Updates[len(b.entry.Updates)-1].Revision)
		}
	}
	return 0
}

// setHeader sets the revision of a response and of the responses inside it, but
// for the header of a transaction in a transaction, which is empty in etcd.
func setHeader(msg proto.Message, rev Revision) {
	switch m := msg.(type) {
	case *pb.DeleteRangeResponse:
		m.Header.Revision = int64(rev)
	case *pb.RangeResponse:
		m.Header.Revision = int64(rev)
	case *pb.TxnResponse:
		if m.Header.Revision != 0 {
			m.Header.Revision = int64(rev)
		}
		for _, op := range m.Responses {
			switch o := op.Response.(type) {
			case *pb.ResponseOp_ResponseRange:
				setHeader(o.ResponseRange, rev)
			case *pb.ResponseOp_ResponseDeleteRange:
				setHeader(o.ResponseDeleteRange, rev)
			case *pb.ResponseOp_ResponseTxn:
				setHeader(o.ResponseTxn, rev)
			}
		}
	}
}

// finish proposes a batch whose revisions are known, or answers it if it has
// nothing for the log.
func (r *Replica) finish(b *batch) {
	if b.logs() && !r.propose(b) {
		return
	}
	later := b.answers[:0] // when the batch is applied
	for _, a := range b.answers {
		if a.changed {
			later = append(later, a)
		} else {
			r.answerRead(a)
		}
	}
	clear(b.answers[len(later):])
	b.answers = later
}

// propose hands a batch to raft; false if raft did not take it.
func (r *Replica) propose(b *batch) bool {
	b.entry.Term, b.entry.Generation = r.leading, r.desc.Generation
	data, err := b.entry.MarshalVT()
	if err == nil {
		if b.replicas == nil {
			b.index, b.term, err = r.group.Propose(data)
		} else {
			b.index, b.term, err = r.group.ProposeConf(confOf(b.replicas), data)
		}
	}
	if err != nil {
		r.dropEffects(b.number)
		if !errors.Is(err, raftgroup.ErrDropped) && !errors.Is(err, raftgroup.ErrNotLeader) {
			r.refuse(b, err)
			return false
		}
		r.refuse(b, peerpb.ErrRefused)
		return false
	}
	b.size, b.proposed = len(data), r.store.now
	r.proposed += b.size
	r.inflight = append(r.inflight, b)
	r.store.flying++
	r.stats.wrote(r.store.now, len(b.entry.Updates), len(data))
	r.wake()
	r.store.mark(r)
	return true
}

// answerRead answers a request that changes nothing, now or when what it saw
// can be read.
func (r *Replica) answerRead(a answer) {
	switch {
	case a.touched > r.advanced && len(r.inflight) > 0 && a.touched >= r.inflight[0].number:
		r.reads = append(r.reads, a)
	case !r.holdsLease():
		r.store.reply(a.id, nil, peerpb.ErrRefused)
	default:
		r.store.reply(a.id, a.body, a.err)
	}
}

// accessesOf lists what a request touches; the parts outside the range are not
// this range's business.
func accessesOf(req proto.Message) []peerpb.Access { return mvcc.Footprint(req) }

// admit asks the lock table whether a request may go on; if not, it waits out
// of the queue until the locks before it are gone.
func (r *Replica) admit(w *work, accesses []peerpb.Access, leases ...leaseLock) bool {
	if w.ticket == 0 {
		r.tickets++
		w.ticket = r.tickets
	}
	if r.locks.admit(w.ticket, accesses, leases...) {
		return true
	}
	r.park(w)
	return false
}

// park keeps a request until the lock table returns its ticket.
func (r *Replica) park(w *work) {
	if r.parked == nil {
		r.parked = make(map[uint64]*work)
	}
	r.parked[w.ticket] = w
	r.queue.aside += w.bytes
	r.store.watchClock(r)
}

// unpark puts requests whose locks are gone back at the head of the queue.
func (r *Replica) unpark(tickets []uint64) {
	var ws []*work
	for _, t := range tickets {
		if w := r.parked[t]; w != nil {
			delete(r.parked, t)
			r.queue.aside -= w.bytes
			w.admitted = true
			ws = append(ws, w)
		}
	}
	switch {
	case len(ws) == 0:
		return
	case r.filling:
		r.unparked = append(r.unparked, ws...)
	default:
		r.queue.pushFront(ws)
	}
	r.store.mark(r)
}
