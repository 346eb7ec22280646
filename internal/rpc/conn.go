package rpc

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// magic is what a connection begins with, in plain text or inside TLS. Whoever came
// here by mistake is told from a node by it.
const magic = "flotilla"

// protocolName is the same for TLS, which may refuse others sooner.
const protocolName = "flotilla-peer"

// dialer makes connections.
type dialer struct {
	tls     *tls.Config // nil: plain text
	timeout time.Duration
}

// ours is a configuration for TLS with this protocol's name.
func ours(c *tls.Config) *tls.Config {
	if c == nil {
		return nil
	}
	c = c.Clone()
	c.NextProtos = []string{protocolName}
	return c
}

// dial makes a connection, on which the magic is still to be sent. When ctx is
// done the connection is closed, whoever uses it.
func (d *dialer) dial(ctx context.Context, addr string, c class) (net.Conn, error) {
	nd := &net.Dialer{Timeout: d.timeout}
	if c == classLiveness {
		nd.Control = prioritize
	}
	conn, err := nd.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, func() { conn.Close() })
	if d.tls == nil {
		return conn, nil
	}
	cfg := d.tls
	if cfg.ServerName == "" {
		host, _, err := net.SplitHostPort(addr)
		if err != nil {
			return nil, err
		}
		cfg = cfg.Clone()
		cfg.ServerName = host
	}
	secured := tls.Client(conn, cfg)
	if err := secured.HandshakeContext(ctx); err != nil {
		conn.Close()
		if errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) {
			err = errNoTLS // it has no words for what it does not understand
		}
		return nil, err
	}
	return secured, nil
}

// handshakeMark is what a connection with TLS begins with.
const handshakeMark = "\x16\x03"

// inPlainText reports whether a handshake came to nothing since a node at the other end
// has no TLS.
func inPlainText(err error) bool {
	var other tls.RecordHeaderError
	return errors.As(err, &other) && other.Conn != nil && string(other.RecordHeader[:]) == magic[:len(other.RecordHeader)]
}

// interactivePriority is the highest that needs no privilege.
const interactivePriority = 6

// prioritize puts a connection before others on the way out of this machine. It is
// a wish: where it cannot be had, the connection works as well.
func prioritize(_, _ string, raw syscall.RawConn) error {
	return raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PRIORITY, interactivePriority)
	})
}

// headBytes is the length that stands before each message. The length counts the
// kind and what follows.
const headBytes = 4

// begin appends the head of a message whose length end fills in.
func begin(b []byte, kind byte) []byte { return append(b, 0, 0, 0, 0, kind) }

// end fills in the length of the message that begins at a place of b.
func end(b []byte, at int) []byte {
	binary.LittleEndian.PutUint32(b[at:], uint32(len(b)-at-headBytes))
	return b
}

// reader cuts messages off a connection. Its owner guards it.
type reader struct {
	from  io.Reader
	heard *atomic.Uint64 // counts what comes, if set
	buf   []byte
	r, w  int // buf[r:w] was read and not handed out
}

func newReader(from io.Reader, bytes int) *reader {
	return &reader{from: from, buf: make([]byte, bytes)}
}

// resize changes how much is read at once, and forgets nothing.
func (d *reader) resize(bytes int) {
	if bytes == len(d.buf) || bytes < d.w-d.r {
		return
	}
	buf := make([]byte, bytes)
	d.r, d.w = 0, copy(buf, d.buf[d.r:d.w])
	d.buf = buf
}

// next waits for a message of at most so many bytes, and returns its kind and how
// many bytes follow. Those must be taken, with view or block. io.EOF is an end
// between two messages.
func (d *reader) next(most int) (kind byte, rest int, err error) {
	if err := d.need(headBytes + 1); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) && d.r == d.w {
			err = io.EOF
		}
		return 0, 0, err
	}
	n := binary.LittleEndian.Uint32(d.buf[d.r:])
	if n == 0 || uint64(n) > uint64(most) {
		return 0, 0, fmt.Errorf("%w: %d bytes, 1 to %d are possible", ErrProtocol, n, most)
	}
	kind = d.buf[d.r+headBytes]
	d.r += headBytes + 1
	return kind, int(n) - 1, nil
}

// view returns the next n bytes. They are good until the next call.
func (d *reader) view(n int) ([]byte, error) {
	if n > len(d.buf) {
		d.resize(n)
	}
	if err := d.need(n); err != nil {
		return nil, err
	}
	b := d.buf[d.r : d.r+n : d.r+n]
	d.r += n
	return b, nil
}

// block returns the next n bytes in memory of their own.
func (d *reader) block(n int) ([]byte, error) {
	if n <= len(d.buf) {
		b, err := d.view(n)
		if err != nil {
			return nil, err
		}
		own := make([]byte, n)
		copy(own, b)
		return own, nil
	}
	own := make([]byte, n)
	have := copy(own, d.buf[d.r:d.w])
	d.r, d.w = 0, 0
	for have < n {
		got, err := d.read(own[have:])
		if err != nil {
			return nil, err
		}
		have += got
	}
	return own, nil
}

// growBytes is how much memory is taken for a message before more of it has come.
const growBytes = 64 << 10

// grow is block for who is not trusted: it takes memory as the bytes come.
func (d *reader) grow(n int) ([]byte, error) {
	var own []byte
	for len(own) < n {
		b, err := d.view(min(n-len(own), growBytes))
		if err != nil {
			return nil, err
		}
		own = append(own, b...)
	}
	return own, nil
}

// need reads until n bytes are in the buffer.
// REQUIRES: n <= len(d.buf).
func (d *reader) need(n int) error {
	for d.w-d.r < n {
		if d.r == d.w {
			d.r, d.w = 0, 0
		} else if d.r+n > len(d.buf) {
			d.r, d.w = 0, copy(d.buf, d.buf[d.r:d.w])
		}
		got, err := d.read(d.buf[d.w:])
		if err != nil {
			return err
		}
		d.w += got
	}
	return nil
}

// read is one read of the connection; an end is not expected here.
func (d *reader) read(b []byte) (int, error) {
	n, err := d.from.Read(b)
	if n > 0 {
		if d.heard != nil {
			d.heard.Add(1)
		}
		return n, nil
	}
	if err == io.EOF {
		return 0, io.ErrUnexpectedEOF
	}
	return 0, cmp.Or(err, io.ErrNoProgress)
}

// readHello reads a greeting; a refusal in its place is a *RefusedError.
func readHello(d *reader, want byte) (*hello, error) {
	kind, n, err := d.next(helloBytesMax)
	if err != nil {
		return nil, err
	}
	b, err := d.view(n)
	if err != nil {
		return nil, err
	}
	switch {
	case kind == msgRefused && want == msgWelcome:
		return nil, refusedBy(b)
	case kind != want:
		return nil, fmt.Errorf("%w: kind %d in place of a greeting", ErrProtocol, kind)
	}
	return parseHello(b)
}

// refusedBy is the *RefusedError that the other end sent.
func refusedBy(b []byte) error {
	h, err := parseHello(b)
	if err != nil {
		return err
	}
	return &RefusedError{kind: h.Kind, Text: h.Text}
}

// closed says in our words that a connection ended between two messages.
func closed(err error) error {
	if errors.Is(err, io.EOF) {
		return errClosed
	}
	return err
}
