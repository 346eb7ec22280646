package rpc

import (
	"encoding/binary"
	"fmt"

	"github.com/flotilladb/flotilla/internal/fields"
	"github.com/flotilladb/flotilla/proto/metapb"
)

// The first byte behind the length of a message says what it is. See DESIGN.md.
const (
	msgHello   = 1 // first to the receiver: hello
	msgWelcome = 2 // first back: hello of the receiver
	msgRefused = 3 // back, in place of it or as the last: why not
	msgFrames  = 4 // of a lane: frames, each behind its length
	msgChunk   = 5 // of a lane: a piece of a frame
	msgPing    = 6 // asks for msgAnswer
	msgAnswer  = 7 // back: a sign of life, and credit of some lanes
	msgCall    = 8 // first to the receiver: a question that has no lanes
	msgReply   = 9 // back: the answer
)

// How long a message may be, its kind counted. What frames take beside a batch or a
// piece is less than 64.
const (
	messageBytesMax = batchBytesMax + 64
	answerBytesMax  = 1 << 10
	helloBytesMax   = 8 << 10
	callBytesMax    = 4 << 20
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
	// Lanes are those of the connection.
	Lanes laneSet
	// To is the store that the sender means to reach.
	To metapb.StoreID
	// Addr is where the sender is to be reached itself; empty: it does not say.
	Addr string
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
	fieldLanes
	fieldTo
	fieldKind
	fieldText
	fieldAddr
)

// textBytesMax bounds the sentence of a refusal, addrBytesMax an address.
const (
	textBytesMax = 4 << 10
	addrBytesMax = 1 << 10
)

// append appends the whole message.
func (h *hello) append(b []byte, kind byte) []byte {
	at := len(b)
	b = begin(b, kind)
	for num, v := range [...]uint64{
		fieldVersion: h.Version, fieldVersionMin: h.VersionMin, fieldCluster: h.ClusterID,
		fieldNode: uint64(h.Node), fieldStore: uint64(h.Store), fieldStart: h.Start, fieldInstance: h.Instance,
		fieldLanes: uint64(h.Lanes), fieldTo: uint64(h.To), fieldKind: uint64(h.Kind),
	} {
		b = fields.AppendNumber(b, fields.Number(num), v)
	}
	if h.Text != "" {
		b = fields.AppendText(b, fieldText, h.Text[:min(len(h.Text), textBytesMax)])
	}
	if h.Addr != "" {
		b = fields.AppendText(b, fieldAddr, h.Addr)
	}
	return end(b, at)
}

// parseHello reads what append wrote behind the kind.
func parseHello(b []byte) (*hello, error) {
	h := new(hello)
	err := fields.Walk(b, h.set, func(num fields.Number, s string) {
		switch num {
		case fieldText:
			h.Text = s[:min(len(s), textBytesMax)]
		case fieldAddr:
			h.Addr = s
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
	case fieldLanes:
		h.Lanes = laneSet(v)
	case fieldTo:
		h.To = metapb.StoreID(v)
	case fieldKind:
		h.Kind = refusal(v)
	}
}

// appendFrames appends the message with these frames.
func appendFrames(b []byte, lane Lane, frames [][]byte) []byte {
	at := len(b)
	b = append(begin(b, msgFrames), byte(lane))
	for _, f := range frames {
		b = binary.AppendUvarint(b, uint64(len(f)))
		b = append(b, f...)
	}
	return end(b, at)
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
	ID    uint64 // counts the large frames of the lane, on a connection
	Total uint64 // bytes of the whole frame
}

// appendChunk appends the message with a piece of a frame.
func appendChunk(b []byte, lane Lane, h chunkHead, piece []byte) []byte {
	at := len(b)
	b = append(begin(b, msgChunk), byte(lane))
	b = binary.AppendUvarint(b, h.ID)
	b = binary.AppendUvarint(b, h.Total)
	return end(append(b, piece...), at)
}

// parseChunk reads what appendChunk wrote behind the lane.
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

func appendPing(b []byte) []byte { return end(begin(b, msgPing), len(b)) }

// laneCredit is what a lane may send more than before.
type laneCredit struct {
	lane  Lane
	bytes uint64
}

func appendAnswer(b []byte, credits []laneCredit) []byte {
	at := len(b)
	b = begin(b, msgAnswer)
	for _, c := range credits {
		b = binary.AppendUvarint(append(b, byte(c.lane)), c.bytes)
	}
	return end(b, at)
}

// nextCredit cuts the first credit off what an answer has left.
func nextCredit(b []byte) (c laneCredit, rest []byte, err error) {
	n, size := binary.Uvarint(b[1:])
	if size <= 0 {
		return c, nil, fmt.Errorf("%w: answer", ErrProtocol)
	}
	return laneCredit{Lane(b[0]), n}, b[1+size:], nil
}
