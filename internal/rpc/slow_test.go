package rpc

import (
	"net"
	"sync"
	"testing"
	"time"
)

// straw stands before a store and passes on so much at each tick, and back at once.
type straw struct {
	l     net.Listener
	to    string
	bytes int
	tick  time.Duration
	done  sync.WaitGroup

	mu    sync.Mutex
	conns []net.Conn
}

func newStraw(t *testing.T, to string, bytes int, tick time.Duration) *straw {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &straw{l: l, to: to, bytes: bytes, tick: tick}
	s.done.Go(s.accept)
	t.Cleanup(func() {
		l.Close()
		s.mu.Lock()
		for _, c := range s.conns {
			c.Close()
		}
		s.mu.Unlock()
		s.done.Wait()
	})
	return s
}

func (s *straw) accept() {
	for {
		in, err := s.l.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", s.to)
		if err != nil {
			in.Close()
			continue
		}
		s.mu.Lock()
		s.conns = append(s.conns, in, out)
		s.mu.Unlock()
		ticker := time.NewTicker(s.tick)
		s.done.Go(func() { defer ticker.Stop(); s.pass(in, out, ticker.C) })
		s.done.Go(func() { s.pass(out, in, nil) })
	}
}

func (s *straw) pass(from, to net.Conn, ticks <-chan time.Time) {
	defer to.Close()
	b := make([]byte, s.bytes)
	for {
		if ticks != nil {
			<-ticks
		}
		n, err := from.Read(b)
		if err != nil {
			return
		}
		if _, err := to.Write(b[:n]); err != nil {
			return
		}
	}
}

// Where the network is slow, what was handed to it takes longer to arrive than a silence
// may last, and so does a ping behind it. As long as something arrives the other end lives.
func TestSlowNetwork(t *testing.T) {
	n := newNetwork()
	edit := func(c *Config) { c.PingInterval, c.SilenceMax = 20*time.Millisecond, 100*time.Millisecond }
	a, b := n.start(t, 1, 1, edit), n.start(t, 2, 1, edit)
	n.set(2, newStraw(t, b.addr, 32<<10, 5*time.Millisecond).l.Addr().String())
	const frames = 4
	for range frames {
		if !a.Send(2, Raft, make([]byte, 1<<20)) {
			t.Fatal("no room")
		}
	}
	for range frames {
		select {
		case <-b.got:
		case l := <-a.lost:
			t.Fatalf("the connection of %v was given up", l)
		case <-time.After(patience):
			t.Fatal("nothing arrives")
		}
	}
}
