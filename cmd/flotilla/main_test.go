package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/flotilladb/flotilla/internal/stop"
	"github.com/flotilladb/flotilla/proto/adminpb"
)

func flotilla(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(t.Context(), args, nil, &out, &errs)
	return code, out.String(), errs.String()
}

// What is wrong with a command line is said, with the way to its help.
func TestUsage(t *testing.T) {
	for _, tc := range []struct{ args, says, help string }{
		{"", "which command?", "flotilla"},
		{"bogus", `unknown command "bogus" for "flotilla"`, "flotilla"},
		{"--bogus", "unknown flag: --bogus", "flotilla"},
		{"server --bogus", "unknown flag: --bogus", "flotilla server"},
		{"server extra", `unexpected argument "extra"`, "flotilla server"},
		{"server --max-txn-ops=many", `invalid argument "many" for "--max-txn-ops"`, "flotilla server"},
		{"server --cert-file=x", "--cert-file: TLS is not supported", "flotilla server"},
		{"cluster --nodes 0", "--nodes: 0: want 1 to 9", "flotilla cluster"},
		{"cluster --port 65500", "--port: 65500: want", "flotilla cluster"},
		{"range", "which command?", "flotilla range"},
		{"range lst", `unknown command "lst" for "flotilla range"`, "flotilla range"},
		{"range list -o xml", `"xml": want table or json`, "flotilla range list"},
		{"range list --endpoints=,", "--endpoints: want host:port", "flotilla range list"},
		{"range show", "want the id of a range or a key, got 0 arguments", "flotilla range show"},
		{"range split", "want at least one key", "flotilla range split"},
		{"range split --hex zz", `"zz" is not hexadecimal`, "flotilla range split"},
		{"range transfer 1", "--to names the store", "flotilla range transfer"},
		{"range transfer x --to 1", `"x" is not the id of a range`, "flotilla range transfer"},
		{"range move 1 2", "want the ids of a range and of two stores", "flotilla range move"},
		{"range add 1 x", `"x" is not the id of a store`, "flotilla range add"},
		{"range remove 0 1", `"0" is not the id of a range`, "flotilla range remove"},
		{`range move 1 "" 2`, `"" is not the id of a store`, "flotilla range move"},
		{`range move 1 2 ""`, `"" is not the id of a store`, "flotilla range move"},
		{`range add "" 2`, `"" is not the id of a range`, "flotilla range add"},
		{`range remove 1 ""`, `"" is not the id of a store`, "flotilla range remove"},
		{"range move 1 2 2", "store 2 is named twice", "flotilla range move"},
		{"bench", "which command?", "flotilla bench"},
		{"bench watch --mode x", `mode "x": want latency`, "flotilla bench watch"},
		{"bench watch --on x", `on "x": want key`, "flotilla bench watch"},
		{"bench watch -o xml", `"xml": want table or json`, "flotilla bench watch"},
		{"bench watch --streams 2", "no stream without a watcher", "flotilla bench watch"},
		{"bench lease --mode storm --keys-per-lease 0", "want at least 1 key", "flotilla bench lease"},
		{"bench lease --ttl 1ms", "want whole seconds", "flotilla bench lease"},
		{"debug log", "--range: which range?", "flotilla debug log"},
		{"debug log --range 1", "--data-dir: which folder?", "flotilla debug log"},
		{"debug log --range x", `invalid argument "x" for "--range"`, "flotilla debug log"},
		{"version now", `unexpected argument "now"`, "flotilla version"},
	} {
		args := strings.Fields(tc.args)
		for i := range args {
			args[i] = strings.ReplaceAll(args[i], `""`, "")
		}
		code, out, errs := flotilla(t, args...)
		if code != exitUsage || out != "" || !strings.Contains(errs, tc.says) || !strings.Contains(errs, "See '"+tc.help+" --help'.") {
			t.Errorf("flotilla %s: code %d\n%s%swant %q and the help of %s", tc.args, code, out, errs, tc.says, tc.help)
		}
	}
}

func TestVersion(t *testing.T) {
	for _, args := range []string{"--version", "version"} {
		code, out, _ := flotilla(t, args)
		if code != 0 || !strings.HasPrefix(out, "flotilla Version: ") || !strings.Contains(out, "\netcd Version: 3.7.3\n") {
			t.Errorf("flotilla %s: %d\n%s", args, code, out)
		}
	}
}

func TestFailures(t *testing.T) {
	empty := t.TempDir()
	for _, tc := range []struct {
		args []string
		says string
	}{
		{[]string{"debug", "log", "--range=1", "--data-dir=" + filepath.Join(empty, "no")}, "does not exist"},
		{[]string{"debug", "log", "--range=1", "--data-dir=" + empty}, "holds no data"},
		{[]string{"range", "list", "--endpoints=127.0.0.1:1", "--command-timeout=2s"}, "list ranges: 127.0.0.1:1: connection error"},
	} {
		code, _, errs := flotilla(t, tc.args...)
		if code != exitFailed || !strings.Contains(errs, tc.says) {
			t.Errorf("flotilla %v: code %d, %swant %q", tc.args, code, errs, tc.says)
		}
	}
	if files, err := os.ReadDir(empty); err != nil || len(files) != 0 {
		t.Errorf("looking at a folder left %v, %v in it", files, err)
	}
}

// freeAddr finds a port that nobody uses at the moment.
func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// lineWriter tells when a line with some words was written.
type lineWriter struct {
	words string
	seen  chan struct{}
	all   bytes.Buffer
}

func (w *lineWriter) Write(p []byte) (int, error) {
	if bytes.Contains(p, []byte(w.words)) {
		close(w.seen)
	}
	return w.all.Write(p)
}

// An operator's session: start a node, cut its keyspace, stop it, read its log.
func TestSession(t *testing.T) {
	addr, dir := freeAddr(t), t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	log := &lineWriter{words: "ready to serve client requests", seen: make(chan struct{})}
	ended := make(chan int, 1)
	s := stop.New(t.Context())
	if err := s.Go("server", func(context.Context) {
		ended <- run(ctx, []string{
			"server", "--data-dir=" + dir, "--listen-client-urls=http://" + addr, "--advertise-client-urls=http://" + addr,
			"--auto-compaction-retention=1h",
		}, nil, io.Discard, log)
	}); err != nil {
		t.Fatal(err)
	}
	select {
	case <-log.seen:
	case code := <-ended:
		t.Fatalf("the server ended with %d:\n%s", code, log.all.String())
	}

	code, out, errs := flotilla(t, "range", "split", "b", "m", "--endpoints="+addr)
	if code != 0 || !strings.Contains(out, `b: range 2 keeps [leases, user:"b")`) {
		t.Fatalf("split: %d\n%s%s", code, out, errs)
	}
	if code, out, _ = flotilla(t, "range", "split", "m", "--endpoints=http://"+addr); code != 0 || out != "m: begins a range already\n" {
		t.Fatalf("split again: %d\n%s", code, out)
	}
	// The first endpoint does not answer.
	code, out, errs = flotilla(t, "range", "list", "-o", "json", "--endpoints=127.0.0.1:1,"+addr)
	var ranges []rangeView
	if err := json.Unmarshal([]byte(out), &ranges); err != nil || code != 0 || len(ranges) != 4 || ranges[3].Start != `user:"m"` {
		t.Fatalf("list: %d %v\n%s%s", code, err, out, errs)
	}
	if code, out, _ = flotilla(t, "range", "show", "--hex", "6d", "--endpoints="+addr); code != 0 || !strings.Contains(out, "[756d, end)") {
		t.Fatalf("show: %d\n%s", code, out)
	}
	if code, _, errs = flotilla(t, "range", "show", "99", "--endpoints="+addr); code != exitFailed || !strings.Contains(errs, "show range 99: ") {
		t.Fatalf("show what is not there: %d\n%s", code, errs)
	}
	askOperators(t, addr)
	if code, _, errs = flotilla(t, "debug", "log", "--range=2", "--data-dir="+dir); code != exitFailed || !strings.Contains(errs, "in use by another process") {
		t.Fatalf("the log of a running node: %d\n%s", code, errs)
	}

	cancel()
	select {
	case code := <-ended:
		if code != 0 {
			t.Fatalf("the server ended with %d:\n%s", code, log.all.String())
		}
	case <-time.After(time.Minute):
		t.Fatal("the server does not stop")
	}
	code, out, errs = flotilla(t, "debug", "log", "--range=2", "--data-dir="+dir)
	if code != 0 || !strings.Contains(out, `split before user:"b": range 2`) || !strings.Contains(out, "a leader's term begins") {
		t.Fatalf("the log: %d\n%s%s", code, out, errs)
	}
	if code, out, _ = flotilla(t, "debug", "log", "--range=2", "--data-dir="+dir, "--limit=1", "-o=json"); code != 0 || strings.Count(out, `"index"`) != 1 {
		t.Fatalf("one entry of the log: %d\n%s", code, out)
	}
}

// askOperators runs what is more for operators than for users.
func askOperators(t *testing.T, addr string) {
	t.Helper()
	code, _, errs := flotilla(t, "range", "trust", "2", "1", "--endpoints="+addr)
	if code != exitFailed || !strings.Contains(errs, "trust the replica of range 2 on store 1: range: it is not undecided") {
		t.Fatalf("trust: %d\n%s", code, errs)
	}
	code, out, errs := flotilla(t, "store", "list", "-o=json", "--endpoints="+addr)
	var stores storesView
	if err := json.Unmarshal([]byte(out), &stores); err != nil || code != 0 || len(stores.Stores) != 1 || stores.Stores[0].Reads != stores.NewestFormat {
		t.Fatalf("stores: %d %v\n%s%s", code, err, out, errs)
	}
	if code, out, _ = flotilla(t, "store", "list", "--endpoints="+addr); code != 0 || !strings.Contains(out, "default") {
		t.Fatalf("stores: %d\n%s", code, out)
	}
}

// Who is on its way out is named as such.
func TestListedStoreLeaves(t *testing.T) {
	var out strings.Builder
	a := &app{out: &out}
	stores := &adminpb.ListStoresResponse{Stores: []*adminpb.StoreInfo{{StoreId: 1, Name: "a"}, {StoreId: 2, Name: "b", Leaving: true}}}
	for _, c := range []struct{ output, want string }{
		{"simple", `(?s)1 +0 +a +stays .*2 +0 +b +leaves `},
		{"json", `(?s)"a".*"leaving": ?false.*"b".*"leaving": ?true`},
	} {
		out.Reset()
		if err := a.printStores(c.output, stores); err != nil || !regexp.MustCompile(c.want).MatchString(out.String()) {
			t.Errorf("%s: %v\n%s", c.output, err, &out)
		}
	}
}

func TestPortInUse(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	url := "http://" + l.Addr().String()
	code, _, errs := flotilla(t, "server", "--data-dir="+t.TempDir(), "--listen-client-urls="+url, "--advertise-client-urls="+url)
	if code != exitFailed || !strings.Contains(errs, "--listen-client-urls: ") || !strings.Contains(errs, "address already in use") {
		t.Fatalf("%d %s", code, errs)
	}
}
