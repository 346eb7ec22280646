package main

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/sys/unix"

	"github.com/flotilladb/flotilla/engine"
)

// Run by the tests as a process of its own, that is begun again: it says how it was
// called, what is left of that in its environment, by how much each of its threads may
// be delayed and how it is scheduled, and how many bytes of the engine's memory may be in
// large pages.
func init() {
	if len(os.Args) != 3 || os.Args[1] != "say-how-begun" {
		return
	}
	if _, again := os.LookupEnv(begunAgain); !again {
		setPolicy(os.Getenv(testPolicy))
	}
	beginAgain()
	fmt.Printf("argument %s\n", os.Args[2])
	for _, name := range []string{begunAgain, tunables} {
		if v, ok := os.LookupEnv(name); ok {
			fmt.Printf("%s %s\n", name, v)
		}
	}
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		panic(err)
	}
	for _, d := range threads {
		b, err := os.ReadFile("/proc/" + d.Name() + "/timerslack_ns")
		if err == nil {
			fmt.Printf("slack %s", b)
		}
		if id, err := strconv.Atoi(d.Name()); err == nil {
			if attr, err := unix.SchedGetAttr(id, 0); err == nil {
				fmt.Printf("policy %d nice %d\n", attr.Policy, attr.Nice)
			}
		}
	}
	fmt.Printf("large %d\n", largeBytes())
	os.Exit(0)
}

// testPolicy in the environment is the policy and the niceness that a process has before it
// is begun again.
const testPolicy = "FLOTILLA_TEST_POLICY"

func setPolicy(as string) {
	attr := unix.SchedAttr{Size: unix.SizeofSchedAttr}
	if _, err := fmt.Sscan(as, &attr.Policy, &attr.Nice); err != nil {
		return
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.SchedSetAttr(0, &attr, 0); err != nil {
		panic(err)
	}
}

// tryBatch reports whether a thread may be made one that computes in bulk.
func tryBatch() error {
	tried := make(chan error)
	go func() {
		runtime.LockOSThread() // and it ends with the goroutine
		tried <- unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_BATCH}, 0)
	}()
	return <-tried
}

// largeBytes fills memtables and returns how many bytes of address space the process
// has asked large pages for.
func largeBytes() (sum int) {
	e, err := engine.OpenPebble(engine.Config{Dir: "/db", FS: vfs.NewMem(), MemtableBytes: 32 << 20})
	if err != nil {
		panic(err)
	}
	defer func() { _ = e.Close() }()
	value := make([]byte, 1<<20)
	for i := range 24 { // the first memtables are small
		b := e.NewBatch()
		b.Set([]byte{1, byte(i), 0}, value)
		if err := e.Commit(b, false); err != nil {
			panic(err)
		}
	}
	maps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		panic(err)
	}
	kb := 0
	for lines := bufio.NewScanner(bytes.NewReader(maps)); lines.Scan(); {
		switch f := strings.Fields(lines.Text()); {
		case f[0] == "Size:":
			kb, _ = strconv.Atoi(f[1])
		case f[0] == "VmFlags:" && slices.Contains(f, "hg"):
			sum += kb << 10
		}
	}
	return sum
}

// howBegun starts the test's binary with some variables, and returns what it says of
// itself by the first word of each line.
func howBegun(t *testing.T, environ ...string) map[string][]string {
	t.Helper()
	cmd := exec.Command(os.Args[0], "say-how-begun", "one")
	cmd.Env = slices.DeleteFunc(os.Environ(), func(line string) bool { return strings.HasPrefix(line, tunables+"=") })
	cmd.Env = append(cmd.Env, environ...)
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	said := make(map[string][]string)
	for line := range strings.Lines(string(out)) {
		what, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		said[what] = append(said[what], value)
	}
	if got := said["argument"]; !slices.Equal(got, []string{"one"}) {
		t.Errorf("arguments %q", got)
	}
	return said
}

// All threads of the server may be delayed, those of Go's runtime too, and it is begun
// anew only once, with the same arguments.
func TestTimersAreDelayed(t *testing.T) {
	slack := howBegun(t)["slack"]
	if len(slack) < 2 {
		t.Fatalf("%d threads", len(slack))
	}
	for _, ns := range slack {
		if want := fmt.Sprint(timerSlack.Nanoseconds()); ns != want {
			t.Errorf("a thread may be delayed by %s ns, want %s", ns, want)
		}
	}
}

// All threads of the server leave the processor to who has it, unless the user chose how
// they are scheduled.
func TestThreadsDoNotPreempt(t *testing.T) {
	if err := tryBatch(); err != nil {
		t.Skipf("this system does not let a process say how it is scheduled: %v", err)
	}
	for _, test := range []struct {
		policy, nice int // as begun
		want         string
	}{
		{unix.SCHED_NORMAL, 0, fmt.Sprintf("%d nice 0", unix.SCHED_BATCH)},
		{unix.SCHED_NORMAL, 5, fmt.Sprintf("%d nice 5", unix.SCHED_BATCH)},
		{unix.SCHED_IDLE, 0, fmt.Sprintf("%d nice 0", unix.SCHED_IDLE)},
	} {
		policies := howBegun(t, fmt.Sprintf("%s=%d %d", testPolicy, test.policy, test.nice))["policy"]
		if len(policies) < 2 {
			t.Fatalf("%d threads", len(policies))
		}
		for _, p := range policies {
			if p != test.want {
				t.Errorf("begun with policy %d, nice %d: a thread has policy %s, want %s", test.policy, test.nice, p, test.want)
			}
		}
	}
}
