package rpc

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
)

// strangersMax bounds the connections that have not said yet who they are, and
// those that ask something. More are closed: who is a node tries again.
const strangersMax = 1 << 10

// acceptPause is how long nothing is accepted after a failure, such as that there
// are no descriptors left.
const acceptPause = 50 * time.Millisecond

// serve takes the connections of other stores.
func (t *Transport) serve() error {
	for _, l := range append([]net.Listener{t.cfg.Listen}, t.cfg.ListenMore...) {
		if err := t.serveAt(l); err != nil {
			return err
		}
	}
	return nil
}

func (t *Transport) serveAt(l net.Listener) error {
	err := t.cfg.Stopper.Go("rpc serve", func(ctx context.Context) {
		defer context.AfterFunc(ctx, func() { l.Close() })()
		for {
			conn, err := l.Accept()
			switch {
			case ctx.Err() != nil:
				if err == nil {
					conn.Close()
				}
				return
			case errors.Is(err, net.ErrClosed):
				t.cfg.Logger.Error("serving peers ended", "address", l.Addr().String(), "error", err)
				return
			case err != nil:
				t.refusals.log(t.cfg.Logger, "error", err)
				_ = sleep(ctx, acceptPause)
			default:
				t.serveConn(conn)
			}
		}
	})
	if err != nil {
		return fmt.Errorf("serve peers at %s: %w", l.Addr(), err)
	}
	return nil
}

// sleep waits, and fails with the context's cause if that is done sooner.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (t *Transport) serveConn(conn net.Conn) {
	select {
	case t.strangers <- struct{}{}:
	default:
		conn.Close()
		return
	}
	if err := t.cfg.Stopper.Go("rpc receive", func(ctx context.Context) {
		defer conn.Close()
		defer context.AfterFunc(ctx, func() { conn.Close() })()
		s, d, err := t.meet(ctx, conn)
		<-t.strangers
		if s != nil {
			t.receive(d, s)
		} else if err != nil && ctx.Err() == nil {
			t.refusals.log(t.cfg.Logger, "address", hostOf(conn), "error", err)
		}
	}); err != nil {
		conn.Close()
		<-t.strangers
	}
}

// meet finds out who is at the other end. A store that is let in is returned, with
// what reads from it; all others are done with then. An error is one that is not
// counted and told elsewhere.
func (t *Transport) meet(ctx context.Context, raw net.Conn) (*inConn, *reader, error) {
	raw.SetDeadline(time.Now().Add(t.cfg.DialTimeout))
	conn := raw
	if t.tls != nil {
		secured := tls.Server(raw, t.tls)
		if err := secured.HandshakeContext(ctx); err != nil {
			return nil, nil, noHandshake(raw, err)
		}
		conn = secured
	}
	d := newReader(conn, helloBytesMax)
	switch b, err := d.view(len(magic)); {
	case err != nil && d.r == d.w:
		return nil, nil, nil
	case err == nil && t.tls == nil && strings.HasPrefix(string(b), handshakeMark):
		return nil, nil, fmt.Errorf("%w: it speaks TLS, and this node has none: set --peer-cert-file, --peer-key-file and --peer-trusted-ca-file, if it is a node", ErrProtocol)
	case err != nil || string(b) != magic:
		return nil, nil, fmt.Errorf("%w: what it says first is not of a node", ErrProtocol)
	}
	kind, n, err := d.next(callBytesMax)
	if err != nil {
		return nil, nil, err
	}
	if kind == msgCall {
		return nil, nil, t.answerCall(ctx, conn, d, n)
	}
	if kind != msgHello || n > helloBytesMax {
		return nil, nil, fmt.Errorf("%w: kind %d in place of a greeting", ErrProtocol, kind)
	}
	b, err := d.view(n)
	if err != nil {
		return nil, nil, err
	}
	h, err := parseHello(b)
	if err != nil {
		return nil, nil, err
	}
	s, err := t.letIn(ctx, conn, raw, h)
	if s == nil {
		return nil, nil, err
	}
	raw.SetDeadline(time.Time{})
	d.heard = &s.heard
	d.resize(readBufferBytes)
	return s, d, nil
}

// noHandshake is the error of a TLS handshake, nil if nobody meant to make one. A node
// without TLS could not read an alert; it is told in plain text, and nothing of this
// cluster with it.
func noHandshake(raw net.Conn, err error) error {
	switch {
	case errors.Is(err, io.EOF):
		return nil // somebody looked whether the port is open
	case inPlainText(err):
		why := refuse(refusedOther, "the node at %s speaks plain text to one with TLS: set --peer-cert-file, --peer-key-file and --peer-trusted-ca-file there",
			hostOf(raw))
		self{}.tell(raw, why)
		return why
	}
	return err
}

// letIn enters a connection and welcomes its sender, or says why not.
func (t *Transport) letIn(ctx context.Context, conn, raw net.Conn, h *hello) (*inConn, error) {
	addr := hostOf(conn)
	me := t.who()
	if why := me.admit(h, addr); why != nil {
		return nil, t.sendRefusal(conn, h, addr, why)
	}
	s := newInConn(h, conn, raw)
	ctx, cancel := context.WithTimeout(ctx, t.cfg.DialTimeout)
	defer cancel()
	if err := t.remotes.enter(ctx, h, addr, s); err != nil {
		var why *RefusedError
		if errors.As(err, &why) {
			return nil, t.sendRefusal(conn, h, addr, why)
		}
		return nil, err
	}
	for _, in := range s.lanes {
		in.begin(s)
	}
	if h.Addr != "" {
		t.cfg.Heard(h.Store, h.Start, h.Addr)
	}
	t.kick(h.Store)
	welcome := me.hello()
	welcome.Lanes = h.Lanes
	_, err := conn.Write(welcome.append(nil, msgWelcome))
	if err == nil {
		s.signal() // the first credit
		err = t.cfg.Stopper.Go("rpc credit", func(ctx context.Context) { t.answer(ctx, s) })
	}
	if err != nil {
		t.endReceive(s, nil)
		return nil, nil
	}
	return s, nil
}

func (t *Transport) sendRefusal(conn net.Conn, h *hello, addr string, why *RefusedError) error {
	t.refusals.log(t.cfg.Logger, "store", h.Store, "address", addr, "error", why)
	t.counts.refused.Add(1)
	t.who().tell(conn, why)
	return nil
}

// tell says why as the last message of a connection, if it can.
func (s self) tell(conn net.Conn, why *RefusedError) {
	h := s.hello()
	h.Kind, h.Text = why.kind, why.Text
	_, _ = conn.Write(h.append(nil, msgRefused))
}

// hostOf is the host of a peer: its port is a passing one.
func hostOf(conn net.Conn) string {
	addr := conn.RemoteAddr().String()
	if host, _, err := net.SplitHostPort(addr); err == nil {
		return host
	}
	return addr
}
