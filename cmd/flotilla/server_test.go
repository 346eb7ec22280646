package main

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"github.com/flotilladb/flotilla/internal/config"
	"github.com/flotilladb/flotilla/internal/stop"
)

// A process that was killed leaves its socket in the file system.
func TestSocketOfBefore(t *testing.T) {
	file := filepath.Join(t.TempDir(), "s")
	old, err := net.Listen("unix", file)
	if err != nil {
		t.Fatal(err)
	}
	u := &url.URL{Scheme: "unix", Path: file}
	if l, err := listenURL(u); err == nil {
		l.Close()
		t.Fatal("a socket where somebody listens was taken")
	}
	old.(*net.UnixListener).SetUnlinkOnClose(false)
	old.Close()
	l, err := listenURL(u)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	conn, err := net.Dial("unix", file)
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
}

// lookout is where a log is written to. It says when the log has a text.
type lookout struct {
	text string
	seen chan struct{}
	all  strings.Builder
}

func (l *lookout) Write(b []byte) (int, error) {
	had := strings.Contains(l.all.String(), l.text)
	l.all.Write(b)
	if !had && strings.Contains(l.all.String(), l.text) {
		close(l.seen)
	}
	return len(b), nil
}

// A node that waits for others when it is told to stop has not failed: what runs it, such as
// systemd, looks at the exit code.
func TestStopWhileJoining(t *testing.T) {
	nobody, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := nobody.Addr().String()
	nobody.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	log := &lookout{text: "trying again for ever", seen: make(chan struct{})}
	go func() {
		<-log.seen
		cancel()
	}()
	code := run(ctx, []string{
		"server", "--data-dir=" + filepath.Join(t.TempDir(), "d"), "--join=" + addr, "--listen-client-urls=http://127.0.0.1:0",
		"--advertise-client-urls=http://a:1", "--listen-peer-urls=http://127.0.0.1:0",
	}, nil, io.Discard, log)
	if said := log.all.String(); code != 0 || strings.Contains(said, "ERROR") || !strings.Contains(said, "stopped before the node was open") {
		t.Errorf("exit code %d: %s", code, said)
	}
}

// Other nodes are served at each URL that is given.
func TestAllPeerURLsAreListenedAt(t *testing.T) {
	a, b := freeAddr(t), freeAddr(t)
	fs := pflag.NewFlagSet("server", pflag.ContinueOnError)
	flags := config.AddFlags(fs)
	if err := fs.Parse([]string{"--listen-client-urls=http://127.0.0.1:0", "--advertise-client-urls=http://a:1", "--listen-peer-urls=http://" + a + ",http://" + b}); err != nil {
		t.Fatal(err)
	}
	cfg, err := flags.Load(nil)
	if err != nil {
		t.Fatal(err)
	}
	l, err := listen(cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	for _, addr := range []string{a, b} {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Errorf("%s: %v", addr, err)
			continue
		}
		conn.Close()
	}
}

// A call that does not end is cut off; what comes after it is in order all the same.
func TestStopCutsOffACall(t *testing.T) {
	addr, dir := freeAddr(t), t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	log := &lineWriter{words: "ready to serve client requests", seen: make(chan struct{})}
	ended := make(chan int, 1)
	s := stop.New(t.Context())
	if err := s.Go("server", func(context.Context) {
		ended <- run(ctx, []string{
			"server", "--data-dir=" + dir, "--listen-client-urls=http://" + addr, "--advertise-client-urls=http://" + addr, "--enable-pprof",
			"--listen-peer-urls=http://127.0.0.1:0",
		}, nil, io.Discard, log)
	}); err != nil {
		t.Fatal(err)
	}
	select {
	case <-log.seen:
	case code := <-ended:
		t.Fatalf("the server ended with %d:\n%s", code, log.all.String())
	}
	resp, err := http.Get("http://" + addr + "/debug/pprof/trace?seconds=300")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := resp.Body.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	cancel()
	if code := <-ended; code != 0 {
		t.Fatalf("the server ended with %d:\n%s", code, log.all.String())
	}
}
