package ranges

import (
	"encoding/binary"
	"fmt"

	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/raftgroup"
)

// Where replicas differ and no majority agrees, an operator may know which is right:
// that one is the heir, and is trusted. The others give themselves up for it, one by
// one and for good; when a majority of the voters has, itself among them, the heir is
// in service again, and leads. What the others have is thrown away.
//
// A replica gives itself up for one heir only. Two majorities have a voter in common,
// so two replicas that differ are never both trusted, whatever is asked, forgotten or
// lost in between.

// The kinds of the row that says what is known of a replica's data.
const (
	rowCorrupt   = 0 // it is corrupt
	rowUndecided = 1 // it may be
	rowGivenUp   = 2 // it is corrupt, since another one is trusted: its id follows
	rowTrusted   = 3 // it is trusted, over those below the id that follows
)

// Heir returns the replica for which this one was given up, 0: it was not.
func (r *Replica) Heir() metapb.ReplicaID { return r.heir }

// TrustedOver returns the id below which all other replicas of the range were of no
// use when this one was trusted, 0: it was not.
func (r *Replica) TrustedOver() metapb.ReplicaID { return r.trustedOver }

// BeginReading begins to read all that a replica has. Nil: not now. When it is closed
// CheckpointClosed has to be called.
func (s *Store) BeginReading(id metapb.RangeID) *StateHash {
	r := s.replicas[id]
	if r == nil || s.cfg.NewView == nil || s.checkpoints >= s.cfg.CheckpointsMax {
		return nil
	}
	s.checkpoints++
	return newStateHash(s.cfg.NewView(keys.Tables(r.desc.Span())), r.desc, s.compacted)
}

// GiveUp gives a replica that is out of service up for another one. It returns the
// one for which it is given up, 0: it cannot be. Durable says that this holds also
// after a crash; GiveUp may be called again to ask for that.
func (s *Store) GiveUp(id metapb.RangeID, replica, heir metapb.ReplicaID) (to metapb.ReplicaID, durable bool) {
	r := s.replicas[id]
	if r == nil || r.id != replica || replica == heir || !r.Condemned() {
		return 0, false
	}
	if r.heir == 0 {
		r.heir, r.undecided = heir, false
		s.setCondemned(r, rowGivenUp, heir)
		r.heirToken = s.token + 1
		r.abdicate()
	}
	return r.heir, s.durable(r.heirToken)
}

// Trust has a replica of an undecided range in service again. REQUIRES: a majority of
// the voters was given up for it, itself not counted among these but in the majority.
func (s *Store) Trust(id metapb.RangeID) {
	r := s.replicas[id]
	r.condemned, r.undecided = false, false
	r.trustedOver = metapb.ReplicaID(r.desc.NextReplicaId)
	s.setCondemned(r, rowTrusted, r.trustedOver)
	// What it proposed when it led was others' to finish: it leads in another term.
	if err := r.group.Resign(); err != nil {
		s.fail(fmt.Errorf("range %d: %w", r.desc.RangeId, err))
		return
	}
	if !s.peers.live.Promised(r.Leader()) {
		s.arm(r)
	}
	s.mark(r)
}

// durable reports whether the Append of a token was synced.
func (s *Store) durable(token uint64) bool {
	return token <= s.token && (len(s.syncing) == 0 || s.syncing[0].token > token)
}

// setCondemned has the next log rows say what is known of a replica's data.
func (s *Store) setCondemned(r *Replica, kind byte, other metapb.ReplicaID) {
	if s.append == nil {
		s.append = s.cfg.NewBatch()
	}
	row := condemnedRow(r.desc.ID(), r.id, kind, other)
	s.append.Set(row.Key, row.Value)
}

// condemnedRow says what is known of a replica's data. Other is of kinds that name
// another one.
func condemnedRow(id metapb.RangeID, replica metapb.ReplicaID, kind byte, other metapb.ReplicaID) raftgroup.Row {
	value := append(binary.BigEndian.AppendUint64(nil, uint64(replica)), kind)
	if kind == rowGivenUp || kind == rowTrusted {
		value = binary.BigEndian.AppendUint64(value, uint64(other))
	}
	return raftgroup.Row{Key: keys.Condemned(id), Value: value}
}

// takeCondemned takes in what a row says.
func (r *Replica) takeCondemned(row []byte) error {
	if len(row) != 9 && len(row) != 17 {
		return fmt.Errorf("what is said of the data of range %d is damaged", r.desc.RangeId)
	}
	if metapb.ReplicaID(binary.BigEndian.Uint64(row)) != r.id {
		return nil
	}
	kind, other := row[8], metapb.ReplicaID(0)
	if len(row) == 17 {
		other = metapb.ReplicaID(binary.BigEndian.Uint64(row[9:]))
	}
	switch kind {
	case rowCorrupt, rowUndecided, rowGivenUp:
		r.condemned, r.undecided = true, kind == rowUndecided
		if kind == rowGivenUp {
			r.heir = other
		}
	case rowTrusted:
		r.trustedOver = other
	default:
		return fmt.Errorf("what is said of the data of range %d is unknown", r.desc.RangeId)
	}
	return nil
}
