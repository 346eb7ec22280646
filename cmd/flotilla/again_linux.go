package main

import (
	"os"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// timerSlack is by how much the kernel may delay a sleep of the server's threads, to
// end several at once. It is the unit in which Go's runtime waits anyway.
//
// While anything goes on, a thread of the runtime looks every 20 µs, and with the
// kernel's 50 µs of delay every 70, whether another is stuck in a system call. Where
// a put waits for disks and for other nodes most of its time, and cores are few,
// these looks were a third of all switches between threads, each as dear as those
// that the put waits for.
const timerSlack = time.Millisecond

// The engine's memtables and cache are not on Go's heap but of the C library, which
// asks for large pages only if its settings say so when the program begins. A write to
// a memtable is some twenty looks at places far apart, and with small pages each look
// misses the processor's table of pages besides its caches: it takes 4.2 µs, not 2.4.
const (
	tunables = "GLIBC_TUNABLES"
	largeInC = "glibc.malloc.hugetlb" // 1: where large pages are for those who ask
)

// schedBatch makes the server's threads such that compute in bulk (sched(7)): one that has
// something to do again does not take the processor from who has it, but waits for the
// end of its slice, a few milliseconds. Where processors are free that changes nothing.
// Where they are not, all that arrives meanwhile is done in one go, with the next sync,
// the next frame and the next write to a connection, and not each for itself: with three
// nodes and their clients on two processors a put costs 8 to 18 % less, and takes less
// long. It is far below what heartbeats may be late. A policy that the user chose stays.
func schedBatch() {
	attr, err := unix.SchedGetAttr(0, 0)
	if err != nil || attr.Policy != unix.SCHED_NORMAL {
		return
	}
	_ = unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_BATCH, Nice: attr.Nice}, 0)
}

// begunAgain in the environment says that this process was begun anew, and, after the
// equals sign, whether the user had set the C library's tunables: "+" and what.
const begunAgain = "FLOTILLA_BEGUN_AGAIN"

// beginAgain begins the program anew in the same process, with what can only be said
// before it runs: its threads' timerSlack and policy, since the thread of the runtime that
// looks is there before any code of ours, and another may change the first only with a
// privilege; and the C library's tunables. What does not work is left as it is.
func beginAgain() {
	if before, ok := os.LookupEnv(begunAgain); ok {
		restoreEnviron(before)
		return
	}
	path, err := os.Executable()
	if err != nil {
		return
	}
	// The new program's first thread is the one that calls, and all others come of it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(timerSlack), 0, 0, 0)
	schedBatch()
	_ = syscall.Exec(path, os.Args, environAgain(os.Environ()))
}

// environAgain is the environment of the program that is begun anew. A wish of the
// user's about large pages stays.
func environAgain(environ []string) []string {
	var again []string
	mark, value := begunAgain+"=", largeInC+"=1"
	for _, line := range environ {
		users, ok := strings.CutPrefix(line, tunables+"=")
		if !ok {
			again = append(again, line)
			continue
		}
		mark = begunAgain + "=+" + users
		switch {
		case strings.Contains(users, largeInC+"="):
			value = users
		case users != "":
			value = users + ":" + value
		}
	}
	return append(again, tunables+"="+value, mark)
}

// restoreEnviron makes the environment the user's again.
func restoreEnviron(before string) {
	_ = os.Unsetenv(begunAgain)
	if users, ok := strings.CutPrefix(before, "+"); ok {
		_ = os.Setenv(tunables, users)
	} else {
		_ = os.Unsetenv(tunables)
	}
}
