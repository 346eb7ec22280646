package rpc

import (
	"net"
	"sync"
	"testing"
)

// proxy stands before a store. Whoever connects to its listener is connected to the store,
// and pass, called once for each direction, carries what is sent until it can no more; there
// is the direction to the store.
type proxy struct {
	l    net.Listener
	to   string
	pass func(from, to net.Conn, there bool)
	done sync.WaitGroup

	mu    sync.Mutex
	conns []net.Conn
}

func newProxy(t *testing.T, to string, pass func(from, to net.Conn, there bool)) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{l: l, to: to, pass: pass}
	p.done.Go(p.accept)
	t.Cleanup(p.close)
	return p
}

func (p *proxy) addr() string { return p.l.Addr().String() }

func (p *proxy) accept() {
	for {
		in, err := p.l.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", p.to)
		if err != nil {
			in.Close()
			continue
		}
		p.mu.Lock()
		p.conns = append(p.conns, in, out)
		p.mu.Unlock()
		p.done.Go(func() { defer out.Close(); p.pass(in, out, true) })
		p.done.Go(func() { defer in.Close(); p.pass(out, in, false) })
	}
}

func (p *proxy) close() {
	p.l.Close()
	p.mu.Lock()
	for _, c := range p.conns {
		c.Close()
	}
	p.mu.Unlock()
	p.done.Wait()
}
