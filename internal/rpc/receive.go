package rpc

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/flotilladb/flotilla/proto/metapb"
)

// readBufferBytes is what is read from a store at once. A chunk fits.
const readBufferBytes = 72 << 10

// answer sends credit and signs of life until the connection has ended or should.
func (t *Transport) answer(ctx context.Context, s *inConn) {
	defer s.raw.Close()
	ticker := time.NewTicker(t.cfg.PingInterval)
	defer ticker.Stop()
	heard := s.heard.Load()
	var b []byte
	var credits []laneCredit
	for {
		select {
		case <-s.ended:
			return
		case <-ctx.Done():
			return
		case <-s.wake:
			credits = s.takeOwed(credits[:0])
			if !s.pinged.Swap(false) && len(credits) == 0 {
				continue
			}
			b = appendAnswer(b[:0], credits)
			if _, err := s.conn.Write(b); err != nil {
				return
			}
		case <-ticker.C:
			// Ticks are counted, not time: a process that was stopped itself must
			// not think that all others were silent.
			if now := s.heard.Load(); now != heard {
				heard = now
				s.silent.Store(0)
				// Where the network is slow a ping may be far behind what comes.
				s.pinged.Store(true)
				s.signal()
			} else if silent := s.silent.Add(1); time.Duration(silent)*t.cfg.PingInterval > t.cfg.SilenceMax {
				return
			}
		}
	}
}

// receive delivers what comes until the connection ends.
func (t *Transport) receive(d *reader, s *inConn) {
	asm := make([]assembler, len(s.lanes))
	for i := range asm {
		asm[i].frameMax = uint64(t.cfg.FrameBytesMax)
	}
	for {
		if err := t.receiveMessage(d, s, asm); err != nil {
			if errors.Is(err, ErrProtocol) {
				t.complain(s, err)
			}
			t.endReceive(s, asm)
			return
		}
	}
}

// complaintMax bounds how long a sender is told what is wrong with its messages.
const complaintMax = 100 * time.Millisecond

func (t *Transport) complain(s *inConn, err error) {
	t.cfg.Logger.Error("bad message from a peer", "store", s.store, "lanes", s.lanes.String(), "error", err)
	s.raw.SetDeadline(time.Now().Add(complaintMax))
	t.who().tell(s.conn, refuse(refusedOther, "%v", err))
}

// endReceive is called when nothing is delivered any more. asm is what has pieces.
func (t *Transport) endReceive(s *inConn, asm []assembler) {
	s.raw.Close()
	for i, in := range s.lanes {
		var partial int64
		if asm != nil {
			partial = asm[i].bytes
		}
		in.end(s, partial)
	}
	close(s.ended)
	t.remotes.leave(s)
}

// receiveMessage takes one message.
func (t *Transport) receiveMessage(d *reader, s *inConn, asm []assembler) error {
	kind, n, err := d.next(messageBytesMax)
	if err != nil {
		return err
	}
	switch kind {
	case msgFrames, msgChunk:
	case msgPing:
		if n > 0 {
			return fmt.Errorf("%w: ping of %d bytes", ErrProtocol, n)
		}
		s.pinged.Store(true)
		s.signal()
		return nil
	default:
		return fmt.Errorf("%w: kind %d from a sender", ErrProtocol, kind)
	}
	if n == 0 {
		return fmt.Errorf("%w: kind %d without a lane", ErrProtocol, kind)
	}
	lane, err := d.view(1)
	if err != nil {
		return err
	}
	i := s.find(Lane(lane[0]))
	if i < 0 {
		return fmt.Errorf("%w: %s is not of this connection", ErrProtocol, Lane(lane[0]))
	}
	if kind == msgChunk {
		return t.receiveChunk(d, n-1, s, s.lanes[i], &asm[i])
	}
	return t.receiveFrames(d, n-1, s, s.lanes[i])
}

// receiveFrames takes n bytes of frames.
func (t *Transport) receiveFrames(d *reader, n int, s *inConn, in *inbound) error {
	if !in.charge(int64(n)) {
		return fmt.Errorf("%w: frames without credit", ErrProtocol)
	}
	b, err := d.block(n)
	var frames, bytes, held int64
	for err == nil && len(b) > 0 {
		var frame []byte
		if frame, b, err = nextFrame(b); err != nil {
			break
		}
		frames++
		bytes += int64(len(frame))
		if t.cfg.Deliver(s.store, in.lane, frame) {
			held += int64(len(frame))
		}
	}
	t.counts.received(in.lane, uint64(frames), uint64(bytes))
	// The sender was not charged for the lengths, which were counted here so that
	// one count before all frames is enough.
	in.uncharge(int64(n) - bytes)
	t.giveCredit(in, bytes-held)
	return err
}

// receiveChunk takes n bytes, which are a piece of a frame.
func (t *Transport) receiveChunk(d *reader, n int, s *inConn, in *inbound, asm *assembler) error {
	b, err := d.view(n)
	if err != nil {
		return err
	}
	h, piece, err := parseChunk(b)
	if err != nil {
		return err
	}
	frame, charge, err := asm.add(h, piece)
	if charge > 0 && !in.charge(charge) {
		asm.bytes -= charge
		return fmt.Errorf("%w: a large frame without credit", ErrProtocol)
	}
	if err != nil || frame == nil {
		return err
	}
	t.counts.received(in.lane, 1, uint64(len(frame)))
	if !t.cfg.Deliver(s.store, in.lane, frame) {
		t.giveCredit(in, int64(len(frame)))
	}
	return nil
}

func (t *Transport) giveCredit(in *inbound, n int64) {
	if n == 0 {
		return
	}
	if s := in.credit(n); s != nil {
		s.signal()
	}
}

// Credit says that bytes of frames that Deliver held are done with. It does not
// wait.
func (t *Transport) Credit(from metapb.StoreID, lane Lane, bytes int) {
	if in := t.remotes.inbound(from, lane); in != nil {
		t.giveCredit(in, int64(bytes))
	}
}
