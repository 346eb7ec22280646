package rpc

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/flotilladb/flotilla/proto/metapb"
)

// freezer stands between two stores. Frozen, it keeps all connections and passes
// nothing on, as a network does that lost its way, or a process that is stopped.
type freezer struct {
	*proxy
	mu     sync.Mutex
	cond   *sync.Cond
	frozen bool
	closed bool
}

func newFreezer(t *testing.T, to string) *freezer {
	t.Helper()
	f := &freezer{}
	f.cond = sync.NewCond(&f.mu)
	f.proxy = newProxy(t, to, f.pass)
	t.Cleanup(f.release) // before the proxy waits for who passes
	return f
}

func (f *freezer) pass(from, to net.Conn, _ bool) {
	b := make([]byte, 32<<10)
	for {
		n, err := from.Read(b)
		f.mu.Lock()
		for f.frozen && !f.closed {
			f.cond.Wait()
		}
		f.mu.Unlock()
		if err != nil {
			return
		}
		if _, err := to.Write(b[:n]); err != nil {
			return
		}
	}
}

func (f *freezer) freeze(on bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.frozen = on
	f.cond.Broadcast()
}

func (f *freezer) release() {
	f.mu.Lock()
	f.closed = true
	f.mu.Unlock()
	f.cond.Broadcast()
}

// A connection over which nothing comes any more, though nobody closed it, is
// given up at both ends; another is made when something comes again.
func TestHalfOpen(t *testing.T) {
	n := newNetwork()
	a, b := n.start(t, 1, 1, nil), n.start(t, 2, 1, nil)
	f := newFreezer(t, b.addr)
	n.set(2, f.addr())
	connect(t, a, b, 2, Raft)
	f.freeze(true)
	for range 2 { // raft and requests share the connection
		if l := wait(t, "word of the loss", a.lost); l.to != 2 {
			t.Fatalf("lost %v", l)
		}
	}
	b.alone(t, 1)
	f.freeze(false)
	connect(t, a, b, 2, Raft)
}

// alone waits until there is no stream from a store.
func (s *store) alone(t *testing.T, from metapb.StoreID) {
	t.Helper()
	for {
		s.remotes.mu.Lock()
		r := s.remotes.mu.byStore[from]
		n, changed := len(r.conns), r.changed
		s.remotes.mu.Unlock()
		if n == 0 {
			return
		}
		wait(t, "end of a silent stream", changed)
	}
}

// A process that vanished without a word does not keep its successor out for long.
func TestVanished(t *testing.T) {
	n, before := newNetwork(), newNetwork()
	b := n.start(t, 2, 1, func(c *Config) { c.SilenceMax = time.Hour }) // does not give up by itself
	f := newFreezer(t, b.addr)
	n.set(2, b.addr)
	before.set(2, f.addr()) // all that the first process has
	a := before.start(t, 1, 1, nil)
	connect(t, a, b, 2, Raft)
	f.freeze(true)
	again := n.start(t, 1, 2, nil)
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for again.Send(2, Raft, []byte("again")); ; {
		select {
		case g := <-b.got:
			if string(g.frame) != "again" {
				t.Fatalf("got %q", g.frame)
			}
			return
		case <-again.up:
			// It may have been refused first, and the frame lost.
			again.Send(2, Raft, []byte("again"))
		case <-timer.C:
			t.Fatal("its successor is kept out")
		}
	}
}

// With TLS a node whose certificate another authority signed gets no connection,
// in either direction; those of one authority talk.
func TestTLS(t *testing.T) {
	ours, theirs := newAuthority(t), newAuthority(t)
	n := newNetwork()
	a := n.start(t, 1, 1, func(c *Config) { c.TLS = ours.config(t) })
	b := n.start(t, 2, 1, func(c *Config) { c.TLS = ours.config(t) })
	stranger := n.start(t, 3, 1, func(c *Config) { c.TLS = theirs.config(t) })
	plain := n.start(t, 4, 1, nil)
	n.set(1, a.addr)
	n.set(2, b.addr)
	connect(t, a, b, 2, Raft)
	connect(t, b, a, 1, Liveness)
	for _, s := range []*store{stranger, plain} {
		s.Send(1, Raft, []byte("let me in"))
		wait(t, "word of the loss", s.lost)
	}
	if len(a.got) != 0 {
		t.Fatal("a frame of a stranger was delivered")
	}
	a.kill()
	b.kill()
}

type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{cert, key}
}

// config is what a node with a certificate of this authority has.
func (a *authority) config(t *testing.T) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "node"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
		RootCAs:      pool, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert,
	}
}

// What does not keep to the protocol ends its connection and nothing else.
func TestBadMessages(t *testing.T) {
	_, a, b := pair(t, nil)
	connect(t, a, b, 2, Raft)
	frames := func(lane Lane, body ...byte) []byte {
		return message(nil, msgFrames, append([]byte{byte(lane)}, body...))
	}
	for name, msg := range map[string][]byte{
		"unknown kind":      message(nil, 99, nil),
		"empty":             {0, 0, 0, 0},
		"too long":          {0xff, 0xff, 0xff, 0x7f, msgFrames},
		"a second hello":    greeting(nil),
		"a late question":   message(nil, msgCall, nil),
		"frame too long":    frames(Raft, 200, 1, 'x'),
		"no lane":           message(nil, msgFrames, nil),
		"lane of others":    frames(Snapshots, 1, 'x'),
		"lane of nobody":    frames(99, 1, 'x'),
		"chunk of nobody":   appendChunk(nil, Raft, chunkHead{ID: 1}, nil),
		"chunk without end": message(nil, msgChunk, []byte{byte(Raft), 0xff}),
		"large beyond":      appendChunk(nil, Raft, chunkHead{ID: 1, Total: 1 << 40}, []byte("x")),
		"chatty ping":       message(nil, msgPing, []byte("x")),
	} {
		conn, d := letIn(t, b)
		if _, err := conn.Write(msg); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var err error
		for err == nil {
			var kind byte
			var n int
			if kind, n, err = d.next(helloBytesMax); err != nil {
				break
			}
			body, _ := d.view(n)
			if kind != msgRefused {
				continue
			}
			if h, err := parseHello(body); err != nil || !strings.Contains(h.Text, "bad message") {
				t.Errorf("%s: the last word is %+v, %v", name, h, err)
			}
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: the connection goes on: %v", name, err)
		}
	}
	a.sendUntil(t, 2, Raft, []byte("still here"))
	if g := wait(t, "frame", b.got); string(g.frame) != "still here" {
		t.Fatalf("got %q", g.frame)
	}
}

// greeting is the hello of a store 9 to store 2, behind b.
func greeting(b []byte) []byte {
	h := self{Identity: Identity{ClusterID: 0xc1, Store: 9, Start: 1}, instance: 9}.hello()
	h.Lanes, h.To = setOf(Raft, Requests), 2
	return h.append(b, msgHello)
}

// letIn is a connection of store 9 to b, and what reads the answers.
func letIn(t *testing.T, b *store) (net.Conn, *reader) {
	t.Helper()
	conn := call(t, b.addr)
	if _, err := conn.Write(greeting([]byte(magic))); err != nil {
		t.Fatal(err)
	}
	d := newReader(conn, helloBytesMax)
	if _, err := readHello(d, msgWelcome); err != nil {
		t.Fatal(err)
	}
	return conn, d
}

// call is a bare connection that does not wait for ever.
func call(t *testing.T, addr string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(patience))
	return conn
}

// Whoever is no node hears nothing, and is let go of at once; so is who says
// nothing, after a while.
func TestStrangers(t *testing.T) {
	_, a, b := pair(t, func(c *Config) { c.DialTimeout = 300 * time.Millisecond })
	for _, says := range []string{
		"", "flotill", "GET / HTTP/1.1\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", magic, magic + "\x05\x00",
		magic + "\x01\x00\x00\x00\x04", magic + "\xff\xff\xff\xff\x01", magic + "\xff\xff\x3f\x00\x08",
		string(message([]byte(magic), msgHello, []byte("no fields"))),
		string(message([]byte(magic), msgHello, make([]byte, helloBytesMax))),
	} {
		conn := call(t, b.addr)
		if _, err := conn.Write([]byte(says)); err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(conn)
		if len(got) > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%q: heard %q, %v", says, got, err)
		}
	}
	connect(t, a, b, 2, Raft)
}

// A connection that a newer one of the same process replaces ends, also where its
// owner reads nothing that comes back.
func TestReplaced(t *testing.T) {
	n := newNetwork()
	b := n.start(t, 2, 1, nil)
	old, _ := letIn(t, b)
	_, d := letIn(t, b)
	if got, err := io.ReadAll(old); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("the older one goes on: %q", got)
	}
	if kind, _, err := d.next(answerBytesMax); err != nil || kind != msgAnswer {
		t.Fatalf("the newer one heard %d, %v in place of credit", kind, err)
	}
}
