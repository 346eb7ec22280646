package raftgroup

import (
	"fmt"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/proto/metapb"
)

// EntryType says who wrote an entry.
type EntryType byte

// The types of entries.
const (
	// EntryNormal is a proposal; without data it is the mark that a leader puts
	// at the beginning of its term.
	EntryNormal EntryType = EntryType(raftpb.EntryNormal)
	// EntryConfChange changes the replicas that count.
	EntryConfChange EntryType = EntryType(raftpb.EntryConfChangeV2)
)

// String names the type.
func (t EntryType) String() string {
	switch t {
	case EntryNormal:
		return "normal"
	case EntryConfChange:
		return "confchange"
	}
	return fmt.Sprintf("type%d", byte(t))
}

// Entry is one entry of a log. Data is never changed.
type Entry struct {
	Index, Term uint64
	Type        EntryType
	Data        []byte
	conf        *raftpb.ConfChangeV2 // of an EntryConfChange: for ApplyConf
}

// LogRow is one row of a log as ReadLog finds it.
type LogRow struct {
	Entry          // only Index is set if Err is not nil
	RowBytes int   // length of the row's value
	Err      error // what is wrong with the row: checksum, format, length
}

// ReadLog calls fn for the entries of a group's log with from <= Index, in
// order, until it returns an error, which ReadLog returns. Damaged rows are
// handed over with their Err set and do not end the walk: it is for looking at
// a store that is stopped, whatever its state. Data is valid during the call.
func ReadLog(r engine.Reader, rangeID metapb.RangeID, from uint64, fn func(LogRow) error) error {
	return scanRows(r, rangeID, from, 0, func(key, row []byte) (bool, error) {
		out := LogRow{RowBytes: len(row)}
		e, _, err := decodeEntryRow(key, row)
		if err == nil {
			out.Entry, err = exportEntry(e)
		}
		if err != nil {
			_, _, out.Index, _ = keys.DecodeLocal(key)
			out.Err = err
		}
		err = fn(out)
		return err == nil, err
	})
}

func exportEntry(e *raftpb.Entry) (Entry, error) {
	switch e.GetType() {
	case raftpb.EntryNormal:
		return Entry{Index: e.GetIndex(), Term: e.GetTerm(), Data: e.GetData()}, nil
	case raftpb.EntryConfChangeV2:
		return decodeConf(e)
	}
	return Entry{}, fmt.Errorf("unknown type, %s", e.GetType())
}
