package ranges

import (
	"time"

	"github.com/flotilladb/flotilla/internal/clock"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/peerpb"
	"github.com/flotilladb/flotilla/proto/txnpb"
)

// Two things of a transaction may outlive its coordinator: intents, whose range
// asks the anchor what became of them, and a record, whose range has the intents
// resolved and then forgets it.

// pushOf is a question to another range that is not answered yet.
type pushOf struct {
	rangeID metapb.RangeID
	txn     *txnpb.TxnID
	// sweep is set for the questions that a record's range asks.
	sweep *sweep
	// reg is set for a question to the home of a lease.
	reg *registration
}

// recordAgeMax is how long a record is left to a living coordinator. It is well
// above a router's request timeout: a coordinator that asks what became of its
// transaction starts over when there is no record.
const recordAgeMax = 30 * time.Second

// sweep has the intents of a record resolved.
type sweep struct {
	open   int // answers that are missing
	failed bool
	again  clock.Time // when to try once more
}

// send asks whichever range holds an address.
func (s *Store) send(addr []byte, body peerpb.Body, of pushOf) {
	s.sends++
	s.pushes[s.sends] = of
	s.out.Sends = append(s.out.Sends, Send{ID: s.sends, Address: addr, Body: body})
}

// Reply brings the answer to one of Output.Sends.
func (s *Store) Reply(rep peerpb.Reply) {
	of, ok := s.pushes[rep.ID]
	if !ok {
		return
	}
	delete(s.pushes, rep.ID)
	r := s.replicas[of.rangeID]
	if r == nil || r.leading == 0 {
		return
	}
	if of.reg != nil {
		r.registered(of.reg, rep)
		return
	}
	if of.sweep != nil {
		r.swept(of, rep.Err)
		return
	}
	// Without an answer the lock's next push asks again.
	if p, ok := rep.Body.(*peerpb.Pushed); ok && rep.Err == nil {
		r.enqueue(&peerpb.Resolve{Txn: of.txn, Commit: p.Status == txnpb.RecordStatus_COMMITTED})
	}
}

// enqueue puts a request of the replica's own into its queue; nobody waits for
// its answer.
func (r *Replica) enqueue(body peerpb.Body) {
	req := &peerpb.Request{Range: r.desc.ID(), Generation: r.desc.Generation, Body: body}
	r.queue.push(&work{req: req, bytes: RequestBytes(body)})
	r.store.mark(r)
}

// tickTxns looks after locks that are too old, and asks for the outcome of old
// intents.
func (r *Replica) tickTxns(now clock.Time) {
	if r.leading == 0 {
		return
	}
	admitted, push := r.locks.tick(now)
	r.unpark(admitted)
	for _, l := range push {
		r.store.send(l.anchor, &peerpb.Push{Txn: l.id, Anchor: l.anchor}, pushOf{rangeID: r.desc.ID(), txn: l.id})
	}
	if !r.locks.idle() {
		r.store.watchClock(r)
	}
	r.sweepRecords(now)
}

// watchRecords has tickTxns called while there are records.
func (r *Replica) watchRecords() {
	if r.leading != 0 && len(r.txns.records) > 0 {
		r.store.watchClock(r)
	}
}

// sweepRecords has the transactions resolved whose coordinator left them: its
// record is still here though it is old, or its start of the store is gone.
func (r *Replica) sweepRecords(now clock.Time) {
	if len(r.txns.records) == 0 {
		r.sweeps = nil
		return
	}
	r.store.watchClock(r)
	if now.Before(r.sweepAt) {
		return
	}
	r.sweepAt = now.Add(r.store.cfg.IntentAgeMax)
	seen := make(map[txnKey]*sweep, len(r.txns.records))
	for _, rec := range r.txns.sortedRecords() {
		key := keyOf(rec.Id)
		sw := r.sweeps[key]
		if sw == nil {
			// The first look only notes it: a living coordinator needs a moment.
			sw = &sweep{again: now.Add(recordAgeMax)}
			if r.store.coordinatorGone(rec.Id) {
				sw.again = now
			}
		}
		seen[key] = sw
		if sw.open > 0 || sw.again.After(now) {
			continue
		}
		sw.again, sw.failed = now.Add(recordAgeMax), false
		for _, addr := range rec.IntentAddresses {
			sw.open++
			r.store.send(addr, &peerpb.Resolve{Txn: rec.Id, Commit: true},
				pushOf{rangeID: r.desc.ID(), txn: rec.Id, sweep: sw})
		}
	}
	r.sweeps = seen
}

// swept takes the answer of one range whose intents were to be resolved. When
// all have confirmed, the record goes.
func (r *Replica) swept(of pushOf, err error) {
	of.sweep.open--
	of.sweep.failed = of.sweep.failed || err != nil
	rec := r.txns.records[keyOf(of.txn)]
	if of.sweep.open == 0 && !of.sweep.failed && rec != nil {
		r.enqueue(&peerpb.Forget{Txn: rec.Id, Anchor: anchorOf(rec)})
	}
}
