package keys

import (
	"encoding/binary"

	"github.com/flotilladb/flotilla/proto/metapb"
)

// LocalKind says what a local row of a replica is. The values are part of the
// disk format.
type LocalKind byte

// The local rows of a replica, in their order.
const (
	LocalHardState   LocalKind = 0x01 // raft's term, vote and commit
	LocalTruncated   LocalKind = 0x02 // the last entry that was cut off the log
	LocalApplied     LocalKind = 0x03 // how far the replica applied, and what it then was
	LocalDescriptor  LocalKind = 0x04 // the range's descriptor as this replica knows it
	LocalTombstone   LocalKind = 0x05 // the lowest replica id that may come back
	LocalRemovalMark LocalKind = 0x06 // below it, old versions may be gone (or half gone)
	LocalConfState   LocalKind = 0x07 // raft's voters and learners, as applied
	LocalCondemned   LocalKind = 0x08 // the replica whose data was found to be corrupt
	LocalLog         LocalKind = 0x10 // one entry of the log; has an index
)

// localPrefixLen is the length of a local key without index and sentinel.
const localPrefixLen = 1 + 8 + 1

func appendLocal(dst []byte, id metapb.RangeID, kind LocalKind) []byte {
	dst = append(dst, tableLocal)
	dst = binary.BigEndian.AppendUint64(dst, uint64(id))
	return append(dst, byte(kind))
}

func local(id metapb.RangeID, kind LocalKind) []byte {
	return append(appendLocal(make([]byte, 0, localPrefixLen+1), id, kind), sentinel)
}

// RaftHardState is the key of raft's hard state.
func RaftHardState(id metapb.RangeID) []byte { return local(id, LocalHardState) }

// RaftTruncated is the key of the index and term of the last entry that was cut
// off the log.
func RaftTruncated(id metapb.RangeID) []byte { return local(id, LocalTruncated) }

// AppliedState is the key of what a replica has applied.
func AppliedState(id metapb.RangeID) []byte { return local(id, LocalApplied) }

// Descriptor is the key of a range's descriptor on its replica.
func Descriptor(id metapb.RangeID) []byte { return local(id, LocalDescriptor) }

// Tombstone is the key of what a removed replica leaves behind.
func Tombstone(id metapb.RangeID) []byte { return local(id, LocalTombstone) }

// RemovalMark is the key of the revision below which a replica's old versions
// may be removed.
func RemovalMark(id metapb.RangeID) []byte { return local(id, LocalRemovalMark) }

// Condemned is the key of what says that a replica's data is corrupt.
func Condemned(id metapb.RangeID) []byte { return local(id, LocalCondemned) }

// RaftConfState is the key of raft's voters and learners as of the applied index.
func RaftConfState(id metapb.RangeID) []byte { return local(id, LocalConfState) }

// RaftLog is the key of a log entry.
func RaftLog(id metapb.RangeID, index uint64) []byte {
	return AppendRaftLog(make([]byte, 0, localPrefixLen+9), id, index)
}

// AppendRaftLog appends the key of a log entry.
func AppendRaftLog(dst []byte, id metapb.RangeID, index uint64) []byte {
	dst = appendLocal(dst, id, LocalLog)
	return append(binary.BigEndian.AppendUint64(dst, index), sentinel)
}

// RaftLogSpan returns the keys of the log entries in [lo, hi). A zero hi is the
// end of the log.
func RaftLogSpan(id metapb.RangeID, lo, hi uint64) Span {
	s := Span{Start: RaftLog(id, lo)}
	if hi == 0 {
		s.End = local(id, LocalLog+1)
	} else {
		s.End = RaftLog(id, hi)
	}
	return s
}

// LocalSpan returns all local keys of a replica.
func LocalSpan(id metapb.RangeID) Span {
	return Span{Start: local(id, 0), End: local(id, 0xff)}
}

// LocalTable returns the local keys of all replicas of the store.
func LocalTable() Span {
	return Span{Start: []byte{tableLocal, sentinel}, End: []byte{tableLocal + 1, sentinel}}
}

// NextReplica returns the first local key of a range after id, to go from
// replica to replica without reading their logs.
func NextReplica(id metapb.RangeID) []byte { return local(id+1, 0) }

// DecodeLocal takes a local key apart; index is zero unless the kind is
// LocalLog.
func DecodeLocal(key []byte) (id metapb.RangeID, kind LocalKind, index uint64, err error) {
	n := len(key)
	if n <= localPrefixLen || key[0] != tableLocal || key[n-1] != sentinel {
		return 0, 0, 0, badKey("local", key)
	}
	id = metapb.RangeID(binary.BigEndian.Uint64(key[1:]))
	kind = LocalKind(key[9])
	switch {
	case kind == LocalLog && n == localPrefixLen+9:
		return id, kind, binary.BigEndian.Uint64(key[localPrefixLen:]), nil
	case kind != LocalLog && n == localPrefixLen+1:
		return id, kind, 0, nil
	}
	return 0, 0, 0, badKey("local", key)
}

// StoreIdent is the key of who a store is.
func StoreIdent() []byte { return storeKey("ident") }

// StoreStart is the key of how often a store was started.
func StoreStart() []byte { return storeKey("start") }

// StoreRow is the key of another fact about the store.
func StoreRow(name string) []byte { return storeKey("row/" + name) }

func storeKey(name string) []byte {
	key := make([]byte, 0, len(name)+2)
	return append(append(append(key, tableStore), name...), sentinel)
}

// AppliedStep is the key of one of the rows in which the store notes in turn how far
// its replicas applied.
func AppliedStep(slot int) []byte {
	return append(append(append([]byte{tableStore}, "step/"...), byte(slot)), sentinel)
}

// AppliedSteps returns the keys of all of these rows.
func AppliedSteps() Span { return Span{Start: storeKey("step/"), End: storeKey("step0")} }

// DecodeStore returns the name in a store key.
func DecodeStore(key []byte) (name string, err error) {
	if len(key) < 2 || key[0] != tableStore || key[len(key)-1] != sentinel {
		return "", badKey("store", key)
	}
	return string(key[1 : len(key)-1]), nil
}
