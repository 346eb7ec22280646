package rpc

import (
	"encoding/binary"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/flotilladb/flotilla/internal/fields"
	"github.com/flotilladb/flotilla/proto/metapb"
)

// The first byte of a message says what it is. See DESIGN.md.
const (
	msgHello   = 1 // first to the receiver: hello
	msgWelcome = 2 // first back: hello of the receiver, with credit
	msgRefused = 3 // in place of it: why not
	msgFrames  = 4 // frames, each behind its length
	msgChunk   = 5 // a piece of a frame
	msgPing    = 6 // asks for msgAnswer
	msgAnswer  = 7 // back: a sign of life, and credit
)

// The versions of this protocol that we speak.
const (
	protocolVersion    = 1
	protocolVersionMin = 1
)

// hello is what both ends say of themselves before the first frame. Fields have
// numbers, and unknown ones are passed over, so that a later version may add some.
type hello struct {
	Version, VersionMin uint64
	Identity
	// Instance is drawn at random by each process: of two copies of one store it
	// tells which is which, where their starts are equal.
	Instance uint64
	Lane     Lane
	// To is the store that the sender means to reach.
	To metapb.StoreID
	// Credit, in a welcome, is what may be sent before more is given.
	Credit uint64
	// Kind and Text are those of a RefusedError.
	Kind refusal
	Text string
}

const (
	fieldVersion = iota + 1
	fieldVersionMin
	fieldCluster
	fieldNode
	fieldStore
	fieldStart
	fieldInstance
	fieldLane
	fieldTo
	fieldCredit
	fieldKind
	fieldText
)

// textBytesMax bounds the sentence of a refusal that we read.
const textBytesMax = 4 << 10

func (h *hello) append(b []byte, kind byte) []byte {
	b = append(b, kind)
	for num, v := range [...]uint64{
		fieldVersion: h.Version, fieldVersionMin: h.VersionMin, fieldCluster: h.ClusterID,
		fieldNode: uint64(h.Node), fieldStore: uint64(h.Store), fieldStart: h.Start, fieldInstance: h.Instance,
		fieldLane: uint64(h.Lane), fieldTo: uint64(h.To), fieldCredit: h.Credit, fieldKind: uint64(h.Kind),
	} {
		b = fields.AppendNumber(b, fields.Number(num), v)
	}
	if h.Text != "" {
		b = fields.AppendText(b, fieldText, h.Text)
	}
	return b
}

// parseHello reads what append wrote behind the first byte.
func parseHello(b []byte) (*hello, error) {
	h := new(hello)
	err := fields.Walk(b, h.set, func(num fields.Number, s string) {
		if num == fieldText {
			h.Text = s[:min(len(s), textBytesMax)]
		}
	})
	if err != nil {
		return nil, fmt.Errorf("%w: hello: %w", ErrProtocol, err)
	}
	return h, nil
}

func (h *hello) set(num fields.Number, v uint64) {
	switch num {
	case fieldVersion:
		h.Version = v
	case fieldVersionMin:
		h.VersionMin = v
	case fieldCluster:
		h.ClusterID = v
	case fieldNode:
		h.Node = metapb.NodeID(v)
	case fieldStore:
		h.Store = metapb.StoreID(v)
	case fieldStart:
		h.Start = v
	case fieldInstance:
		h.Instance = v
	case fieldLane:
		h.Lane = Lane(min(v, uint64(laneCount)))
	case fieldTo:
		h.To = metapb.StoreID(v)
	case fieldCredit:
		h.Credit = v
	case fieldKind:
		h.Kind = refusal(v)
	}
}

// framesBytes is how long the message with these frames is.
func framesBytes(frames [][]byte) int {
	n := 1
	for _, f := range frames {
		n += protowire.SizeVarint(uint64(len(f))) + len(f)
	}
	return n
}

// appendFrames appends the message with these frames.
func appendFrames(b []byte, frames [][]byte) []byte {
	b = append(b, msgFrames)
	for _, f := range frames {
		b = binary.AppendUvarint(b, uint64(len(f)))
		b = append(b, f...)
	}
	return b
}

// nextFrame cuts the first frame off what a message of frames has left.
func nextFrame(b []byte) (frame, rest []byte, err error) {
	n, size := binary.Uvarint(b)
	if size <= 0 || n > uint64(len(b)-size) {
		return nil, nil, fmt.Errorf("%w: frame of %d bytes in %d", ErrProtocol, n, len(b))
	}
	end := size + int(n)
	return b[size:end:end], b[end:], nil
}

// chunkHead is what stands before the bytes of a piece.
type chunkHead struct {
	ID    uint64 // counts the large frames of the stream
	Total uint64 // bytes of the whole frame
}

// chunkHeadBytesMax is the most that append takes.
const chunkHeadBytesMax = 1 + 2*binary.MaxVarintLen64

func (h chunkHead) append(b []byte) []byte {
	b = append(b, msgChunk)
	b = binary.AppendUvarint(b, h.ID)
	return binary.AppendUvarint(b, h.Total)
}

// parseChunk reads what append wrote behind the first byte, and the piece.
func parseChunk(b []byte) (h chunkHead, piece []byte, err error) {
	for _, v := range []*uint64{&h.ID, &h.Total} {
		n, size := binary.Uvarint(b)
		if size <= 0 {
			return h, nil, fmt.Errorf("%w: chunk", ErrProtocol)
		}
		*v, b = n, b[size:]
	}
	return h, b, nil
}

func appendAnswer(b []byte, credit uint64) []byte {
	return binary.AppendUvarint(append(b, msgAnswer), credit)
}

// parseAnswer reads what appendAnswer wrote behind the first byte.
func parseAnswer(b []byte) (credit uint64, err error) {
	credit, size := binary.Uvarint(b)
	if size <= 0 {
		return 0, fmt.Errorf("%w: answer", ErrProtocol)
	}
	return credit, nil
}
