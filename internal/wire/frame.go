package wire

import (
	"encoding/binary"
	"hash/crc32"

	"github.com/flotilladb/flotilla/placement"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/peerpb"
	"github.com/flotilladb/flotilla/raftgroup"
	"github.com/flotilladb/flotilla/range"
)

// Frame is what one store sends to another at once, on one lane. Its parts are
// independent of each other, but those of one kind are in the order in which
// they were sent.
type Frame struct {
	From, To metapb.StoreID
	// FromStart and ToStart say which start of the stores is meant; ToStart is 0
	// if the sender does not know it.
	FromStart, ToStart uint64

	Raft     []ranges.Message
	Requests []peerpb.Request
	Replies  []peerpb.Reply
	Asks     []placement.Ask
	Acks     []Ack
	Answers  []placement.Answer
}

// Ack says to the sequencer that a store has its answers up to a place.
type Ack struct {
	Name placement.AskName
	Seq  uint64
}

// Version is the format of frames that this version writes, and the newest that
// it reads.
const Version = 1

// FrameBytesMax bounds a frame in either direction.
const FrameBytesMax = 1 << 30

// Sections of a frame, in the order in which they are written.
const (
	_ byte = iota
	sectionRaft
	sectionRequests
	sectionReplies
	sectionAsks
	sectionAcks
	sectionAnswers
	sectionsEnd
)

const sumLen = 4

func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

// Append appends the bytes of a frame. On an error dst is as it was.
func Append(dst []byte, f *Frame) ([]byte, error) {
	begin := len(dst)
	c := coder{enc: true, buf: append(dst, Version)}
	c.head(f)
	for k := byte(sectionRaft); k < sectionsEnd; k++ {
		if f.items(k) > 0 {
			c.kind(&k)
			c.section(f, k)
		}
	}
	size := len(c.buf) + sumLen - begin
	if c.err == nil && size > FrameBytesMax {
		c.err = ErrFrameTooLarge
	}
	if c.err != nil {
		return dst[:begin], c.err
	}
	return binary.LittleEndian.AppendUint32(c.buf, crc32.Checksum(c.buf[begin:], castagnoli())), nil
}

// Decode takes a frame apart. What it returns points into b, which must not be
// changed any more.
func Decode(b []byte) (*Frame, error) {
	switch {
	case len(b) > FrameBytesMax:
		return nil, ErrFrameTooLarge
	case len(b) < 1+sumLen:
		return nil, badFrame("ends early")
	}
	body := b[: len(b)-sumLen : len(b)-sumLen]
	if crc32.Checksum(body, castagnoli()) != binary.LittleEndian.Uint32(b[len(body):]) {
		return nil, badFrame("its checksum is another")
	}
	if body[0] != Version {
		return nil, &UnknownError{What: "frame", Kind: uint64(body[0])}
	}
	c := coder{buf: body[1:], frame: len(b)}
	f := &Frame{}
	c.head(f)
	for last := byte(0); len(c.buf) > 0; {
		var k byte
		if c.kind(&k); k <= last {
			c.fail(badFrame("sections out of order"))
		}
		last = k
		c.section(f, k)
	}
	if c.err != nil {
		return nil, c.err
	}
	return f, nil
}

func (c *coder) head(f *Frame) {
	num(c, &f.From)
	num(c, &f.To)
	num(c, &f.FromStart)
	num(c, &f.ToStart)
}

// items returns how many items a section has.
func (f *Frame) items(k byte) int {
	switch k {
	case sectionRaft:
		return len(f.Raft)
	case sectionRequests:
		return len(f.Requests)
	case sectionReplies:
		return len(f.Replies)
	case sectionAsks:
		return len(f.Asks)
	case sectionAcks:
		return len(f.Acks)
	case sectionAnswers:
		return len(f.Answers)
	}
	return 0
}

func (c *coder) section(f *Frame, k byte) {
	switch k {
	case sectionRaft:
		list(c, &f.Raft, (*coder).raft)
	case sectionRequests:
		list(c, &f.Requests, (*coder).request)
	case sectionReplies:
		list(c, &f.Replies, (*coder).reply)
	case sectionAsks:
		list(c, &f.Asks, (*coder).ask)
	case sectionAcks:
		list(c, &f.Acks, (*coder).ack)
	case sectionAnswers:
		list(c, &f.Answers, (*coder).answer)
	default:
		c.unknown("section", uint64(k))
	}
}

func (c *coder) ack(a *Ack) {
	c.askName(&a.Name)
	num(c, &a.Seq)
}

// raft walks over a Raft message. The log keeps entries for long: if they are
// less than half of the frame they are copied, so that a quiet range does not
// hold on to what all others had to say.
func (c *coder) raft(m *ranges.Message) {
	var err error
	if c.enc {
		if c.buf, err = raftgroup.AppendMessage(c.buf, m.Range, m.Raft); err != nil {
			c.fail(err)
		}
		return
	}
	m.Range, m.Raft, c.buf, err = raftgroup.DecodeMessage(c.buf, c.frame/2)
	if err != nil {
		c.fail(badFrame(err.Error()))
	}
}
