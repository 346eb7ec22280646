package raftgroup

import (
	"errors"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/proto/metapb"
)

// The log of a new group begins behind an entry that never existed, so that an
// empty replica, which has nothing, is told apart from one that has it all.
const (
	// InitialIndex is the applied index of a new group.
	InitialIndex = 10
	// InitialTerm is the term of a new group.
	InitialTerm = 5
)

// Bootstrap writes the first state of a group into b: every voter of a new
// group starts from the same. The owner's applied index is then InitialIndex.
func Bootstrap(b engine.Batch, rangeID metapb.RangeID, voters []metapb.ReplicaID) error {
	return BootstrapConf(b, rangeID, Conf{Voters: voters})
}

// BootstrapConf is Bootstrap for a group that begins with learners too.
func BootstrapConf(b engine.Batch, rangeID metapb.RangeID, conf Conf) error {
	rows, err := StartRows(rangeID, Start{Index: InitialIndex, Term: InitialTerm, Conf: conf})
	for _, r := range rows {
		b.Set(r.Key, r.Value)
	}
	return err
}

// State is what an engine holds of a group, beside the entries themselves.
type State struct {
	Term      uint64           // the highest seen
	Vote      metapb.ReplicaID // in Term; 0 is nobody
	Committed uint64           // a lower bound: it is written with Term, Vote and changes of configuration
	// TruncatedIndex and TruncatedTerm are of the last entry that was cut off;
	// LastIndex and LastTerm of the last that is there.
	TruncatedIndex, TruncatedTerm uint64
	LastIndex, LastTerm           uint64
	LogBytes                      uint64 // of all rows of the log
	Voters, VotersOutgoing        []metapb.ReplicaID
	Learners, LearnersNext        []metapb.ReplicaID

	truncated, last position
	conf            *raftpb.ConfState
}

// ReadState reads a group's state, or ErrNoGroup. It is for groups that are
// not running.
func ReadState(r engine.Reader, rangeID metapb.RangeID) (State, error) {
	var s State
	hs, err := readRow(r, rangeID, keys.RaftHardState(rangeID), decodeHardState)
	if err != nil {
		return s, err
	}
	if s.truncated, err = readRow(r, rangeID, keys.RaftTruncated(rangeID), decodeTruncated); err != nil {
		return s, partial(rangeID, err)
	}
	if s.conf, err = readRow(r, rangeID, keys.RaftConfState(rangeID), decodeConfState); err != nil {
		return s, partial(rangeID, err)
	}
	if s.last, err = readLast(r, rangeID, s.truncated); err != nil {
		return s, err
	}
	s.Term, s.Vote, s.Committed = hs.term, metapb.ReplicaID(hs.vote), hs.commit
	s.TruncatedIndex, s.TruncatedTerm = s.truncated.index, s.truncated.term
	s.LastIndex, s.LastTerm = s.last.index, s.last.term
	s.LogBytes = s.last.end - s.truncated.end
	s.Voters, s.VotersOutgoing = replicaIDs(s.conf.Voters), replicaIDs(s.conf.VotersOutgoing)
	s.Learners, s.LearnersNext = replicaIDs(s.conf.Learners), replicaIDs(s.conf.LearnersNext)
	return s, nil
}

func replicaIDs(ids []uint64) []metapb.ReplicaID {
	out := make([]metapb.ReplicaID, len(ids))
	for i, id := range ids {
		out[i] = metapb.ReplicaID(id)
	}
	return out
}

func readRow[T any](r engine.Reader, rangeID metapb.RangeID, key []byte, decode func(key, row []byte) (T, error)) (v T, err error) {
	row, closer, err := r.Get(key)
	if errors.Is(err, engine.ErrNotFound) {
		return v, ErrNoGroup
	} else if err != nil {
		return v, wrapRead(rangeID, 0, err)
	}
	defer closer.Close()
	if v, err = decode(key, row); err != nil {
		return v, &CorruptionError{RangeID: rangeID, Reason: keys.Format(key) + ": " + err.Error()}
	}
	return v, nil
}

// partial is for a row that is missing although another is there.
func partial(rangeID metapb.RangeID, err error) error {
	if errors.Is(err, ErrNoGroup) {
		return &CorruptionError{RangeID: rangeID, Reason: "state is not complete"}
	}
	return err
}

// readLast returns the position of the last row, or truncated if there is none.
func readLast(r engine.Reader, rangeID metapb.RangeID, truncated position) (p position, err error) {
	span := keys.RaftLogSpan(rangeID, 0, 0)
	it, err := r.NewIter(engine.IterOptions{Lower: span.Start, Upper: span.End})
	if err != nil {
		return p, wrapRead(rangeID, 0, err)
	}
	defer func() {
		if e := it.Close(); err == nil && e != nil {
			err = wrapRead(rangeID, 0, e)
		}
	}()
	if !it.Last() {
		if err := it.Error(); err != nil {
			return p, wrapRead(rangeID, 0, err)
		}
		return truncated, nil
	}
	_, _, index, err := keys.DecodeLocal(it.Key())
	if err != nil {
		return p, &CorruptionError{RangeID: rangeID, Reason: err.Error()}
	}
	row, err := it.Value()
	if err != nil {
		return p, wrapRead(rangeID, index, err)
	}
	e, end, err := decodeEntryRow(it.Key(), row)
	if err != nil {
		return p, &CorruptionError{RangeID: rangeID, Index: index, Reason: err.Error()}
	}
	return position{index: index, term: e.GetTerm(), end: end}, nil
}
