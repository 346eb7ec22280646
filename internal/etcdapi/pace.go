package etcdapi

import (
	"context"
	"net"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/peer"

	"github.com/flotilladb/flotilla/internal/clock"
)

// A renewal costs far less than to read its few bytes, to wake who waits for
// them, and to send the answer. Where a client renews thousands of leases a
// second on one connection, the reader rests a moment between reads: then several
// renewals come with one read, and their answers leave with one write. All such
// connections rest until the same moment, and wake few threads.
//
// It does not rest on a connection that has other calls, which would wait with the
// renewals, and where renewals are few nothing is gained.
const (
	// readPause is how long the reader rests, at most.
	readPause = 4 * time.Millisecond
	// renewalGap is how far apart renewals may be, on average, for that.
	renewalGap = 600 * time.Microsecond
	// callQuiet is for how long no other call has begun.
	callQuiet = 100 * time.Millisecond
)

// pacedConn is a connection of gRPC whose reader may rest.
type pacedConn struct {
	net.Conn
	renewals atomic.Int64 // since it was opened
	// readAt is when the last read ended, once there were renewals.
	readAt atomic.Int64

	// Of the reader:
	frames   frameScanner
	seen     int64      // renewals at the last look
	lookedAt clock.Time // when they last were more
	callAt   clock.Time // when a call began
}

func newPacedConn(conn net.Conn) *pacedConn {
	return &pacedConn{Conn: conn, frames: frameScanner{skip: len(clientPreface)}}
}

// Read implements net.Conn.
func (c *pacedConn) Read(p []byte) (int, error) {
	if c.mayRest() {
		time.Sleep(readPause - time.Duration(c.lookedAt)%readPause)
	}
	n, err := c.Conn.Read(p)
	call := c.frames.scan(p[:n])
	if c.seen > 0 { // the clock is not cheap enough for all
		now := clock.Now()
		c.readAt.Store(int64(now))
		if call {
			c.callAt = now
		}
	}
	return n, err
}

// mayRest reports whether the connection does nothing but renew, and often.
func (c *pacedConn) mayRest() bool {
	renewals := c.renewals.Load()
	n := renewals - c.seen
	if n == 0 {
		return false
	}
	now := clock.Time(c.readAt.Load()) // a moment ago
	gap := now.Sub(c.lookedAt)
	c.seen, c.lookedAt = renewals, now
	return gap <= time.Duration(n)*renewalGap && now.Sub(c.callAt) > callQuiet
}

// RemoteAddr is the client's address; handlers find the connection in it.
func (c *pacedConn) RemoteAddr() net.Addr { return pacedAddr{c.Conn.RemoteAddr(), c} }

type pacedAddr struct {
	net.Addr
	conn *pacedConn
}

// pacedConnOf returns the connection of a call, or nil.
func pacedConnOf(ctx context.Context) *pacedConn {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return nil
	}
	a, _ := p.Addr.(pacedAddr)
	return a.conn
}

// arrived is when a renewal that was read from the connection had arrived, at
// the latest. 0: not known.
func (c *pacedConn) arrived() clock.Time {
	if c == nil {
		return 0
	}
	return clock.Time(c.readAt.Load())
}

// renewed notes a renewal.
func (c *pacedConn) renewed() {
	if c != nil {
		c.renewals.Add(1)
	}
}

// clientPreface opens a connection of HTTP/2.
const clientPreface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// Of a frame of HTTP/2 the header has the length and the type.
const (
	frameHeaderBytes = 9
	frameTypeAt      = 3
	frameHeaders     = 1 // the type of frames that begin a call
)

// frameScanner finds out in what a client sends whether calls begin.
type frameScanner struct {
	skip   int // bytes until the next frame
	header [frameHeaderBytes]byte
	have   int // of the header
}

// scan looks at the next bytes and reports whether a call begins in them.
func (s *frameScanner) scan(b []byte) (call bool) {
	for len(b) > 0 {
		if s.skip > 0 {
			n := min(s.skip, len(b))
			s.skip -= n
			b = b[n:]
			continue
		}
		n := copy(s.header[s.have:], b)
		s.have += n
		b = b[n:]
		if s.have == frameHeaderBytes {
			s.have = 0
			s.skip = int(s.header[0])<<16 | int(s.header[1])<<8 | int(s.header[2])
			call = call || s.header[frameTypeAt] == frameHeaders
		}
	}
	return call
}
