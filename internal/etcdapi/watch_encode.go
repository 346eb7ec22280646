package etcdapi

import (
	"encoding/binary"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	"github.com/flotilladb/flotilla/watchfeed"
)

// What ten thousand watch is the same list of changes for all of them: a message
// is some forty bytes of its own and then those. This file writes both by hand, and
// the second only once for the watches of a stream; the codec passes the result on
// as it is.

const (
	// blockBytesMax is how much memory messages are cut from at a time.
	blockBytesMax = 16 << 10
	// sharedBytes is from which size on the changes are not copied into each
	// message. Below, a copy costs less than one more buffer.
	sharedBytes = 2 << 10
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

	// tail is tailOf and tailPrev as the fields of a message. The hub gives the
	// same list to many watches, and they have it one after the other.
	tail     []byte
	tailOf   []*watchfeed.Event // nil: none
	tailPrev bool
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
	e.tail, e.tailOf = nil, nil // a stream that is idle keeps nothing alive
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

// watchEvents are those of a message. A list that the hub made is shared: it is
// never changed.
type watchEvents struct {
	list   []*watchfeed.Event
	prev   bool // with the value before
	shared bool
}

// size is what they take in a message.
func (v watchEvents) size() int {
	n := 0
	for _, ev := range v.list {
		n += sizeNested(ev.EncodedLen(v.prev))
	}
	return n
}

func (v watchEvents) appendTo(b []byte) []byte {
	for _, ev := range v.list {
		b = ev.AppendEncoded(appendLen(b, 11, ev.EncodedLen(v.prev)), v.prev)
	}
	return b
}

// hasTail reports whether tail is these events: the same list in memory, which
// nobody changes.
func (e *watchEncoder) hasTail(v watchEvents) bool {
	return v.shared && len(v.list) > 0 && len(e.tailOf) == len(v.list) && &e.tailOf[0] == &v.list[0] && e.tailPrev == v.prev
}

// message encodes a response with these events. What it returns is valid until
// the next call, its bytes until they are sent.
func (e *watchEncoder) message(f *watchFields, v watchEvents) *watchMessage {
	e.header(f.revision)
	own := e.sizeFields(f)
	have := e.hasTail(v)
	size := len(e.tail)
	if !have {
		size = v.size()
	}
	apart := size >= sharedBytes
	if apart {
		e.reserve(own, 2)
	} else {
		e.reserve(own+size, 1)
	}
	start := len(e.block)
	b := e.appendFields(e.block, f)
	tail := e.tail
	switch {
	case have && !apart:
		b = append(b, tail...)
	case have:
	case apart:
		tail = v.appendTo(make([]byte, 0, size))
	default:
		at := len(b)
		b = v.appendTo(b)
		tail = b[at:len(b):len(b)]
	}
	if !have && v.shared {
		e.tail, e.tailOf, e.tailPrev = tail, v.list, v.prev
	}
	e.block = b
	first := len(e.slots)
	e.slots = append(e.slots, mem.SliceBuffer(b[start:len(b):len(b)]))
	if apart {
		e.slots = append(e.slots, mem.SliceBuffer(tail))
	}
	e.msg.bytes = e.slots[first:len(e.slots):len(e.slots)]
	e.left--
	return &e.msg
}

// appendFields writes all but the events. REQUIRES: header was called.
func (e *watchEncoder) appendFields(b []byte, f *watchFields) []byte {
	b = append(b, e.head...)
	b = appendUint(b, 2, uint64(f.id))
	b = appendBool(b, 3, f.created)
	b = appendBool(b, 4, f.canceled)
	b = appendUint(b, 5, uint64(f.compactRevision))
	if f.reason != "" {
		b = append(appendLen(b, 6, len(f.reason)), f.reason...)
	}
	return appendBool(b, 7, f.fragment)
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
func (e *watchEncoder) fragments(f watchFields, v watchEvents, limit int, send func(*watchMessage) error) error {
	e.header(f.revision)
	if len(v.list) < 2 || e.sizeFields(&f)+v.size() < limit {
		return send(e.message(&f, v))
	}
	f.fragment = true
	base := e.sizeFields(&f)
	for left := v.list; len(left) > 0; {
		n, size := 0, base
		for n < len(left) {
			more := sizeNested(left[n].EncodedLen(v.prev))
			if n > 0 && size+more >= limit {
				break
			}
			size += more
			n++
		}
		f.fragment = n < len(left)
		if err := send(e.message(&f, watchEvents{list: left[:n], prev: v.prev})); err != nil {
			return err
		}
		left = left[n:]
	}
	return nil
}

// refusal is the answer to a create that made no watch.
func refusal(revision int64, reason string) *watchFields {
	return &watchFields{revision: revision, id: noWatch, created: true, canceled: true, reason: reason}
}

// noWatch is the id in answers that are of no watch, or of all on the stream.
const noWatch = -1
