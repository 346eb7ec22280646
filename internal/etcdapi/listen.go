package etcdapi

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/flotilladb/flotilla/internal/stop"
)

const (
	// sniffBytes is how much tells the two protocols apart: an HTTP/2
	// connection opens with "PRI *", and no method of HTTP/1 begins with "PRI ".
	sniffBytes = 4
	// sniffersMax bounds the connections that have not said what they speak;
	// beyond it no more are accepted until one does or runs out of time.
	sniffersMax = 1024
	// acceptRetryMin and Max pace attempts after a failed accept (out of files).
	acceptRetryMin = 5 * time.Millisecond
	acceptRetryMax = time.Second
)

var http2Preface = []byte("PRI ")

// splitter hands each connection of a listener to gRPC or to the HTTP server.
type splitter struct {
	lis     net.Listener
	grpc    *connQueue
	http    *connQueue
	timeout time.Duration
	slots   chan struct{} // holds one value per sniffer
	stopper *stop.Stopper
	logger  *slog.Logger
}

func newSplitter(l net.Listener, timeout time.Duration, st *stop.Stopper, logger *slog.Logger) *splitter {
	s := &splitter{lis: l, timeout: timeout, slots: make(chan struct{}, sniffersMax), stopper: st, logger: logger}
	var once sync.Once
	var err error
	// Whoever serves closes its listener when it ends; the first closes the socket.
	closeSocket := func() error {
		once.Do(func() { err = l.Close() })
		return err
	}
	s.grpc = newConnQueue(l.Addr(), closeSocket)
	s.http = newConnQueue(l.Addr(), closeSocket)
	return s
}

func (s *splitter) start() error { return s.stopper.Go("accept", s.accept) }

func (s *splitter) accept(ctx context.Context) {
	defer s.grpc.Close()
	defer s.http.Close()
	// Accept knows no context: closing the socket is what ends it.
	defer context.AfterFunc(ctx, func() { s.lis.Close() })()
	retry := acceptRetryMin
	for {
		conn, err := s.lis.Accept()
		if err != nil {
			if s.closed() || ctx.Err() != nil {
				return
			}
			s.logger.Warn("accept failed", "address", s.lis.Addr().String(), "error", err)
			if !wait(ctx, retry) {
				return
			}
			retry = min(2*retry, acceptRetryMax)
			continue
		}
		retry = acceptRetryMin
		select {
		case s.slots <- struct{}{}:
		case <-ctx.Done():
			conn.Close()
			return
		}
		if s.stopper.Go("sniff", func(context.Context) { s.sniff(conn) }) != nil {
			conn.Close()
			return
		}
	}
}

func (s *splitter) closed() bool {
	select {
	case <-s.grpc.done:
	case <-s.http.done:
	default:
		return false
	}
	return true
}

// wait returns false if ctx ends first.
func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// sniff reads the first bytes of a connection and passes it on with them.
func (s *splitter) sniff(conn net.Conn) {
	defer func() { <-s.slots }()
	head := make([]byte, sniffBytes)
	if err := conn.SetReadDeadline(time.Now().Add(s.timeout)); err != nil {
		conn.Close()
		return
	}
	if _, err := io.ReadFull(conn, head); err != nil {
		conn.Close() // silent, or gone
		return
	}
	if err := conn.SetReadDeadline(time.Time{}); err != nil {
		conn.Close()
		return
	}
	sniffed := &sniffedConn{Conn: conn, head: head}
	if bytes.Equal(head, http2Preface) {
		s.grpc.push(newPacedConn(sniffed))
	} else {
		s.http.push(sniffed)
	}
}

// sniffedConn gives back what was read of it. Reads of one connection come from
// one goroutine.
type sniffedConn struct {
	net.Conn
	head []byte // still to be read
}

func (c *sniffedConn) Read(p []byte) (int, error) {
	if len(c.head) == 0 {
		return c.Conn.Read(p)
	}
	n := copy(p, c.head)
	c.head = c.head[n:]
	return n, nil
}

// connQueue is a listener that is fed by hand.
type connQueue struct {
	addr        net.Addr
	conns       chan net.Conn
	done        chan struct{}
	once        sync.Once
	closeSocket func() error
}

func newConnQueue(addr net.Addr, closeSocket func() error) *connQueue {
	return &connQueue{addr: addr, conns: make(chan net.Conn), done: make(chan struct{}), closeSocket: closeSocket}
}

func (q *connQueue) push(c net.Conn) {
	select {
	case q.conns <- c:
	case <-q.done:
		c.Close()
	}
}

// Accept waits for the next connection.
func (q *connQueue) Accept() (net.Conn, error) {
	select {
	case c := <-q.conns:
		return c, nil
	case <-q.done:
		return nil, net.ErrClosed
	}
}

// Close ends Accept, and the socket for both protocols.
func (q *connQueue) Close() error {
	q.once.Do(func() { close(q.done) })
	return q.closeSocket()
}

// Addr is the socket's address.
func (q *connQueue) Addr() net.Addr { return q.addr }
