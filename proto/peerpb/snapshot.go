package peerpb

import (
	"encoding/binary"
	"hash/crc32"

	"github.com/flotilladb/flotilla/proto/metapb"
)

// SnapshotHeader is what a replica is at an index, beside its rows.
type SnapshotHeader struct {
	Replica     metapb.ReplicaID // that it is for
	Descriptor  *metapb.Descriptor
	Index, Term uint64
	// Revision is the highest of any effect applied at Index.
	Revision metapb.Revision
	// RemovalMark is the revision below which all garbage is gone, -1 if none is.
	RemovalMark metapb.Revision
	// Compacted is up to where the sender may have removed garbage, -1 if nowhere: a
	// reader below it finds no whole state.
	Compacted metapb.Revision
}

// SnapshotChunk is a piece of a snapshot.
type SnapshotChunk struct {
	Range   metapb.RangeID
	Replica metapb.ReplicaID
	Index   uint64          // of the header
	ID      uint64          // of the sender: two views of one index may differ in garbage
	Number  uint64          // from 0
	Header  *SnapshotHeader // of chunk 0
	Table   int             // which of the range's tables the rows are of
	// Rows are keys and values, each after its length (uvarint), in order.
	Rows []byte
	Last bool
	Sum  uint32 // CRC-32C of all of the above
}

// SnapshotAnswer says which chunk is wanted next. Done: the receiver has all of it,
// and its replica is there. Refused: it does not want it.
type SnapshotAnswer struct {
	Range         metapb.RangeID
	Replica       metapb.ReplicaID
	Index, ID     uint64
	Next          uint64
	Done, Refused bool
}

// Gone says that a replica is not part of its range any more, and never will be; or
// it asks whether that is so.
type Gone struct {
	Range   metapb.RangeID
	Replica metapb.ReplicaID
}

// Checksum returns what Sum has to be.
func (c *SnapshotChunk) Checksum() (uint32, error) {
	buf := binary.BigEndian.AppendUint64(make([]byte, 0, 128), uint64(c.Range))
	for _, v := range []uint64{uint64(c.Replica), c.Index, c.ID, c.Number, uint64(c.Table)} {
		buf = binary.BigEndian.AppendUint64(buf, v)
	}
	if c.Last {
		buf = append(buf, 1)
	}
	if h := c.Header; h != nil {
		for _, v := range []uint64{uint64(h.Replica), h.Index, h.Term, uint64(h.Revision), uint64(h.RemovalMark), uint64(h.Compacted)} {
			buf = binary.BigEndian.AppendUint64(buf, v)
		}
		d, err := h.Descriptor.MarshalVT()
		if err != nil {
			return 0, err
		}
		buf = append(buf, d...)
	}
	table := crc32.MakeTable(crc32.Castagnoli)
	return crc32.Update(crc32.Checksum(buf, table), table, c.Rows), nil
}
