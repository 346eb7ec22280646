package main

import (
	"os"
	"runtime"
	"slices"
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

// slackMark in the environment says that this process was begun with timerSlack.
const (
	slackVariable = "FLOTILLA_TIMER_SLACK"
	slackMark     = slackVariable + "=1ms"
)

// delayTimers begins the program anew in the same process, with timerSlack for all
// its threads: that looking thread is there before any code of ours, and another
// thread may change it only with a privilege. What does not work is left as it is.
func delayTimers() {
	environ := os.Environ()
	if slices.Contains(environ, slackMark) {
		_ = os.Unsetenv(slackVariable) // the rest of the environment is the user's
		return
	}
	path, err := os.Executable()
	if err != nil {
		return
	}
	// The new program's first thread is the one that calls, and all others come of it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(timerSlack), 0, 0, 0) == nil {
		_ = syscall.Exec(path, os.Args, append(environ, slackMark))
	}
}
