package ranges

import (
	"errors"
	"fmt"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/internal/invariant"
	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/mvcc"
	"github.com/flotilladb/flotilla/proto/cmdpb"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/peerpb"
	"github.com/flotilladb/flotilla/raftgroup"
)

// applyEntries writes the effects of committed entries, in order.
func (r *Replica) applyEntries(entries []raftgroup.Entry) error {
	if len(entries) == 0 {
		return nil
	}
	switch {
	case r.stopped:
		return nil
	case r.checking != nil:
		r.rest = append(r.rest, entries...)
		return nil
	}
	s := r.store
	b := s.applyBatch()
	for i := range entries {
		err := r.applyEntry(b, &entries[i])
		if errors.Is(err, errUnknownCommand) || errors.Is(err, errParts) {
			if errors.Is(err, errParts) {
				r.part()
			} else {
				r.halt(&entries[i])
			}
			entries = entries[:i]
			break
		}
		if err != nil {
			return fmt.Errorf("apply entry %d: %w", entries[i].Index, err)
		}
		if r.checking != nil {
			r.rest = append(r.rest, entries[i+1:]...)
			entries = entries[:i+1]
			break
		}
	}
	if len(entries) == 0 {
		return nil
	}
	last := entries[len(entries)-1]
	r.state.index, r.state.term = last.Index, last.Term
	s.ring.note(r)
	if err := r.group.Applied(last.Index); err != nil {
		return err
	}
	r.advanceLater()
	r.cutLater()
	return nil
}

func (r *Replica) advanceLater() {
	if !r.advancing {
		r.advancing = true
		r.store.advance = append(r.store.advance, r)
	}
}

// applyEntry writes the effects of one entry. It decides only from the entry
// and the replica's applied state: every replica does the same.
func (r *Replica) applyEntry(b engine.Batch, e *raftgroup.Entry) error {
	if len(e.Data) == 0 { // the mark that begins a term
		if r.group.IsLeader() && e.Term == r.group.Term() {
			r.begin(e.Term)
		} else {
			r.from = nil // another one leads, or did: it has renewed leases
		}
		return nil
	}
	ent, own, err := r.entryOf(e)
	if err != nil {
		return err
	}
	if ent.Term != e.Term || ent.Generation != r.desc.Generation {
		if own != nil {
			r.applied--
			r.proposed -= own.size
			r.inflight = append(r.inflight[:r.applied], r.inflight[r.applied+1:]...)
			r.dropEffects(own.number)
			r.refuse(own, peerpb.ErrRefused)
			r.refuseReads(own.number)
		}
		return nil
	}
	for _, c := range ent.Commands {
		if !r.store.reads(c) { // before anything of the entry is written
			return errUnknownCommand
		}
		if r.parts(c) {
			return errParts
		}
	}
	if len(ent.Updates) > 0 {
		r.applyUpdates(b, ent.Updates)
	}
	for _, c := range ent.Commands {
		if err := r.applyCommand(b, e, c); err != nil {
			return err
		}
	}
	return nil
}

// entryOf returns an entry's contents: the batch itself where this leader
// proposed it, else decoded.
func (r *Replica) entryOf(e *raftgroup.Entry) (*cmdpb.Entry, *batch, error) {
	if r.applied < len(r.inflight) {
		own := r.inflight[r.applied]
		if own.index == e.Index && own.term == e.Term {
			r.applied++
			r.store.flying--
			return &own.entry, own, nil
		}
		invariant.Must(own.index > e.Index, "range %d: proposal %d was passed by entry %d", r.desc.RangeId, own.index, e.Index)
	}
	ent, err := decodeEntry(e.Data)
	return ent, nil, err
}

// applyUpdates writes versions. REQUIRES: in order of revision.
func (r *Replica) applyUpdates(b engine.Batch, updates []*cmdpb.Update) {
	for _, u := range updates {
		for _, m := range u.Mutations {
			mvcc.AppendMutation(b, Revision(u.Revision), m)
			r.attach(m)
		}
		r.sawRevision(Revision(u.Revision))
		r.store.decided(Revision(u.Revision))
	}
	r.store.applied = append(r.store.applied, Applied{Range: r.desc.ID(), Updates: updates})
}

func (r *Replica) sawRevision(rev Revision) { r.state.revision = max(r.state.revision, rev) }

func (r *Replica) applyCommand(b engine.Batch, e *raftgroup.Entry, c *cmdpb.Command) error {
	switch k := c.Kind.(type) {
	case *cmdpb.Command_Rows:
		return r.applyRows(b, k.Rows)
	case *cmdpb.Command_Split:
		return r.applySplit(b, k.Split)
	case *cmdpb.Command_Replicas:
		return r.applyReplicas(b, e, k.Replicas)
	case *cmdpb.Command_Intent:
		return r.applyIntents(b, k.Intent)
	case *cmdpb.Command_Record:
		return r.applyRecord(b, k.Record)
	case *cmdpb.Command_Resolve:
		return r.applyResolve(b, k.Resolve)
	case *cmdpb.Command_Forget:
		return r.applyForget(b, k.Forget)
	case *cmdpb.Command_Check:
		r.applyCheck(e, k.Check)
		return nil
	}
	return errUnknownCommand
}

// applyRows writes rows that have no versions.
func (r *Replica) applyRows(b engine.Batch, c *cmdpb.RowsCommand) error {
	for _, row := range c.Rows {
		if row.Deleted {
			b.Delete(keys.Row(row.Address))
		} else {
			b.Set(keys.Row(row.Address), row.Value)
		}
	}
	if r.desc.ID() == metapb.SystemRange {
		r.store.cfg.System.Apply(c.Rows)
	}
	return r.applyLeaseRows(c.Rows)
}

// advance is called when everything applied can be read in the engine.
func (r *Replica) advance() {
	r.advancing = false
	if r.checking != nil {
		r.takeCheckpoint()
	}
	done := r.inflight[:r.applied]
	for _, b := range done {
		r.advanced = b.number
		r.proposed -= b.size
		for _, a := range b.answers {
			r.store.reply(a.id, a.body, a.err)
		}
		r.checkpointsDone(b.checkpoints, nil)
		for _, w := range b.goOn {
			r.queue.push(w)
		}
		r.splits -= b.splits
	}
	if len(done) > 0 {
		r.overlay.Applied(r.advanced)
		r.view.applied(r.advanced)
		rest := copy(r.inflight, r.inflight[r.applied:])
		clear(r.inflight[rest:])
		r.inflight = r.inflight[:rest]
		r.applied = 0
	}
	r.advanceTxns()
	r.answerReads()
	if r.splits == 0 {
		r.releaseHeld()
	}
	if len(r.rights) > 0 || r.before != nil {
		r.finishSplit()
	}
	r.checkCloses()
	if len(r.queue.items) > 0 {
		r.store.mark(r)
	}
}

// answerReads answers requests that saw only what can be read by now.
func (r *Replica) answerReads() {
	waiting := r.reads
	r.reads = nil
	for _, a := range waiting {
		r.answerRead(a)
	}
}
