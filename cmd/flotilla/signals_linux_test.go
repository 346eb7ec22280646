package main

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/flotilladb/flotilla/engine"
)

// childDir is the variable with the data folder of a process of this test.
const childDir = "CHILD_OF_A_TEST_DIR"

// A second signal ends a process that does not come to an end by itself, also while it
// opens its folder.
func TestSecondSignalWhileOpening(t *testing.T) {
	if dir := os.Getenv(childDir); dir != "" {
		os.Exit(run(t.Context(), []string{
			"server", "--data-dir=" + dir, "--listen-client-urls=http://127.0.0.1:0", "--advertise-client-urls=http://a:1", "--listen-peer-urls=http://127.0.0.1:0",
		}, nil, io.Discard, os.Stderr))
	}
	dir := t.TempDir()
	e, err := engine.OpenPebble(engine.Config{Dir: dir, Fatal: func(err error) { t.Error(err) }})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	logs, err := filepath.Glob(filepath.Join(dir, "*.log"))
	if err != nil || len(logs) != 1 {
		t.Fatalf("logs %v, %v", logs, err)
	}
	// Who reads this waits for a writer that never comes.
	if err := os.Remove(logs[0]); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(logs[0], 0o600); err != nil {
		t.Fatal(err)
	}
	child := exec.Command(os.Args[0], "-test.run=^TestSecondSignalWhileOpening$")
	child.Env = append(os.Environ(), childDir+"="+dir)
	child.Stderr = os.Stderr
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	writer, err := os.OpenFile(logs[0], os.O_WRONLY, 0) // it reads
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Close()
	go func() { ended <- child.Wait() }()
	ticks, late := time.NewTicker(20*time.Millisecond), time.After(10*time.Second)
	defer ticks.Stop()
	for {
		select {
		case <-ticks.C:
			_ = child.Process.Signal(syscall.SIGTERM) // it may have ended
		case <-ended:
			if code := child.ProcessState.ExitCode(); code != exitFailed {
				t.Errorf("the process ended with %d", code)
			}
			return
		case <-late:
			_ = child.Process.Kill()
			<-ended
			t.Fatal("signals do not end the process")
		}
	}
}
