package raftgroup

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/proto/metapb"
)

// Every row of a group begins alike:
//
//	format (1 byte, 1) | CRC-32C of the row's key and what follows (4, LE) | body
//
// The key is part of the sum, so that a row which turns up under another key is
// found out. The bodies:
//
//	log entry    type (1) | term (uvarint) | end (uvarint) | data
//	hard state   term | vote | commit         (uvarints)
//	truncated    index | term | end           (uvarints)
//	conf state   raftpb.ConfState
//
// end counts the bytes of all log rows of the group up to and including this
// one, since its beginning. So the size of a log is a difference of two ends,
// also after a restart, and costs no reading.
const (
	rowFormat  = 1
	rowHeadLen = 1 + 4
)

// position is a place in the log.
type position struct {
	index, term uint64
	end         uint64 // bytes of all rows up to and including index
}

// hardState is raft's promise: what it voted, and in which term.
type hardState struct {
	term, vote, commit uint64
}

func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

// sealRow fills in the head of a row whose body is in place.
func sealRow(key, row []byte) {
	row[0] = rowFormat
	binary.LittleEndian.PutUint32(row[1:], rowSum(key, row))
}

func rowSum(key, row []byte) uint32 {
	return crc32.Update(crc32.Checksum(key, castagnoli()), castagnoli(), row[rowHeadLen:])
}

// openRow checks a row and returns its body.
func openRow(key, row []byte) ([]byte, error) {
	if len(row) < rowHeadLen {
		return nil, errShortRow
	}
	if row[0] != rowFormat {
		return nil, fmt.Errorf("unknown row format %d", row[0])
	}
	if want, got := binary.LittleEndian.Uint32(row[1:]), rowSum(key, row); want != got {
		return nil, fmt.Errorf("checksum is %08x, row says %08x", got, want)
	}
	return row[rowHeadLen:], nil
}

// cutUvarints takes len(out) uvarints off the front of body.
func cutUvarints(body []byte, out ...*uint64) (rest []byte, err error) {
	for _, v := range out {
		x, n := binary.Uvarint(body)
		if n <= 0 {
			return nil, errShortRow
		}
		*v, body = x, body[n:]
	}
	return body, nil
}

func uvarintLen(x uint64) int {
	n := 1
	for ; x >= 0x80; x >>= 7 {
		n++
	}
	return n
}

// entryRowLen returns the length of an entry's row. The end that goes into it
// counts the row itself, so its own length is found by trying.
func entryRowLen(keyLen int, term, before uint64, data []byte) (rowLen int, end uint64) {
	fixed := rowHeadLen + 1 + uvarintLen(term) + len(data)
	for n := uvarintLen(before); ; n++ {
		end = before + uint64(keyLen+fixed+n)
		if uvarintLen(end) == n {
			return fixed + n, end
		}
	}
}

// putEntryRow fills in a row of the length that entryRowLen gave.
func putEntryRow(key, row []byte, typ raftpb.EntryType, term, end uint64, data []byte) {
	body := append(row[:rowHeadLen], byte(typ))
	body = binary.AppendUvarint(body, term)
	body = binary.AppendUvarint(body, end)
	copy(row[len(body):], data)
	sealRow(key, row)
}

// decodeEntryRow returns the entry in a row. Its data is part of the row.
func decodeEntryRow(key, row []byte) (e *raftpb.Entry, end uint64, err error) {
	body, err := openRow(key, row)
	if err != nil {
		return nil, 0, err
	}
	if len(body) == 0 {
		return nil, 0, errShortRow
	}
	_, _, index, err := keys.DecodeLocal(key)
	if err != nil {
		return nil, 0, err
	}
	typ := raftpb.EntryType(body[0])
	var term uint64
	data, err := cutUvarints(body[1:], &term, &end)
	if err != nil {
		return nil, 0, err
	}
	return newEntry(index, term, typ, data), end, nil
}

// newEntry makes an entry in two allocations; its fields are pointers.
func newEntry(index, term uint64, typ raftpb.EntryType, data []byte) *raftpb.Entry {
	at := &struct {
		index, term uint64
		typ         raftpb.EntryType
	}{index, term, typ}
	e := &raftpb.Entry{Index: &at.index, Term: &at.term}
	if typ != raftpb.EntryNormal {
		e.Type = &at.typ
	}
	if len(data) != 0 {
		e.Data = data
	}
	return e
}

func encodeHardState(rangeID metapb.RangeID, hs hardState) (key, row []byte) {
	return sealed(keys.RaftHardState(rangeID), hs.term, hs.vote, hs.commit)
}

func decodeHardState(key, row []byte) (hs hardState, err error) {
	body, err := openRow(key, row)
	if err == nil {
		_, err = cutUvarints(body, &hs.term, &hs.vote, &hs.commit)
	}
	return hs, err
}

func encodeTruncated(rangeID metapb.RangeID, p position) (key, row []byte) {
	return sealed(keys.RaftTruncated(rangeID), p.index, p.term, p.end)
}

func decodeTruncated(key, row []byte) (p position, err error) {
	body, err := openRow(key, row)
	if err == nil {
		_, err = cutUvarints(body, &p.index, &p.term, &p.end)
	}
	return p, err
}

func encodeConfState(rangeID metapb.RangeID, cs *raftpb.ConfState) (key, row []byte, err error) {
	row, err = proto.MarshalOptions{Deterministic: true}.MarshalAppend(make([]byte, rowHeadLen), cs)
	if err != nil {
		return nil, nil, err
	}
	key = keys.RaftConfState(rangeID)
	sealRow(key, row)
	return key, row, nil
}

func decodeConfState(key, row []byte) (*raftpb.ConfState, error) {
	body, err := openRow(key, row)
	if err != nil {
		return nil, err
	}
	cs := &raftpb.ConfState{}
	if err := proto.Unmarshal(body, cs); err != nil {
		return nil, err
	}
	return raftpb.EnsureConfState(cs), nil
}

func sealed(key []byte, values ...uint64) (_, row []byte) {
	row = make([]byte, rowHeadLen, rowHeadLen+len(values)*binary.MaxVarintLen64)
	for _, v := range values {
		row = binary.AppendUvarint(row, v)
	}
	sealRow(key, row)
	return key, row
}
