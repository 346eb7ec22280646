package process

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/flotilladb/flotilla/e2e/proc"
)

// endsWith expects that a node refuses to start and says why.
func endsWith(t *testing.T, node *proc.Node, words ...string) {
	t.Helper()
	if err := node.Launch(); err != nil {
		t.Fatal(err)
	}
	if err := node.Wait(20 * time.Second); err == nil || err.Error() == "the node did not end" {
		t.Fatalf("ended with %v, want a failure\n%s", err, node.Tail())
	}
	for _, w := range words {
		if !strings.Contains(node.Tail(), w) {
			t.Fatalf("the message does not say %q:\n%s", w, node.Tail())
		}
	}
	if strings.Contains(node.Tail(), "goroutine ") {
		t.Fatalf("a trace is no message:\n%s", node.Tail())
	}
}

func TestWrongFlags(t *testing.T) {
	onlyFlotilla(t)
	for name, c := range map[string]struct{ args, words []string }{
		"unknown flag":      {[]string{"--data-dri", "x"}, []string{"data-dri"}},
		"not a number":      {[]string{"--max-txn-ops", "many"}, []string{"max-txn-ops", "many"}},
		"not a URL":         {[]string{"--listen-client-urls", "127.0.0.1"}, []string{"listen-client-urls"}},
		"unknown log level": {[]string{"--log-level", "loud"}, []string{"loud"}},
	} {
		t.Run(name, func(t *testing.T) {
			endsWith(t, newNode(t, filepath.Join(t.TempDir(), "data"), c.args...), c.words...)
		})
	}
}

func TestLockedFolder(t *testing.T) {
	onlyFlotilla(t)
	dir := filepath.Join(t.TempDir(), "data")
	first := newNode(t, dir)
	start(t, first)
	endsWith(t, newNode(t, dir), dir, "in use")
}

// The port is taken: the second node must say so, and leave its folder in order.
func TestTakenPort(t *testing.T) {
	onlyFlotilla(t)
	first := newNode(t, filepath.Join(t.TempDir(), "data"))
	start(t, first)
	second := newNode(t, filepath.Join(t.TempDir(), "data"))
	own := second.Addr
	second.Addr = first.Addr
	endsWith(t, second, "address already in use")
	second.Addr = own
	start(t, second)
}
