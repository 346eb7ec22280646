package raftgroup

import (
	"errors"
	"fmt"

	"github.com/flotilladb/flotilla/proto/metapb"
)

var (
	// ErrNotLeader says that this replica does not lead its range. Nothing was
	// appended; ask the leader.
	ErrNotLeader = errors.New("raftgroup: not the leader")
	// ErrDropped says that the leader refuses proposals for now: too much is
	// uncommitted, or leadership is being handed over. Nothing was appended.
	ErrDropped = errors.New("raftgroup: proposal dropped")
	// ErrCannotCampaign says that the replica may not stand for election now:
	// it is no voter, or has to apply a change of configuration first.
	ErrCannotCampaign = errors.New("raftgroup: cannot campaign")
	// ErrPromised says that the replica may not stand for election yet: its store
	// has promised not to, or may have before it started.
	ErrPromised = errors.New("raftgroup: promised not to campaign")
	// ErrNoGroup says that the engine holds no state of the range's group.
	ErrNoGroup = errors.New("raftgroup: no group on this engine")
	// ErrBadMessage says that a message is not for this replica or of a kind
	// that no replica sends. It was ignored.
	ErrBadMessage = errors.New("raftgroup: bad message")
	// ErrNotApplied says that a log was to be cut above what is applied.
	ErrNotApplied = errors.New("raftgroup: not applied yet")
	// ErrBadConf says that a configuration cannot follow the one that applies.
	ErrBadConf = errors.New("raftgroup: bad change of configuration")
	// ErrCorrupt says that rows of the log are not what was written. It is
	// wrapped by a *CorruptionError.
	ErrCorrupt = errors.New("raftgroup: corrupt log")
)

// CorruptionError says which row of a group's state is damaged or missing. The
// group that returned it is stopped: every later call returns it too.
type CorruptionError struct {
	RangeID metapb.RangeID
	Index   uint64 // of the entry; 0 if it is not an entry
	Reason  string
}

func (e *CorruptionError) Error() string {
	if e.Index == 0 {
		return fmt.Sprintf("raftgroup: range %d: corrupt state: %s", e.RangeID, e.Reason)
	}
	return fmt.Sprintf("raftgroup: range %d: corrupt log entry %d: %s", e.RangeID, e.Index, e.Reason)
}

// Is makes errors.Is(err, ErrCorrupt) true.
func (e *CorruptionError) Is(target error) bool { return target == ErrCorrupt }

func wrapRead(rangeID metapb.RangeID, index uint64, err error) error {
	return fmt.Errorf("raftgroup: range %d: read log entry %d: %w", rangeID, index, err)
}

var errShortRow = errors.New("row is too short")
