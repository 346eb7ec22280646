package recipes

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// ctl runs etcdctl to its end and returns what it printed.
func (s *server) ctl(t *testing.T, args ...string) string {
	t.Helper()
	out, err := s.command(args...).CombinedOutput()
	if err != nil {
		t.Fatalf("etcdctl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

func (s *server) command(args ...string) *exec.Cmd {
	return exec.Command(*etcdctl, append([]string{"--endpoints", "http://" + s.node.Addr, "--command-timeout", "30s"}, args...)...)
}

// running is an etcdctl that goes on until it is told to stop.
type running struct {
	t     *testing.T
	cmd   *exec.Cmd
	lines chan string
	ended bool
}

func (s *server) run(t *testing.T, args ...string) *running {
	t.Helper()
	r := &running{t: t, cmd: s.command(args...), lines: make(chan string, 10_000)}
	out, in, err := os.Pipe()
	must(t, err)
	r.cmd.Stdout, r.cmd.Stderr = in, in
	must(t, r.cmd.Start())
	must(t, in.Close())
	go func() {
		defer close(r.lines)
		defer out.Close()
		for scan := bufio.NewScanner(io.Reader(out)); scan.Scan(); {
			r.lines <- scan.Text()
		}
	}()
	t.Cleanup(func() {
		if !r.ended {
			_ = r.cmd.Process.Kill()
			_ = r.cmd.Wait()
		}
	})
	return r
}

// line returns the next line that it prints.
func (r *running) line() string {
	r.t.Helper()
	select {
	case line, ok := <-r.lines:
		if !ok {
			r.t.Fatal("etcdctl ended")
		}
		return line
	case <-time.After(patience):
		r.t.Fatal("etcdctl prints nothing")
	}
	return ""
}

// expect holds the next lines against these.
func (r *running) expect(want ...string) {
	r.t.Helper()
	for _, w := range want {
		if got := r.line(); got != w {
			r.t.Fatalf("etcdctl printed %q, want %q", got, w)
		}
	}
}

// stop ends it as a user does, and wants it to end in order.
func (r *running) stop() {
	r.t.Helper()
	must(r.t, r.cmd.Process.Signal(syscall.SIGINT))
	r.ended = true
	if err := r.cmd.Wait(); err != nil {
		r.t.Errorf("etcdctl %s: %v", strings.Join(r.cmd.Args[4:], " "), err)
	}
}

func TestCtlWatch(t *testing.T) {
	s := start(t)
	first := s.put(t, "b/watched", "1")
	s.put(t, "b/watched", "2")
	past := s.run(t, "watch", "--rev", fmt.Sprint(first), "--prev-kv", "b/watched")
	past.expect("PUT", "b/watched", "1", "PUT", "b/watched", "1", "b/watched", "2")
	prefix := s.run(t, "watch", "--prefix", "b/", "--rev", fmt.Sprint(first))
	prefix.expect("PUT", "b/watched", "1", "PUT", "b/watched", "2")
	span := s.run(t, "watch", "a", "z", "--rev", fmt.Sprint(first+1))
	span.expect("PUT", "b/watched", "2")
	for i := range 50 {
		value := fmt.Sprint(i)
		s.put(t, "c/elsewhere", value)
		s.put(t, "b/watched", value)
		prefix.expect("PUT", "b/watched", value)
		span.expect("PUT", "c/elsewhere", value, "PUT", "b/watched", value)
	}
	s.ctl(t, "del", "b/watched")
	prefix.expect("DELETE", "b/watched", "")
	for line := ""; line != "DELETE"; {
		line = past.line()
	}
	past.expect("b/watched", "49", "b/watched", "")
	script := s.command("watch", "-i")
	script.Stdin = strings.NewReader("watch --rev 2 b/watched\nprogress\n")
	out, err := script.CombinedOutput()
	if err != nil && !strings.Contains(string(out), "b/watched") {
		t.Logf("etcdctl watch -i: %v\n%s", err, out)
	}
	compacted := s.put(t, "d", "x")
	s.ctl(t, "compact", fmt.Sprint(compacted))
	gone := s.command("watch", "--rev", fmt.Sprint(first), "b/watched")
	if out, err := gone.CombinedOutput(); err == nil || !strings.Contains(string(out), "has been compacted") {
		t.Errorf("a watch from a compacted revision: %v\n%s", err, out)
	}
}

func TestCtlLease(t *testing.T) {
	s := start(t)
	granted := regexp.MustCompile(`^lease ([0-9a-f]{16}) granted with TTL\((\d+)s\)\n$`)
	match := granted.FindStringSubmatch(s.ctl(t, "lease", "grant", "300"))
	if match == nil || match[2] != "300" {
		t.Fatalf("grant: %q", match)
	}
	id := match[1]
	for i := range 26 {
		s.ctl(t, "put", "--lease="+id, fmt.Sprintf("%c/leased", 'a'+i), "x")
	}
	left := s.ctl(t, "lease", "timetolive", id, "--keys")
	if !regexp.MustCompile(`^lease ` + id + ` granted with TTL\(300s\), remaining\((29\d|300)s\), attached keys\(\[.*\]\)\n$`).MatchString(left) {
		t.Errorf("timetolive: %q", left)
	}
	for i := range 26 {
		if key := fmt.Sprintf("%c/leased", 'a'+i); !strings.Contains(left, key) {
			t.Errorf("%s is not attached: %q", key, left)
		}
	}
	if list := s.ctl(t, "lease", "list"); list != "found 1 leases\n"+id+"\n" {
		t.Errorf("list: %q", list)
	}
	if once := s.ctl(t, "lease", "keep-alive", "--once", id); once != "lease "+id+" keepalived with TTL(300)\n" {
		t.Errorf("keep-alive --once: %q", once)
	}
	short := granted.FindStringSubmatch(s.ctl(t, "lease", "grant", "2"))[1]
	s.put(t, "short", "x")
	s.ctl(t, "put", "--lease="+short, "short", "y")
	alive := s.run(t, "lease", "keep-alive", short)
	for range 4 {
		alive.expect("lease " + short + " keepalived with TTL(2)")
	}
	if revoked := s.ctl(t, "lease", "revoke", id); revoked != "lease "+id+" revoked\n" {
		t.Errorf("revoke: %q", revoked)
	}
	if keys := s.ctl(t, "get", "--prefix", "", "--keys-only"); strings.TrimSpace(keys) != "short" {
		t.Errorf("after the revoke: %q", keys)
	}
	if out, err := s.command("lease", "revoke", id).CombinedOutput(); err == nil || !strings.Contains(string(out), "requested lease not found") {
		t.Errorf("a second revoke: %v, %q", err, out)
	}
	if out := s.ctl(t, "lease", "timetolive", id); out != "lease "+id+" already expired\n" {
		t.Errorf("timetolive after it: %q", out)
	}
	must(t, alive.cmd.Process.Kill())
	s.gone(t, "short")
	if list := s.ctl(t, "lease", "list"); list != "found 0 leases\n" {
		t.Errorf("list after all ended: %q", list)
	}
}

func TestCtlLock(t *testing.T) {
	s := start(t)
	holder := s.run(t, "lock", "l/lock", "--ttl", "5")
	key := holder.line()
	if !strings.HasPrefix(key, "l/lock/") {
		t.Fatalf("lock printed %q", key)
	}
	holder.expect("")
	waiter := s.run(t, "lock", "l/lock")
	command := s.run(t, "lock", "l/lock", "--", "sh", "-c", "echo $ETCD_LOCK_KEY")
	select {
	case line := <-waiter.lines:
		t.Fatalf("a second lock was taken: %q", line)
	case line := <-command.lines:
		t.Fatalf("a third lock was taken: %q", line)
	case <-time.After(100 * time.Millisecond):
	}
	holder.stop()
	// Either may be next, and the other comes after it.
	select {
	case line := <-waiter.lines:
		if line == key || !strings.HasPrefix(line, "l/lock/") {
			t.Fatalf("the next lock is %q, after %q", line, key)
		}
		waiter.stop()
		command.line()
	case line := <-command.lines:
		if line == key || !strings.HasPrefix(line, "l/lock/") {
			t.Fatalf("the next lock is %q, after %q", line, key)
		}
		waiter.line()
		waiter.stop()
	}
}

func TestCtlElect(t *testing.T) {
	s := start(t)
	listener := s.run(t, "elect", "-l", "e/elect")
	one := s.run(t, "elect", "e/elect", "one")
	key := one.line()
	one.expect("one")
	listener.expect(key, "one")
	other := s.run(t, "elect", "e/elect", "other")
	one.stop()
	next := other.line()
	other.expect("other")
	listener.expect(next, "other")
	other.stop()
	listener.stop()
}

// A mirror on another server follows writes over many ranges.
func TestCtlMakeMirror(t *testing.T) {
	from, to := start(t), start(t)
	ctx := soon(t)
	must(t, writeSomewhere(ctx, from, rand.New(rand.NewPCG(7, 0)), "mirrored", 100))
	mirror := from.run(t, "make-mirror", "--dest-prefix", "copy/", "--prefix", "", "http://"+to.node.Addr)
	_ = mirror
	must(t, writeSomewhere(ctx, from, rand.New(rand.NewPCG(7, 1)), "mirrored", 300))
	from.put(t, "zz", "the end")
	for wr := range to.Watch(ctx, "copy/zz") {
		must(t, wr.Err())
		break
	}
	want := pairs(t, from, "")
	got := make(map[string]string)
	for key, value := range pairs(t, to, "copy/") {
		got[strings.TrimPrefix(key, "copy/")] = value
	}
	if !maps.Equal(got, want) {
		t.Fatalf("the mirror holds %v, want %v", got, want)
	}
}
