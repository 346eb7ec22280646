package etcdapi

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flotilladb/flotilla/internal/stop"
)

// pipeListener hands out in-memory connections, so that time can be virtual.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
	fail   chan error // what the next accepts answer
}

func newPipeListener() *pipeListener {
	return &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{}), fail: make(chan error)}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case err := <-l.fail:
		return nil, err
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	select {
	case <-l.closed:
	default:
		close(l.closed)
	}
	return nil
}

func (l *pipeListener) Addr() net.Addr { return &net.TCPAddr{} }

func (l *pipeListener) dial() net.Conn {
	ours, theirs := net.Pipe()
	l.conns <- theirs
	return ours
}

func startSplitter(t *testing.T, l net.Listener) (*splitter, *stop.Stopper) {
	t.Helper()
	st := stop.New(t.Context())
	s := newSplitter(l, 10*time.Second, st, slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err := s.start(); err != nil {
		t.Fatal(err)
	}
	return s, st
}

// The first bytes decide, and whoever gets the connection reads them again.
func TestSplitterSniffs(t *testing.T) {
	for _, tc := range []struct {
		name, says string
		grpc       bool
	}{
		{"HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", true},
		{"HTTP/1", "PUT /v3/kv/put HTTP/1.1\r\n", false},
		{"neither", "\x16\x03\x01\x00\x01", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newPipeListener()
				s, st := startSplitter(t, l)
				client := l.dial()
				if err := st.Go("client", func(context.Context) {
					for i := range tc.says { // byte by byte
						if _, err := client.Write([]byte(tc.says[i : i+1])); err != nil {
							t.Error(err)
						}
					}
				}); err != nil {
					t.Fatal(err)
				}
				from := s.http
				if tc.grpc {
					from = s.grpc
				}
				conn, err := from.Accept()
				if err != nil {
					t.Fatal(err)
				}
				got := make([]byte, len(tc.says))
				if _, err := io.ReadFull(conn, got); err != nil || string(got) != tc.says {
					t.Fatalf("read %q, %v", got, err)
				}
				st.Stop()
			})
		})
	}
}

// A connection that says nothing is closed, and does not keep others out.
func TestSplitterSilentConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newPipeListener()
		_, st := startSplitter(t, l)
		begin := time.Now()
		silent := l.dial()
		if _, err := silent.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Fatalf("read from the server: %v", err)
		}
		if took := time.Since(begin); took != 10*time.Second {
			t.Fatalf("closed after %v", took)
		}
		st.Stop()
	})
}

// A failing accept is tried again, ever more slowly.
func TestSplitterAcceptFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newPipeListener()
		s, st := startSplitter(t, l)
		begin := time.Now()
		for range 3 {
			l.fail <- errors.New("too many open files")
		}
		client := l.dial()
		if took := time.Since(begin); took != 5*time.Millisecond+10*time.Millisecond+20*time.Millisecond {
			t.Fatalf("accepted again after %v", took)
		}
		if err := st.Go("client", func(context.Context) { _, _ = client.Write([]byte("PRI ")) }); err != nil {
			t.Fatal(err)
		}
		if _, err := s.grpc.Accept(); err != nil {
			t.Fatal(err)
		}
		st.Stop()
	})
}

// When one of the two servers ends, the socket is closed and so ends the other.
func TestSplitterCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newPipeListener()
		s, st := startSplitter(t, l)
		if err := s.http.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := s.grpc.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Fatalf("accept after the close: %v", err)
		}
		st.Stop()
	})
}
