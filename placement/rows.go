package placement

import (
	"encoding/binary"
	"fmt"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/proto/cmdpb"
	"github.com/flotilladb/flotilla/proto/metapb"
)

// The system rows, by name. They are part of the disk format.
//
//	ceiling            3 x 8 bytes: the sequencer's, its epoch, number of the proposal
//	cluster            8 bytes: the cluster's id
//	compacted          8 bytes: the compacted revision; no row: never compacted
//	id/node …          8 bytes: the next id of the kind
//	one-store          empty: the cluster has one store
//	version            text: the cluster version
//	format             8 bytes: the metapb.Format that all members read; no row: the first
//	node/ id (8)       a Member, see memberRow
//	alarm/ type (4) member (8)    the alarm is active; empty, or 1 byte: it is contained
//	corrupt/ range (8) replica (8)  1 byte: the replica's data is corrupt; 1: undecided
//	dir/ 1 end address            a descriptor, by the end of its span
//	dir/ 2                        the descriptor that ends with the keyspace
//
// All numbers are big endian.
const (
	rowCeiling   = "ceiling"
	rowCluster   = "cluster"
	rowCompacted = "compacted"
	rowNodeID    = "id/node"
	rowRangeID   = "id/range"
	rowStoreID   = "id/store"
	rowOneStore  = "one-store"
	rowVersion   = "version"
	rowFormat    = "format"
	prefixAlarm  = "alarm/"
	prefixDir    = "dir/"
	// prefixCorrupt is followed by a replica.
	prefixCorrupt = "corrupt/"

	dirEnd  = "\x01"
	dirLast = "\x02"
)

// idRow is the name of the row that counts a kind of id.
func idRow(kind IDKind) (string, bool) {
	switch kind {
	case RangeIDs:
		return rowRangeID, true
	case NodeIDs:
		return rowNodeID, true
	case StoreIDs:
		return rowStoreID, true
	}
	return "", false
}

func setRow(name string, value []byte) *cmdpb.Row {
	return &cmdpb.Row{Address: keys.System(name), Value: value}
}

func deleteRow(name string) *cmdpb.Row {
	return &cmdpb.Row{Address: keys.System(name), Deleted: true}
}

func numberRow(name string, n uint64) *cmdpb.Row {
	return setRow(name, binary.BigEndian.AppendUint64(nil, n))
}

func ceilingRow(c ceiling) *cmdpb.Row {
	b := binary.BigEndian.AppendUint64(nil, uint64(c.rev))
	b = binary.BigEndian.AppendUint64(b, c.epoch)
	return setRow(rowCeiling, binary.BigEndian.AppendUint64(b, c.number))
}

func alarmName(a Alarm) string {
	b := []byte(prefixAlarm)
	b = binary.BigEndian.AppendUint32(b, uint32(a.Type))
	return string(binary.BigEndian.AppendUint64(b, uint64(a.Member)))
}

func decodeAlarmName(name string) (Alarm, error) {
	rest := []byte(strings.TrimPrefix(name, prefixAlarm))
	if len(rest) != 12 {
		return Alarm{}, badRow(name)
	}
	return Alarm{
		Type:   pb.AlarmType(binary.BigEndian.Uint32(rest)),
		Member: metapb.NodeID(binary.BigEndian.Uint64(rest[4:])),
	}, nil
}

// alarmRow is the row of an active alarm.
func alarmRow(a Alarm) *cmdpb.Row {
	if a.Contained {
		return setRow(alarmName(a), []byte{1})
	}
	return setRow(alarmName(a), nil)
}

func corruptName(c Corrupt) string {
	b := binary.BigEndian.AppendUint64([]byte(prefixCorrupt), uint64(c.Range))
	return string(binary.BigEndian.AppendUint64(b, uint64(c.Replica)))
}

func decodeCorrupt(name string, value []byte) (Corrupt, error) {
	rest := []byte(strings.TrimPrefix(name, prefixCorrupt))
	if len(rest) != 16 {
		return Corrupt{}, badRow(name)
	}
	return Corrupt{
		Range:     metapb.RangeID(binary.BigEndian.Uint64(rest)),
		Replica:   metapb.ReplicaID(binary.BigEndian.Uint64(rest[8:])),
		Undecided: len(value) == 1 && value[0] == 1,
	}, nil
}

func dirName(end []byte) string {
	if len(end) == 0 {
		return prefixDir + dirLast
	}
	return prefixDir + dirEnd + string(end)
}

func decodeDirName(name string) (end []byte, err error) {
	rest := strings.TrimPrefix(name, prefixDir)
	switch {
	case rest == dirLast:
		return nil, nil
	case len(rest) > 1 && rest[:1] == dirEnd:
		return []byte(rest[1:]), nil
	}
	return nil, badRow(name)
}

func descriptorRow(d *metapb.Descriptor) (*cmdpb.Row, error) {
	value, err := d.MarshalVT()
	if err != nil {
		return nil, fmt.Errorf("directory row of range %d: %w", d.RangeId, err)
	}
	return setRow(dirName(d.End), value), nil
}

func badRow(name string) error { return fmt.Errorf("%w: %q", ErrBadRow, name) }

// InitialFacts are what a fresh cluster begins with.
type InitialFacts struct {
	ClusterID uint64
	// NextRange, NextNode and NextStore are the first ids that are free.
	NextRange metapb.RangeID
	NextNode  metapb.NodeID
	NextStore metapb.StoreID
	Version   string
	// Format is what all members read for certain; 0: the first.
	Format metapb.Format
	// ManyStores says that the cluster begins with several stores.
	ManyStores bool
	// Descriptors are the first ranges.
	Descriptors []*metapb.Descriptor
	// Members are the first nodes.
	Members []Member
}

// InitialRows returns the system rows of a fresh cluster.
func InitialRows(f InitialFacts) ([]*cmdpb.Row, error) {
	rows := []*cmdpb.Row{
		numberRow(rowCluster, f.ClusterID),
		numberRow(rowNodeID, uint64(f.NextNode)),
		numberRow(rowRangeID, uint64(f.NextRange)),
		numberRow(rowStoreID, uint64(f.NextStore)),
		setRow(rowVersion, []byte(f.Version)),
	}
	if f.Format > metapb.FormatFirst {
		rows = append(rows, numberRow(rowFormat, uint64(f.Format)))
	}
	if !f.ManyStores {
		rows = append(rows, setRow(rowOneStore, nil))
	}
	for _, d := range f.Descriptors {
		row, err := descriptorRow(d)
		if err != nil {
			return nil, err
		}
		rows = append(rows, row)
	}
	for i := range f.Members {
		rows = append(rows, memberRow(&f.Members[i]))
	}
	return rows, nil
}
