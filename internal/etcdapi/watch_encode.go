package etcdapi

import (
	"encoding/binary"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
)

// A change that ten thousand watch is encoded once, by whoever made the event.
// What differs between two watchers is some forty bytes before it: this file
// writes these, and the codec passes the result on as it is.

const (
	// blockBytesMax is how much memory messages are cut from at a time.
	blockBytesMax = 16 << 10
	// sharedEventBytes is from which size on an event is not copied into a
	// message. Below, a copy costs less than one more buffer.
	sharedEventBytes = 2 << 10
)

// watchMessage is a WatchResponse that is in bytes already. It may be sent once.
type watchMessage struct{ bytes mem.BufferSlice }

// decode turns it back into a message, for clients in this process.
func (m *watchMessage) decode(into proto.Message) error {
	return proto.Unmarshal(m.bytes.Materialize(), into)
}

// watchFields is a WatchResponse without its events and most of its header.
type watchFields struct {
	revision, id      int64
	created, canceled bool
	compactRevision   int64
	reason            string
	fragment          bool
}

// watchEncoder writes the messages of one stream. Not safe for concurrent use.
//
// The buffers of a batch's messages are cut from blocks that are sized by what
// the batch still needs; a block lives until the last of its messages is sent.
type watchEncoder struct {
	who     []byte // the fields of a header that never change
	term    uint64
	head    []byte // the whole header field for (headRev, headTerm)
	headRev int64
	headFor uint64 // the term of head

	left  int          // messages to come in this batch, about
	block []byte       // behind its length it is free
	slots []mem.Buffer // likewise
	msg   watchMessage
}

func newWatchEncoder(id Identity) *watchEncoder {
	cluster, member := id.IDs()
	var e watchEncoder
	e.who = appendUint(e.who, 1, cluster)
	e.who = appendUint(e.who, 2, member)
	return &e
}

// begin starts a batch of about so many messages.
func (e *watchEncoder) begin(messages int, term uint64) {
	e.left, e.term = messages, term
	e.block, e.slots = nil, nil
}

func appendUint(b []byte, num byte, v uint64) []byte {
	if v == 0 {
		return b
	}
	return binary.AppendUvarint(append(b, num<<3|wireVarint), v)
}

func appendBool(b []byte, num byte, v bool) []byte {
	if v {
		return append(b, num<<3|wireVarint, 1)
	}
	return b
}

func appendLen(b []byte, num byte, n int) []byte {
	return binary.AppendUvarint(append(b, num<<3|wireBytes), uint64(n))
}

// header makes e.head the header field at a revision. Most often it is already:
// a change goes to all its watchers at one revision.
func (e *watchEncoder) header(revision int64) {
	if e.head != nil && e.headRev == revision && e.headFor == e.term {
		return
	}
	n := len(e.who) + sizeInt(revision) + sizeUint(e.term)
	e.head = append(appendLen(e.head[:0], 1, n), e.who...)
	e.head = appendUint(e.head, 3, uint64(revision))
	e.head = appendUint(e.head, 4, e.term)
	e.headRev, e.headFor = revision, e.term
}

// sizeFields is the size of all but the events. REQUIRES: header was called.
func (e *watchEncoder) sizeFields(f *watchFields) int {
	n := len(e.head) + sizeInt(f.id)
	if f.created || f.canceled || f.fragment || f.compactRevision != 0 || f.reason != "" {
		n += sizeBool(f.created) + sizeBool(f.canceled) + sizeInt(f.compactRevision) + sizeBool(f.fragment)
		if f.reason != "" {
			n += sizeNested(len(f.reason))
		}
	}
	return n
}

// message encodes a response with these events. What it returns is valid until
// the next call, its bytes until they are sent.
func (e *watchEncoder) message(f *watchFields, events [][]byte) *watchMessage {
	e.header(f.revision)
	n, shared := e.sizeFields(f), 0
	for _, ev := range events {
		if len(ev) >= sharedEventBytes {
			shared++
			n += 1 + sizeVarint(uint64(len(ev)))
		} else {
			n += sizeNested(len(ev))
		}
	}
	e.reserve(n, 2*shared+1)
	b, start := e.block, len(e.block)
	b = append(b, e.head...)
	b = appendUint(b, 2, uint64(f.id))
	b = appendBool(b, 3, f.created)
	b = appendBool(b, 4, f.canceled)
	b = appendUint(b, 5, uint64(f.compactRevision))
	if f.reason != "" {
		b = append(appendLen(b, 6, len(f.reason)), f.reason...)
	}
	b = appendBool(b, 7, f.fragment)
	first := len(e.slots)
	for _, ev := range events {
		b = appendLen(b, 11, len(ev))
		if len(ev) < sharedEventBytes {
			b = append(b, ev...)
			continue
		}
		e.slots = append(e.slots, mem.SliceBuffer(b[start:len(b):len(b)]), mem.SliceBuffer(ev))
		start = len(b)
	}
	if start < len(b) {
		e.slots = append(e.slots, mem.SliceBuffer(b[start:len(b):len(b)]))
	}
	e.block = b
	e.msg.bytes = e.slots[first:len(e.slots):len(e.slots)]
	e.left--
	return &e.msg
}

// reserve makes room for a message, and for those that are like it and still to
// come in the batch.
func (e *watchEncoder) reserve(bytes, slots int) {
	left := max(e.left, 1)
	if cap(e.block)-len(e.block) < bytes {
		e.block = make([]byte, 0, max(bytes, min(bytes*left, blockBytesMax)))
	}
	if cap(e.slots)-len(e.slots) < slots {
		e.slots = make([]mem.Buffer, 0, max(slots, min(slots*left, 256)))
	}
}

// fragments cuts a response as etcd does if it has limit bytes or more and more
// than one event, and sends the pieces; all but the last say that there is more.
func (e *watchEncoder) fragments(f watchFields, events [][]byte, limit int, send func(*watchMessage) error) error {
	e.header(f.revision)
	size := e.sizeFields(&f)
	for _, ev := range events {
		size += sizeNested(len(ev))
	}
	if size < limit || len(events) < 2 {
		return send(e.message(&f, events))
	}
	f.fragment = true
	base := e.sizeFields(&f)
	for len(events) > 0 {
		n, size := 1, base+sizeNested(len(events[0]))
		for n < len(events) && size+sizeNested(len(events[n])) < limit {
			size += sizeNested(len(events[n]))
			n++
		}
		f.fragment = n < len(events)
		if err := send(e.message(&f, events[:n])); err != nil {
			return err
		}
		events = events[n:]
	}
	return nil
}

// refusal is the answer to a create that made no watch.
func refusal(revision int64, reason string) *watchFields {
	return &watchFields{revision: revision, id: noWatch, created: true, canceled: true, reason: reason}
}

// noWatch is the id in answers that are of no watch, or of all on the stream.
const noWatch = -1
