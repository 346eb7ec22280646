package wire

import (
	"encoding/binary"
	"hash/crc32"

	"github.com/flotilladb/flotilla/internal/frame"
	"github.com/flotilladb/flotilla/raftgroup"
)

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
	sectionAnswers
	sectionClosings
	sectionClosed
	sectionGone
	sectionPresent
	sectionChunks
	sectionTaken
	sectionParting
	sectionChecks
	sectionFeedAsks
	sectionFeedNews
	sectionForwards
	sectionFormats
	sectionsEnd
)

const sumLen = 4

func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

// Append appends the bytes of a frame. On an error dst is as it was.
func Append(dst []byte, f *frame.Frame) ([]byte, error) {
	c := coder{enc: true, buf: append(dst, Version)}
	c.head(f)
	for k := byte(sectionRaft); k < sectionsEnd; k++ {
		if items(f, k) > 0 {
			c.kind(&k)
			c.section(f, k)
		}
	}
	return c.seal(dst)
}

// seal puts the checksum behind what was appended to dst.
func (c *coder) seal(dst []byte) ([]byte, error) {
	begin := len(dst)
	if len(c.buf)+sumLen-begin > FrameBytesMax {
		c.fail(ErrFrameTooLarge)
	}
	if c.err != nil {
		return dst, c.err
	}
	return binary.LittleEndian.AppendUint32(c.buf, crc32.Checksum(c.buf[begin:], castagnoli())), nil
}

// Decode takes a frame apart. What it returns points into b, which must not be
// changed any more.
func Decode(b []byte) (*frame.Frame, error) {
	c, err := open(b)
	if err != nil {
		return nil, err
	}
	f := &frame.Frame{}
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

// open checks what is around a frame.
func open(b []byte) (coder, error) {
	switch {
	case len(b) > FrameBytesMax:
		return coder{}, ErrFrameTooLarge
	case len(b) < 1+sumLen:
		return coder{}, badFrame("ends early")
	}
	body := b[: len(b)-sumLen : len(b)-sumLen]
	if crc32.Checksum(body, castagnoli()) != binary.LittleEndian.Uint32(b[len(body):]) {
		return coder{}, badFrame("its checksum is another")
	}
	if body[0] != Version {
		return coder{}, &UnknownError{What: "frame", Kind: uint64(body[0])}
	}
	return coder{buf: body[1:], frame: len(b)}, nil
}

func (c *coder) head(f *frame.Frame) {
	lane := uint32(f.Lane)
	if num(c, &lane); lane > uint32(frame.Snapshots) {
		c.unknown("lane", uint64(lane))
	}
	if !c.enc {
		f.Lane = frame.Lane(lane)
	}
	num(c, &f.From)
	num(c, &f.To)
	num(c, &f.FromStart)
	num(c, &f.ToStart)
	num(c, &f.Session)
	num(c, &f.Number)
	num(c, &f.AckSession)
	num(c, &f.Ack)
	num(c, &f.AskedUpTo)
	maybe(c, &f.Refused, (*coder).notSequencer)
	maybe(c, &f.Liveness, (*coder).liveness)
}

// items returns how many items a section of a frame has.
func items(f *frame.Frame, k byte) int {
	switch k {
	case sectionRaft:
		return len(f.Raft)
	case sectionRequests:
		return len(f.Requests)
	case sectionReplies:
		return len(f.Replies)
	case sectionAsks:
		return len(f.Asks)
	case sectionAnswers:
		return len(f.Answers)
	case sectionClosings:
		return len(f.Closings)
	case sectionClosed:
		return len(f.Closed)
	case sectionGone:
		return len(f.Gone)
	case sectionPresent:
		return len(f.Present)
	case sectionChunks:
		return len(f.Chunks)
	case sectionTaken:
		return len(f.Taken)
	case sectionParting:
		return int(min(f.Parting, 1))
	case sectionChecks:
		return len(f.Checks)
	case sectionFeedAsks:
		return len(f.FeedAsks)
	case sectionFeedNews:
		return len(f.FeedNews)
	case sectionForwards:
		return len(f.Forwards)
	case sectionFormats:
		return int(min(f.Formats.Reads, 1))
	}
	return 0
}

func (c *coder) section(f *frame.Frame, k byte) {
	switch k {
	case sectionRaft:
		list(c, &f.Raft, (*coder).raft)
	case sectionRequests:
		pointers(c, &f.Requests, (*coder).request)
	case sectionReplies:
		list(c, &f.Replies, (*coder).reply)
	case sectionAsks:
		list(c, &f.Asks, (*coder).ask)
	case sectionAnswers:
		list(c, &f.Answers, (*coder).answer)
	case sectionClosings:
		list(c, &f.Closings, (*coder).closing)
	case sectionClosed:
		list(c, &f.Closed, (*coder).closed)
	case sectionGone:
		list(c, &f.Gone, (*coder).gone)
	case sectionPresent:
		list(c, &f.Present, (*coder).gone)
	case sectionChunks:
		pointers(c, &f.Chunks, (*coder).chunk)
	case sectionTaken:
		list(c, &f.Taken, (*coder).taken)
	case sectionParting:
		c.parting(&f.Parting)
	case sectionChecks:
		list(c, &f.Checks, (*coder).check)
	case sectionFeedAsks:
		pointers(c, &f.FeedAsks, (*coder).feedAsk)
	case sectionFeedNews:
		pointers(c, &f.FeedNews, (*coder).feedNews)
	case sectionForwards:
		list(c, &f.Forwards, (*coder).forward)
	case sectionFormats:
		num(c, &f.Formats.Reads)
		num(c, &f.Formats.Cluster)
	default:
		c.unknown("section", uint64(k))
	}
}

func (c *coder) notSequencer(n *frame.NotSequencer) {
	num(c, &n.Leader)
	num(c, &n.Term)
}

func (c *coder) parting(p *frame.Parting) {
	n := uint8(*p)
	if c.kind(&n); c.enc || c.err != nil {
		return
	}
	if *p = frame.Parting(n); *p == frame.Stays || *p > frame.Full {
		c.unknown("parting", uint64(n))
	}
}

func (c *coder) closing(q *frame.Closing) {
	num(c, &q.Range)
	num(c, &q.S)
	num(c, &q.Epoch)
}

func (c *coder) closed(a *frame.Closed) {
	num(c, &a.Range)
	num(c, &a.S)
	num(c, &a.Index)
	c.maybeError(&a.Err)
}

// raft walks over a Raft message. The log keeps entries for long: if they are
// less than half of the frame they are copied, so that a quiet range does not
// hold on to what all others had to say.
func (c *coder) raft(m *raftgroup.RangeMessage) {
	var err error
	if c.enc {
		if c.buf, err = raftgroup.AppendMessage(c.buf, m.RangeID, m.Message); err != nil {
			c.fail(err)
		}
		return
	}
	m.RangeID, m.Message, c.buf, err = raftgroup.DecodeMessage(c.buf, c.frame/2)
	if err != nil {
		c.fail(badFrame(err.Error()))
	}
}
