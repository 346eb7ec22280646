package ranges

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/proto/metapb"
)

// ringSlots is the number of rows that stepRing writes in turn. It is part of the
// disk format: as many are read.
const ringSlots = 64

// ringFormat is the first byte of a row of the ring.
const ringFormat = 1

// stepRing writes how far replicas applied, for all that did in one step in one row,
// where a row for each would cost more than the effects. The rows are used in turn.
// Before one is written again, the replicas that did nothing since it was get rows of
// their own. So the state of a replica is the newest of its own row and of all rows of
// the ring, and as with its own row alone it is in the batch of the effects.
type stepRing struct {
	step  uint64 // of the last row, from 1
	slots [ringSlots][]*Replica
	now   []*Replica // that applied something in this step
	row   []byte
}

// note says that a replica applied something in this step.
func (g *stepRing) note(r *Replica) {
	if !r.noted {
		r.noted = true
		g.now = append(g.now, r)
	}
}

// flush writes the states of the step.
func (g *stepRing) flush(b engine.Batch) {
	now := g.now
	g.now = nil
	for _, r := range now {
		r.noted = false
	}
	if len(now) == 1 {
		now[0].writeState(b)
		g.now = now[:0]
		return
	}
	g.step++
	slot := int(g.step % ringSlots)
	g.row = append(g.row[:0], ringFormat)
	for _, r := range now {
		if r.gone { // what wipes its rows comes after this batch
			r.writeState(b)
			continue
		}
		r.ringStep = g.step
		g.row = binary.AppendUvarint(g.row, r.desc.RangeId)
		g.row = binary.AppendUvarint(g.row, uint64(r.id))
		g.row = binary.AppendUvarint(g.row, r.state.index)
		g.row = binary.AppendUvarint(g.row, r.state.term)
		g.row = binary.AppendUvarint(g.row, uint64(r.state.revision))
	}
	before := g.slots[slot]
	for _, r := range before {
		if r.ringStep == g.step-ringSlots {
			r.writeState(b)
		}
	}
	b.Set(keys.AppliedStep(slot), g.row)
	g.slots[slot], g.now = now, before[:0]
	clear(before)
}

// writeState writes the replica's own row.
func (r *Replica) writeState(b engine.Batch) {
	r.ringStep = 0
	writeApplied(b, r.desc.ID(), r.state)
}

// writeStates writes how far replicas applied in this step. One that a snapshot may
// replace has a row of its own: what comes then must not be written over by the ring.
func (s *Store) writeStates() {
	if len(s.ring.now) > 0 {
		s.ring.flush(s.apply)
	}
	if !s.installs {
		return
	}
	for _, in := range s.incoming {
		if r := s.replicas[in.Header.Descriptor.ID()]; r != nil {
			s.leaveRing(r)
		}
	}
}

// leaveRing gives a replica that is about to end a row of its own: until its rows are
// gone it may have to come back, and the ring goes on without it.
func (s *Store) leaveRing(r *Replica) {
	if r.ringStep != 0 {
		r.writeState(s.applyBatch())
	}
}

// ringState is what a row of the ring says of a replica.
type ringState struct {
	replica metapb.ReplicaID
	appliedState
}

// readRing returns the newest states in the ring.
func readRing(r engine.Reader) (map[metapb.RangeID]ringState, error) {
	ring := make(map[metapb.RangeID]ringState)
	for slot := range ringSlots {
		row, closer, err := r.Get(keys.AppliedStep(slot))
		if errors.Is(err, engine.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("applied states: %w", err)
		}
		err = decodeStep(row, func(id metapb.RangeID, st ringState) {
			if old := ring[id]; st.replica > old.replica || st.replica == old.replica && st.index > old.index {
				ring[id] = st
			}
		})
		if err = errors.Join(err, closer.Close()); err != nil {
			return nil, fmt.Errorf("applied states, row %d: %w", slot, err)
		}
	}
	return ring, nil
}

// decodeStep calls fn for the states in a row of the ring.
func decodeStep(row []byte, fn func(metapb.RangeID, ringState)) error {
	if len(row) == 0 || row[0] != ringFormat {
		return errBadApplied
	}
	for row = row[1:]; len(row) > 0; {
		var v [5]uint64
		for i := range v {
			x, n := binary.Uvarint(row)
			if n <= 0 {
				return errBadApplied
			}
			v[i], row = x, row[n:]
		}
		fn(metapb.RangeID(v[0]), ringState{
			replica:      metapb.ReplicaID(v[1]),
			appliedState: appliedState{index: v[2], term: v[3], revision: Revision(v[4])},
		})
	}
	return nil
}

// newest returns the newer one of a replica's own row and of what the ring says of it.
func (st appliedState) newest(ring map[metapb.RangeID]ringState, id metapb.RangeID, replica metapb.ReplicaID) appliedState {
	if in, ok := ring[id]; ok && in.replica == replica && in.index > st.index {
		return in.appliedState
	}
	return st
}
