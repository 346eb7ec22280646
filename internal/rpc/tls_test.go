package rpc

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"
)

// Where one of two nodes has no TLS both operators read that, whoever calls: the other
// end closes the connection in many cases.
func TestOneWithoutTLS(t *testing.T) {
	ours := newAuthority(t)
	n := newNetwork()
	var securedLog, plainLog bytes.Buffer // of handlers, which guard them; read at the end
	secured := n.start(t, 1, 1, func(c *Config) {
		c.TLS, c.Logger = ours.config(t), slog.New(slog.NewTextHandler(&securedLog, nil))
	})
	plain := n.start(t, 2, 1, func(c *Config) { c.Logger = slog.New(slog.NewTextHandler(&plainLog, nil)) })
	n.set(1, secured.addr)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()

	const flags = "--peer-cert-file"
	if _, err := plain.Call(ctx, secured.addr, []byte("let me in")); err == nil || !strings.Contains(err.Error(), flags) {
		t.Errorf("a call without TLS: %v", err)
	}
	plain.Send(1, Raft, []byte("hello"))
	if err := wait(t, "word of the refusal", plain.refused); !strings.Contains(err.Error(), flags) {
		t.Errorf("a connection without TLS: %v", err)
	}
	if _, err := secured.Call(ctx, plain.addr, []byte("let me in")); !errors.Is(err, errNoTLS) {
		t.Errorf("a call with TLS: %v", err)
	}
	secured.kill()
	plain.kill()
	if !strings.Contains(securedLog.String(), "plain text") || !strings.Contains(plainLog.String(), "it speaks TLS") {
		t.Errorf("the logs: %s\n%s", &securedLog, &plainLog)
	}
}

// Who shows no certificate is not told which cluster this is.
func TestRefusalWithoutTLSTellsNothing(t *testing.T) {
	ours := newAuthority(t)
	secured := newNetwork().start(t, 1, 7, func(c *Config) { c.TLS = ours.config(t) })
	conn := call(t, secured.addr)
	if _, err := conn.Write(greeting([]byte(magic))); err != nil {
		t.Fatal(err)
	}
	d := newReader(conn, helloBytesMax)
	kind, size, err := d.next(helloBytesMax)
	if err != nil || kind != msgRefused {
		t.Fatalf("heard kind %d, %v", kind, err)
	}
	b, err := d.view(size)
	if err != nil {
		t.Fatal(err)
	}
	if h, err := parseHello(b); err != nil || h.Identity != (Identity{}) || h.Instance != 0 {
		t.Fatalf("heard %+v, %v", h, err)
	}
	// Others who come by mistake hear nothing.
	conn = call(t, secured.addr)
	if _, err := conn.Write([]byte("GET / HTTP/1.1\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	conn.SetDeadline(time.Now().Add(patience))
	if got, _ := io.ReadAll(conn); len(got) > 0 {
		t.Fatalf("heard %q", got)
	}
}
