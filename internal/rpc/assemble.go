package rpc

import "fmt"

// assembler puts the frames of one lane of a connection together again. Its owner guards it.
type assembler struct {
	frameMax uint64
	parts    []part
	bytes    int64 // sum of the whole lengths of parts
}

// part is a large frame of which some pieces have come.
type part struct {
	id    uint64
	frame []byte // its capacity is the whole
}

// add takes a piece. A frame that begins with it is charged: charge is its whole
// length, else 0. The frame is returned when it is whole.
func (a *assembler) add(h chunkHead, piece []byte) (frame []byte, charge int64, err error) {
	i := a.find(h.ID)
	if i < 0 {
		switch {
		case h.Total == 0 || h.Total > a.frameMax:
			return nil, 0, fmt.Errorf("%w: frame of %d bytes, at most %d", ErrProtocol, h.Total, a.frameMax)
		case len(a.parts) >= largeTurnsMax:
			return nil, 0, fmt.Errorf("%w: more than %d large frames in turn", ErrProtocol, largeTurnsMax)
		}
		i = len(a.parts)
		a.parts = append(a.parts, part{h.ID, make([]byte, 0, h.Total)})
		charge = int64(h.Total)
		a.bytes += charge
	}
	p := &a.parts[i]
	if uint64(cap(p.frame)) != h.Total || len(piece) == 0 || len(piece) > cap(p.frame)-len(p.frame) {
		return nil, charge, fmt.Errorf("%w: piece of %d bytes at %d of %d", ErrProtocol, len(piece), len(p.frame), h.Total)
	}
	p.frame = append(p.frame, piece...)
	if len(p.frame) < cap(p.frame) {
		return nil, charge, nil
	}
	frame = p.frame
	a.parts = append(a.parts[:i], a.parts[i+1:]...)
	a.bytes -= int64(h.Total)
	return frame, charge, nil
}

func (a *assembler) find(id uint64) int {
	for i := range a.parts {
		if a.parts[i].id == id {
			return i
		}
	}
	return -1
}
