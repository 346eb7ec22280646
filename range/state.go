package ranges

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/proto/metapb"
)

// appliedState is how far a replica has applied its log. It is written in the
// batch of the effects, so that the two never differ.
type appliedState struct {
	index, term uint64
	// revision is the highest of any effect applied, intents included: no
	// revision up to it may be issued again.
	revision Revision
}

// appliedFormat is the first byte of an applied state; another one is of a
// newer version.
const appliedFormat = 1

func writeApplied(b engine.Batch, id metapb.RangeID, st appliedState) {
	b.Set(keys.AppliedState(id), appliedRow(st))
}

func appliedRow(st appliedState) []byte {
	row := make([]byte, 0, 25)
	row = append(row, appliedFormat)
	row = binary.BigEndian.AppendUint64(row, st.index)
	row = binary.BigEndian.AppendUint64(row, st.term)
	return binary.BigEndian.AppendUint64(row, uint64(st.revision))
}

func readApplied(r engine.Reader, id metapb.RangeID) (appliedState, error) {
	row, closer, err := r.Get(keys.AppliedState(id))
	if err != nil {
		return appliedState{}, fmt.Errorf("applied state of range %d: %w", id, err)
	}
	defer closer.Close()
	if len(row) != 25 || row[0] != appliedFormat {
		return appliedState{}, fmt.Errorf("range %d: %w", id, errBadApplied)
	}
	return appliedState{
		index:    binary.BigEndian.Uint64(row[1:]),
		term:     binary.BigEndian.Uint64(row[9:]),
		revision: Revision(binary.BigEndian.Uint64(row[17:])),
	}, nil
}

func writeDescriptor(b engine.Batch, d *metapb.Descriptor) error {
	row, err := d.MarshalVT()
	if err != nil {
		return err
	}
	b.Set(keys.Descriptor(d.ID()), row)
	return nil
}

// ReadRemovalMark returns the revision below which old versions of a range's
// keys may be gone, -1 if none.
func ReadRemovalMark(r engine.Reader, id metapb.RangeID) (Revision, error) {
	rev, err := readRevision(r, keys.RemovalMark(id))
	if err != nil {
		return 0, fmt.Errorf("removal mark of range %d: %w", id, err)
	}
	return rev, nil
}

// readRevision reads a row that holds a revision, -1 if there is none.
func readRevision(r engine.Reader, key []byte) (Revision, error) {
	row, closer, err := r.Get(key)
	if errors.Is(err, engine.ErrNotFound) {
		return -1, nil
	}
	if err != nil {
		return 0, err
	}
	defer closer.Close()
	if len(row) != 8 {
		return 0, fmt.Errorf("a revision of %d bytes: the row is damaged", len(row))
	}
	return Revision(binary.BigEndian.Uint64(row)), nil
}

func revisionRow(rev Revision) []byte { return binary.BigEndian.AppendUint64(nil, uint64(rev)) }

// Rows of the store about what may be compacted in it: what its own removal began to
// remove, and what snapshots that came may lack. A start of a store that has no replica
// of the system range hears of it here, before it is asked for what is gone.
const (
	rowRemoving = "removing"
	rowLacking  = "lacking"
)

// WriteRemoving notes that old versions up to rev are about to be removed.
func WriteRemoving(b engine.Batch, rev Revision) {
	b.Set(keys.StoreRow(rowRemoving), revisionRow(rev))
}

// readCompacted returns the highest revision up to which something may be compacted
// in the store, -1 if nothing is.
func readCompacted(r engine.Reader) (Revision, error) {
	removing, err := readRevision(r, keys.StoreRow(rowRemoving))
	if err != nil {
		return 0, fmt.Errorf("what was removed: %w", err)
	}
	lacking, err := readRevision(r, keys.StoreRow(rowLacking))
	if err != nil {
		return 0, fmt.Errorf("what snapshots lack: %w", err)
	}
	return max(removing, lacking), nil
}

// WriteRemovalMark notes that a range's garbage up to rev was removed.
func WriteRemovalMark(b engine.Batch, id metapb.RangeID, rev Revision) {
	b.Set(keys.RemovalMark(id), revisionRow(rev))
}
