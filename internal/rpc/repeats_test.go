package rpc

import (
	"bytes"
	"io"
	"log/slog"
	"net"
	"testing"
)

// Several peers that are refused again and again do not fill the log between them.
func TestRepeatsOfSeveral(t *testing.T) {
	var out bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&out, nil))
	var r repeats
	for range 100 {
		for store := range 3 {
			r.log(logger, "store", store, "error", "another cluster")
		}
	}
	if n := bytes.Count(out.Bytes(), []byte("\n")); n != 3 {
		t.Errorf("three peers that are refused a hundred times are %d lines", n)
	}
	// What they say is bounded, whatever it is.
	for i := range 10 * repeatsMax {
		r.log(logger, "address", i)
	}
	if n := len(r.told); n > repeatsMax {
		t.Errorf("%d lines are remembered", n)
	}
}

// linesOf hands out what is logged, a line a value.
type linesOf chan string

func (l linesOf) Write(b []byte) (int, error) {
	l <- string(b)
	return len(b), nil
}

// Something that is no node, at the address of a store, ends each connection: that is in
// the log once, although each had a port of its own here.
func TestResetsAreToldOnce(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	met := make(chan error, 100)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, err = io.ReadFull(conn, make([]byte, len(magic)))
			conn.(*net.TCPConn).SetLinger(0) // a reset
			conn.Close()
			met <- err
		}
	}()
	lines := make(linesOf, 1000)
	n := newNetwork()
	a := n.start(t, 1, 1, func(c *Config) { c.Logger = slog.New(slog.NewTextHandler(lines, nil)) })
	n.set(2, l.Addr().String())
	a.Send(2, Raft, []byte("frame"))
	for range 10 {
		if err := wait(t, "an attempt", met); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(lines); n != 1 {
		t.Errorf("ten attempts are %d lines", n)
	}
}
