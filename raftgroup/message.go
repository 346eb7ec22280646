package raftgroup

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"slices"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/flotilladb/flotilla/proto/metapb"
)

// A message on its way to another store:
//
//	range | which fields are there | number of entries, if any | those fields
//	entries: index of the first | bytes of data in all of them, then for each
//	  length of what follows up to the sum | type | term | data | CRC-32C (4, LE)
//
// Entries of a message follow each other, so one index is enough. The sum of an
// entry covers the range and the index as well: it fits nowhere else.
const (
	hasType = 1 << iota
	hasTo
	hasFrom
	hasTerm
	hasLogTerm
	hasIndex
	hasCommit
	hasVote
	hasRejectHint
	hasReject // and the value is true
	hasNoReject
	hasContext
	hasSnapshot
	hasEntries
	hasEnd
)

// What an entry takes besides its data: at least, and hardly ever more.
const (
	entryBytesMin   = 1 + 1 + 1 + 4
	entryBytesUsual = 3 + 1 + 5 + 4
)

// typeMax bounds types of messages and entries, which raft counts in an int32.
const typeMax = 1<<31 - 1

// numbers returns the fields of a message that are numbers, in the order of
// their bits.
func numbers(m *Message) [8]*uint64 {
	return [...]*uint64{m.To, m.From, m.Term, m.LogTerm, m.Index, m.Commit, m.Vote, m.RejectHint}
}

// AppendMessage appends the bytes of a message to a replica of a range. Messages
// between a replica and its own storage never leave it.
func AppendMessage(dst []byte, id metapb.RangeID, m *Message) ([]byte, error) {
	if len(m.Responses) != 0 {
		return dst, fmt.Errorf("%w: %s is for a replica's own storage", ErrBadMessage, m.GetType())
	}
	dst = binary.AppendUvarint(dst, uint64(id))
	dst = binary.AppendUvarint(dst, fieldsOf(m))
	if len(m.Entries) != 0 {
		dst = binary.AppendUvarint(dst, uint64(len(m.Entries)))
	}
	if m.Type != nil {
		dst = binary.AppendUvarint(dst, uint64(*m.Type))
	}
	for _, p := range numbers(m) {
		if p != nil {
			dst = binary.AppendUvarint(dst, *p)
		}
	}
	if m.Context != nil {
		dst = append(binary.AppendUvarint(dst, uint64(len(m.Context))), m.Context...)
	}
	if m.Snapshot != nil {
		var err error
		dst = binary.AppendUvarint(dst, uint64(proto.Size(m.Snapshot)))
		if dst, err = (proto.MarshalOptions{}).MarshalAppend(dst, m.Snapshot); err != nil {
			return dst, err
		}
	}
	if len(m.Entries) == 0 {
		return dst, nil
	}
	return appendEntries(dst, id, m.Entries)
}

func fieldsOf(m *Message) (fields uint64) {
	bit := uint64(hasTo)
	for _, p := range numbers(m) {
		if p != nil {
			fields |= bit
		}
		bit <<= 1
	}
	for _, f := range [...]struct {
		is  bool
		bit uint64
	}{
		{m.Type != nil, hasType}, {m.Reject != nil && *m.Reject, hasReject}, {m.Reject != nil && !*m.Reject, hasNoReject},
		{m.Context != nil, hasContext}, {m.Snapshot != nil, hasSnapshot}, {len(m.Entries) != 0, hasEntries},
	} {
		if f.is {
			fields |= f.bit
		}
	}
	return fields
}

func appendEntries(dst []byte, id metapb.RangeID, entries []*raftpb.Entry) ([]byte, error) {
	data := 0
	for _, e := range entries {
		data += len(e.Data)
	}
	dst = slices.Grow(dst, data+len(entries)*entryBytesUsual+3*binary.MaxVarintLen64)
	first := entries[0].GetIndex()
	dst = binary.AppendUvarint(dst, first)
	dst = binary.AppendUvarint(dst, uint64(data))
	for i, e := range entries {
		index := e.GetIndex()
		if index != first+uint64(i) {
			return dst, fmt.Errorf("%w: entry %d in the place of %d", ErrBadMessage, index, first+uint64(i))
		}
		typ, term := uint64(e.GetType()), e.GetTerm()
		dst = binary.AppendUvarint(dst, uint64(uvarintLen(typ)+uvarintLen(term)+len(e.Data)))
		body := len(dst)
		dst = binary.AppendUvarint(dst, typ)
		dst = binary.AppendUvarint(dst, term)
		dst = append(dst, e.Data...)
		dst = binary.LittleEndian.AppendUint32(dst, messageSum(id, index, dst[body:]))
	}
	return dst, nil
}

// messageSum is the sum of an entry in a message. Range and index go in as the
// value that the sum starts from.
func messageSum(id metapb.RangeID, index uint64, body []byte) uint32 {
	const odd = 0x9e3779b97f4a7c15 // spreads small differences over all bits
	at := (uint64(id)*odd ^ index) * odd
	return crc32.Update(uint32(at>>32)^uint32(at), castagnoli(), body)
}

// messageReader takes a message off the front of bytes until something is wrong.
type messageReader struct {
	rest []byte
	why  string
}

func (r *messageReader) fail(why string) {
	if r.why == "" {
		r.why = why
	}
	r.rest = nil
}

func (r *messageReader) number() uint64 {
	if len(r.rest) > 0 && r.rest[0] < 0x80 {
		x := uint64(r.rest[0])
		r.rest = r.rest[1:]
		return x
	}
	x, n := binary.Uvarint(r.rest)
	if n <= 0 || r.rest[n-1] == 0 {
		r.fail("bad number")
		return 0
	}
	r.rest = r.rest[n:]
	return x
}

func (r *messageReader) bytes() []byte {
	n := r.number()
	if n > uint64(len(r.rest)) {
		r.fail("ends early")
		return nil
	}
	b := r.rest[:n:n]
	r.rest = r.rest[n:]
	return b
}

// DecodeMessage takes a message and its range off the front of b. If the entries
// have at least so many bytes of data, it points into b, which must then never
// change and stays in memory as long as an entry does; else it is copied.
func DecodeMessage(b []byte, aliasBytesMin int) (id metapb.RangeID, m *Message, rest []byte, err error) {
	r := messageReader{rest: b}
	id = metapb.RangeID(r.number())
	m = r.message(id, aliasBytesMin)
	if r.why != "" {
		return 0, nil, nil, fmt.Errorf("%w: range %d: %s", ErrBadMessage, id, r.why)
	}
	return id, m, r.rest, nil
}

// decodedMessage has room for what a message points to.
type decodedMessage struct {
	m       Message
	numbers [8]uint64
	typ     raftpb.MessageType
	reject  bool
}

// decodedEntry has room for what an entry points to.
type decodedEntry struct {
	entry       raftpb.Entry
	index, term uint64
	typ         raftpb.EntryType
}

// message decodes into one allocation, since the fields are pointers; with a
// single entry, as most messages of a busy range have, also that.
func (r *messageReader) message(id metapb.RangeID, aliasBytesMin int) *Message {
	fields, n := r.number(), uint64(0)
	if fields >= hasEnd || fields&hasReject != 0 && fields&hasNoReject != 0 {
		r.fail("unknown field")
		return nil
	}
	if fields&hasEntries != 0 {
		if n = r.number(); n == 0 || n > uint64(len(r.rest))/entryBytesMin {
			r.fail("bad number of entries")
			return nil
		}
	}
	if n == 0 {
		at := &decodedMessage{}
		r.fields(fields, at)
		return &at.m
	}
	if n == 1 {
		at := &struct {
			message decodedMessage
			entry   [1]decodedEntry
			slot    [1]*raftpb.Entry
		}{}
		r.fields(fields, &at.message)
		at.message.m.Entries = r.entries(id, at.entry[:], at.slot[:], aliasBytesMin)
		return &at.message.m
	}
	at := &decodedMessage{}
	if r.fields(fields, at); r.why == "" {
		at.m.Entries = r.entries(id, make([]decodedEntry, n), make([]*raftpb.Entry, n), aliasBytesMin)
	}
	return &at.m
}

// fields decodes all but the entries.
func (r *messageReader) fields(fields uint64, at *decodedMessage) {
	m := &at.m
	if fields&hasType != 0 {
		typ := r.number()
		if at.typ = raftpb.MessageType(typ); typ > typeMax {
			r.fail("unknown type")
		}
		m.Type = &at.typ
	}
	for i, p := range [8]**uint64{&m.To, &m.From, &m.Term, &m.LogTerm, &m.Index, &m.Commit, &m.Vote, &m.RejectHint} {
		if fields&(hasTo<<i) != 0 {
			at.numbers[i] = r.number()
			*p = &at.numbers[i]
		}
	}
	if fields&(hasReject|hasNoReject) != 0 {
		at.reject = fields&hasReject != 0
		m.Reject = &at.reject
	}
	if fields&hasContext != 0 {
		// A copy, which is nearly always empty or small, and is never nil.
		m.Context = append([]byte{}, r.bytes()...)
	}
	if fields&hasSnapshot != 0 {
		m.Snapshot = &raftpb.Snapshot{}
		if err := proto.Unmarshal(r.bytes(), m.Snapshot); err != nil {
			r.fail(err.Error())
		}
	}
}

// entries decodes entries into room, and entries points to them.
func (r *messageReader) entries(id metapb.RangeID, room []decodedEntry, entries []*raftpb.Entry, aliasBytesMin int) []*raftpb.Entry {
	first, size := r.number(), r.number()
	if first+uint64(len(room)) < first || size > uint64(len(r.rest)) {
		r.fail("bad entries")
		return nil
	}
	var own []byte // nil: the data stays where it is
	if size > 0 && size < uint64(max(aliasBytesMin, 0)) {
		own = make([]byte, 0, size)
	}
	for i := range room {
		if r.entry(id, first+uint64(i), &room[i]); r.why != "" {
			return nil
		}
		entries[i] = &room[i].entry
		data := room[i].entry.Data
		if size -= uint64(len(data)); own != nil && data != nil {
			own = append(own, data...)
			room[i].entry.Data = own[len(own)-len(data) : len(own) : len(own)]
		}
	}
	if size != 0 {
		r.fail("the data of the entries is of another size")
	}
	return entries
}

// entry decodes an entry whose data stays where it is.
func (r *messageReader) entry(id metapb.RangeID, index uint64, e *decodedEntry) {
	in := messageReader{rest: r.bytes()}
	if len(r.rest) < 4 {
		r.fail("entries end early")
		return
	}
	if sum := messageSum(id, index, in.rest); sum != binary.LittleEndian.Uint32(r.rest) {
		r.fail(fmt.Sprintf("entry %d is damaged: its checksum is another", index))
		return
	}
	r.rest = r.rest[4:]
	typ := in.number()
	e.index, e.term, e.typ = index, in.number(), raftpb.EntryType(typ)
	if in.why != "" || typ > typeMax {
		r.fail(fmt.Sprintf("entry %d is not one", index))
		return
	}
	e.entry.Index, e.entry.Term = &e.index, &e.term
	if e.typ != raftpb.EntryNormal {
		e.entry.Type = &e.typ
	}
	if len(in.rest) > 0 {
		e.entry.Data = in.rest
	}
}
