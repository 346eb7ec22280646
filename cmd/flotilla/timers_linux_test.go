package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// Run by TestDelayTimers as a process of its own: it says how it was called and by
// how much each of its threads may be delayed.
func init() {
	if len(os.Args) != 3 || os.Args[1] != "say-timer-slack" {
		return
	}
	delayTimers()
	if os.Getenv(slackVariable) != "" {
		panic("the mark is still in the environment")
	}
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		panic(err)
	}
	for _, d := range threads {
		b, err := os.ReadFile("/proc/" + d.Name() + "/timerslack_ns")
		if err == nil {
			fmt.Printf("%s %s", os.Args[2], b)
		}
	}
	os.Exit(0)
}

// All threads of the server may be delayed, those of Go's runtime too, and it is begun
// anew only once, with the same arguments.
func TestDelayTimers(t *testing.T) {
	out, err := exec.Command(os.Args[0], "say-timer-slack", "an argument").Output()
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(bytes.TrimSpace(out)), "\n")
	if len(lines) < 2 {
		t.Fatalf("%d threads: %q", len(lines), out)
	}
	for _, line := range lines {
		if want := fmt.Sprintf("an argument %d", timerSlack); line != want {
			t.Errorf("a thread says %q, want %q", line, want)
		}
	}
}
