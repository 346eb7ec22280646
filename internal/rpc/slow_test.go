package rpc

import (
	"net"
	"testing"
	"time"
)

// newStraw is a proxy that passes on so much at each tick, and back at once.
func newStraw(t *testing.T, to string, bytes int, tick time.Duration) *proxy {
	t.Helper()
	return newProxy(t, to, func(from, to net.Conn, there bool) {
		ticker := time.NewTicker(tick)
		defer ticker.Stop()
		b := make([]byte, bytes)
		for {
			if there {
				<-ticker.C
			}
			n, err := from.Read(b)
			if err != nil {
				return
			}
			if _, err := to.Write(b[:n]); err != nil {
				return
			}
		}
	})
}

// Where the network is slow, what was handed to it takes longer to arrive than a silence
// may last, and so does a ping behind it. As long as something arrives the other end lives.
func TestSlowNetwork(t *testing.T) {
	n := newNetwork()
	edit := func(c *Config) { c.PingInterval, c.SilenceMax = 20*time.Millisecond, 100*time.Millisecond }
	a, b := n.start(t, 1, 1, edit), n.start(t, 2, 1, edit)
	n.set(2, newStraw(t, b.addr, 32<<10, 5*time.Millisecond).addr())
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
