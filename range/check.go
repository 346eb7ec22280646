package ranges

import (
	"errors"
	"time"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/proto/cmdpb"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/peerpb"
	"github.com/flotilladb/flotilla/raftgroup"
)

// A consistency check is an entry of the log. Whoever applies it applies nothing
// behind it until what it has at that entry is in a view, which is then hashed beside
// the loop: so all replicas hash the same state, rows without versions among it, and
// all that is closed by then. What each removes by itself is left out: old versions
// below the compacted revision that the entry names.
//
// A replica that differs, or cannot be read, is condemned. That is a row of it, so
// that it holds until all that the store has of it is gone: it answers nothing,
// evaluates nothing and stands for no election. Its log is as good as before: it
// votes and acknowledges, so that the range survives the loss of another one.

// CheckID names a check of a range: the store that began it, and its number there.
type CheckID struct {
	Range  metapb.RangeID
	Store  metapb.StoreID
	Number uint64
}

// Checkpoint is a replica's state at the entry of a check.
type Checkpoint struct {
	Check   CheckID
	Replica metapb.ReplicaID
	Index   uint64
	// Hash goes over it. Nil: it cannot be hashed here. It is closed by its taker.
	Hash *StateHash
}

// WantedCheck is a peerpb.CheckRange of this ID whose turn it is.
type WantedCheck struct {
	ID    uint64
	Range metapb.RangeID
}

// checkpoint is a check whose entry is applied.
type checkpoint struct {
	id        CheckID
	index     uint64
	compacted Revision
}

// evaluateCheck takes a check into the batch. What is compacted is filled in when the
// sequencer has answered: nobody may have removed more.
func (r *Replica) evaluateCheck(b *batch, w *work, body *peerpb.CheckRange) verdict {
	switch {
	case !r.store.format.Has(metapb.Checks):
		r.store.reply(w.req.ID, nil, peerpb.ErrWaitsForUpgrade)
		return taken
	case body.Number == 0:
		r.store.out.Checks = append(r.store.out.Checks, WantedCheck{w.req.ID, r.desc.ID()})
		return taken
	case b.check != nil:
		return cuts
	}
	b.check = &cmdpb.CheckCommand{StoreId: uint64(body.Store), Number: body.Number, Compacted: -1}
	b.command(&cmdpb.Command{Kind: &cmdpb.Command_Check{Check: b.check}})
	b.asks = true
	b.done(w.req.ID, &peerpb.Done{})
	return taken
}

// BeginCheck has a range that is led here checked, under a number that this store
// has not used. An error says that it cannot be now.
func (s *Store) BeginCheck(id metapb.RangeID, number uint64) error {
	r := s.replicas[id]
	if r == nil || r.leading == 0 {
		return peerpb.ErrNotLeader
	}
	if r.condemned || r.single() || s.cfg.NewView == nil {
		return peerpb.ErrRefused
	}
	if !s.format.Has(metapb.Checks) {
		return peerpb.ErrWaitsForUpgrade
	}
	r.queue.push(s.work(&peerpb.Request{
		Range: id, Generation: r.desc.Generation, Body: &peerpb.CheckRange{Store: s.cfg.StoreID, Number: number},
	}))
	s.mark(r)
	return nil
}

// applyCheck notes that what the replica has now is to be hashed.
func (r *Replica) applyCheck(e *raftgroup.Entry, c *cmdpb.CheckCommand) {
	r.checking = &checkpoint{
		id:        CheckID{r.desc.ID(), metapb.StoreID(c.StoreId), c.Number},
		index:     e.Index,
		compacted: Revision(c.Compacted),
	}
}

// takeCheckpoint is called when the entry of a check can be read in the engine, and
// nothing behind it is applied.
func (r *Replica) takeCheckpoint() {
	s, at := r.store, r.checking
	r.checking = nil
	if len(r.rest) > 0 {
		s.mark(r)
	}
	p := Checkpoint{Check: at.id, Replica: r.id, Index: at.index}
	// Who has heard of a later compaction may have removed more than others have.
	if s.cfg.NewView != nil && s.checkpoints < s.cfg.CheckpointsMax && s.compacted <= at.compacted {
		s.checkpoints++
		p.Hash = newStateHash(s.cfg.NewView(keys.Tables(r.desc.Span())), r.desc, at.compacted)
	}
	s.out.Checkpoints = append(s.out.Checkpoints, p)
}

// CheckpointClosed says that the Hash of a Checkpoint was closed.
func (s *Store) CheckpointClosed() { s.checkpoints-- }

// Condemned reports whether the replica's data was found to be corrupt.
func (r *Replica) Condemned() bool { return r.condemned && !r.halted }

// Undecided reports whether it is condemned only because replicas differ, and nobody
// can say which of them are right.
func (r *Replica) Undecided() bool { return r.undecided }

// ID returns the replica's id.
func (r *Replica) ID() metapb.ReplicaID { return r.id }

// Shown reports whether readers may use the store's replica of a range.
func (s *Store) Shown(id metapb.RangeID) bool {
	r := s.replicas[id]
	return r != nil && !r.condemned
}

// Condemn takes a replica out of service, for good unless it is undecided. It reports
// whether the replica is here.
func (s *Store) Condemn(id metapb.RangeID, replica metapb.ReplicaID, undecided bool) bool {
	r := s.replicas[id]
	switch {
	case r == nil || r.id != replica:
		return false
	case r.Condemned() && (undecided || !r.undecided):
		return true
	}
	kind := byte(rowCorrupt)
	if undecided {
		kind = rowUndecided
	}
	s.setCondemned(r, kind, 0)
	r.undecided = undecided
	if r.Condemned() { // it is known by now
		r.abdicate()
		return true
	}
	r.halted = false // it gets worse
	r.condemn()
	return true
}

// condemn takes the replica out of service in memory. What it proposed as leader is
// others' to finish.
func (r *Replica) condemn() {
	s := r.store
	r.condemned = true
	s.peers.elections.Disarm(r.desc.ID())
	s.out.Removed = append(s.out.Removed, r.desc.ID())
	if r.lead != nil {
		s.peers.live.EndLead(r.lead)
		r.lead = nil
	}
	r.stepDown()
	r.refuseQueue(peerpb.ErrNotLeader)
	r.endSnapshots() // what it has must not become the majority's
	r.abdicate()
}

// abdicateEvery is after how many heartbeats without effect another replica is told
// to lead.
const abdicateEvery time.Duration = 3

// abdicate has another replica lead, as soon as one has the whole log: nothing is
// added to it here. Until then nobody leads.
func (r *Replica) abdicate() {
	s := r.store
	if !r.condemned || r.undecided || !r.group.IsLeader() {
		return // where all are out of service, who leads can say so
	}
	s.watchClock(r)
	if s.now.Before(r.abdicateAt) {
		return
	}
	r.abdicateAt = s.now.Add(abdicateEvery * s.peers.live.HeartbeatInterval())
	under, next := r.group.Transferee(), metapb.ReplicaID(0) // next is the first in turn behind the last
	for _, p := range r.desc.Replicas {
		id := metapb.ReplicaID(p.ReplicaId)
		if !stays(p) || id == r.id || !s.Live(metapb.StoreID(p.StoreId)) || !r.has(id) {
			continue
		}
		if next == 0 || next <= under && id > under {
			next = id
		}
	}
	if next == 0 {
		return
	}
	if err := r.group.TransferLeader(next); err != nil {
		s.fail(err)
	}
	s.mark(r)
	r.wake()
}

// loadCondemned reads whether the replica was found to be corrupt.
func (r *Replica) loadCondemned(rows engine.Reader) error {
	row, closer, err := rows.Get(keys.Condemned(r.desc.ID()))
	if errors.Is(err, engine.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	defer closer.Close()
	return r.takeCondemned(row)
}
