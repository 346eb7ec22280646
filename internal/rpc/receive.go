package rpc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/flotilladb/flotilla/proto/metapb"
)

const (
	serviceName = "flotilla.rpc.Peer"
	framesName  = "Frames"
	callName    = "Call"
)

// Register adds the transport to the server for peers. It must be called before
// the server serves, and not if the Config has Listen.
func (t *Transport) Register(s grpc.ServiceRegistrar) {
	s.RegisterService(&grpc.ServiceDesc{
		ServiceName: serviceName,
		HandlerType: (*any)(nil),
		Methods:     []grpc.MethodDesc{{MethodName: callName, Handler: t.handleCall}},
		Streams: []grpc.StreamDesc{{
			StreamName: framesName, ServerStreams: true, ClientStreams: true,
			Handler: func(_ any, s grpc.ServerStream) error { return t.handleFrames(s) },
		}},
	}, t)
}

// handleFrames is the receiving end of a stream. What comes is read on a goroutine
// of ours; this one sends what goes back, and by returning ends the stream.
func (t *Transport) handleFrames(gs grpc.ServerStream) error {
	addr := remoteAddr(gs.Context())
	h, err := receiveHello(gs, msgHello)
	if err != nil {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	me := t.who()
	if why := me.admit(h, addr); why != nil {
		return t.sendRefusal(gs, h, addr, why)
	}
	s := newInStream(h.Store, h.Lane)
	if err := t.remotes.enter(gs.Context(), h, addr, s); err != nil {
		var why *RefusedError
		if errors.As(err, &why) {
			return t.sendRefusal(gs, h, addr, why)
		}
		return status.FromContextError(err).Err()
	}
	welcome := me.hello()
	welcome.Lane = h.Lane
	welcome.Credit = uint64(s.in.begin(s))
	if err := t.cfg.Stopper.Go("rpc receive", func(context.Context) { t.receive(gs, s) }); err != nil {
		t.endReceive(s, 0, err)
		return status.Error(codes.Unavailable, err.Error())
	}
	t.kick(h.Store)
	if err := sendOut(gs, welcome.append(nil, msgWelcome)); err != nil {
		return err
	}
	return t.answer(gs, s)
}

func (t *Transport) sendRefusal(gs grpc.ServerStream, h *hello, addr string, why *RefusedError) error {
	t.refusals.log(t.cfg.Logger, "store", h.Store, "address", addr, "error", why)
	t.counts.refused.Add(1)
	answer := t.who().hello()
	answer.Kind, answer.Text = why.kind, why.Text
	return sendOut(gs, answer.append(nil, msgRefused))
}

// answer sends credit and signs of life until the stream has ended or should.
func (t *Transport) answer(gs grpc.ServerStream, s *inStream) error {
	ticker := time.NewTicker(t.cfg.PingInterval)
	defer ticker.Stop()
	heard := s.heard.Load()
	for {
		select {
		case <-s.ended:
			return s.err
		case <-s.evicted:
			return status.Error(codes.Aborted, s.reason.Error())
		case <-t.cfg.Stopper.Context().Done():
			return status.Error(codes.Unavailable, "the node is stopping")
		case <-s.wake:
			n := s.in.takeOwed(s)
			if !s.pinged.Swap(false) && n == 0 {
				continue
			}
			if err := sendOut(gs, appendAnswer(nil, uint64(n))); err != nil {
				return err
			}
		case <-ticker.C:
			// Ticks are counted, not time: a process that was stopped itself must
			// not think that all others were silent.
			if now := s.heard.Load(); now != heard {
				heard = now
				s.silent.Store(0)
			} else if silent := s.silent.Add(1); time.Duration(silent)*t.cfg.PingInterval > t.cfg.SilenceMax {
				return status.Error(codes.DeadlineExceeded, ErrSilent.Error())
			}
		}
	}
}

// receive delivers what comes until the stream ends.
func (t *Transport) receive(gs grpc.ServerStream, s *inStream) {
	asm := assembler{frameMax: uint64(t.cfg.FrameBytesMax)}
	var m message
	for {
		err := gs.RecvMsg(&m)
		if err == nil {
			s.heard.Add(1)
			err = t.receiveMessage(&m, s, &asm)
		}
		if err != nil {
			t.endReceive(s, asm.bytes, err)
			return
		}
	}
}

func (t *Transport) endReceive(s *inStream, partial int64, err error) {
	s.in.end(s, partial)
	s.err = err
	if errors.Is(err, ErrProtocol) {
		t.cfg.Logger.Error("bad message from a peer", "store", s.store, "lane", s.lane.String(), "error", err)
		s.err = status.Error(codes.InvalidArgument, err.Error())
	}
	close(s.ended)
	t.remotes.leave(s)
}

func (t *Transport) receiveMessage(m *message, s *inStream, asm *assembler) error {
	switch m.kind() {
	case msgFrames:
		return t.receiveFrames(m.take(), s)
	case msgChunk:
		return t.receiveChunk(m, s, asm)
	case msgPing:
		m.free()
		s.pinged.Store(true)
		s.signal()
		return nil
	}
	kind := m.kind()
	m.free()
	return fmt.Errorf("%w: kind %d from a sender", ErrProtocol, kind)
}

func (t *Transport) receiveFrames(b []byte, s *inStream) error {
	if !s.in.charge(int64(len(b))) {
		return fmt.Errorf("%w: frames without credit", ErrProtocol)
	}
	var frames, bytes, held int64
	all := int64(len(b))
	var err error
	for len(b) > 0 {
		var frame []byte
		if frame, b, err = nextFrame(b); err != nil {
			break
		}
		frames++
		bytes += int64(len(frame))
		if t.cfg.Deliver(s.store, s.lane, frame) {
			held += int64(len(frame))
		}
	}
	t.counts.received(s.lane, uint64(frames), uint64(bytes))
	// The sender was not charged for the lengths, which were counted here so that
	// one count before all frames is enough.
	s.in.uncharge(all - bytes)
	t.giveCredit(s.in, bytes-held)
	return err
}

func (t *Transport) receiveChunk(m *message, s *inStream, asm *assembler) error {
	buf, b := m.flat()
	defer buf.Free()
	h, piece, err := parseChunk(b)
	if err != nil {
		return err
	}
	frame, charge, err := asm.add(h, piece)
	if charge > 0 && !s.in.charge(charge) {
		asm.bytes -= charge
		return fmt.Errorf("%w: a large frame without credit", ErrProtocol)
	}
	if err != nil || frame == nil {
		return err
	}
	t.counts.received(s.lane, 1, uint64(len(frame)))
	if !t.cfg.Deliver(s.store, s.lane, frame) {
		t.giveCredit(s.in, int64(len(frame)))
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

// handleCall answers Call.
func (t *Transport) handleCall(
	_ any, ctx context.Context, dec func(any) error, _ grpc.UnaryServerInterceptor,
) (any, error) {
	var m message
	if err := dec(&m); err != nil {
		return nil, err
	}
	request := m.in.Materialize()
	m.free()
	if t.cfg.Answer == nil {
		return nil, status.Error(codes.Unimplemented, "this node answers no calls of peers")
	}
	reply, err := t.cfg.Answer(ctx, request)
	if err != nil {
		return nil, err
	}
	return &message{out: small(reply)}, nil
}

// receiver and sender are the two halves of any stream.
type receiver interface{ RecvMsg(m any) error }
type sender interface{ SendMsg(m any) error }

func sendOut(s sender, b []byte) error { return s.SendMsg(&message{out: small(b)}) }

// receiveHello reads a greeting; a refusal in its place is a *RefusedError.
func receiveHello(s receiver, want byte) (*hello, error) {
	var m message
	if err := s.RecvMsg(&m); err != nil {
		return nil, err
	}
	kind := m.kind()
	if kind == 0 {
		m.free()
		return nil, fmt.Errorf("%w: empty greeting", ErrProtocol)
	}
	h, err := parseHello(m.take())
	switch {
	case err != nil:
		return nil, err
	case kind == msgRefused && want == msgWelcome:
		return nil, &RefusedError{kind: h.Kind, Text: h.Text}
	case kind != want:
		return nil, fmt.Errorf("%w: kind %d in place of a greeting", ErrProtocol, kind)
	}
	return h, nil
}

// remoteAddr is the host of a peer: its port is a passing one.
func remoteAddr(ctx context.Context) string {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return "unknown address"
	}
	if host, _, err := net.SplitHostPort(p.Addr.String()); err == nil {
		return host
	}
	return p.Addr.String()
}
