package engine

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/flotilladb/flotilla/internal/keys"
)

// never is a SpaceInterval at which engine-disk does not look: the test does.
const never = time.Hour

// The states of a disk, as free space goes down and comes back.
func TestSpaceStates(t *testing.T) {
	const mb = 1 << 20
	fs := vfs.NewMem()
	usage := func(free, total uint64) {
		fs.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: free * mb, TotalBytes: total * mb, UsedBytes: (total - free) * mb})
	}
	usage(900, 1000)
	e := openTest(t, Config{Dir: "/db", FS: fs, MemtableBytes: 1 * mb, SpaceInterval: never})
	defer e.Close()
	ballast := func() bool {
		_, err := fs.Stat("/db/" + ballastName)
		return err == nil
	}
	check := func(what string, low, full, held bool) {
		t.Helper()
		s := e.Stats()
		if s.DiskLow != low || s.DiskFull != full || ballast() != held {
			t.Fatalf("%s: low %t, full %t, ballast %t", what, s.DiskLow, s.DiskFull, ballast())
		}
	}
	check("opened", false, false, true)
	usage(51, 1000)
	e.space.makeBallast()
	check("just above a twentieth", false, false, true)
	usage(49, 1000)
	e.space.makeBallast()
	check("below a twentieth", true, false, true)
	e.space.release()
	check("a write failed", true, true, false)
	usage(55, 1000)
	e.space.makeBallast()
	check("no room for reserve and ballast", false, true, false)
	usage(61, 1000)
	e.space.makeBallast()
	check("room again", false, false, true)
	if s := e.Stats(); s.DiskFreeBytes != 61*mb || s.DiskTotalBytes != 1000*mb {
		t.Fatalf("%+v", s)
	}
}

func TestReserve(t *testing.T) {
	const mb = 1 << 20
	for _, tc := range []struct{ total, memtable, configured, reserve, ballast uint64 }{
		{100000, 32, 0, 5000, 64},
		{1000, 32, 0, 192, 10},
		{64, 32, 0, 16, 0}, // a quarter: six memtables are more than the disk
		{64, 32, 7, 7, 0},
	} {
		w := newSpaceWatch(Config{FS: vfs.NewMem(), MemtableBytes: tc.memtable * mb, BallastBytes: 64 * mb, LowSpaceBytes: tc.configured * mb})
		w.total.Store(tc.total * mb)
		if got := w.reserveBytes() / mb; got != tc.reserve {
			t.Errorf("%+v: reserve %d", tc, got)
		}
		if got := uint64(w.ballastBytes()) / mb; got != tc.ballast {
			t.Errorf("%+v: ballast %d", tc, got)
		}
	}
}

// Between two looks of engine-disk, the writes themselves make the engine look.
func TestWritersLookAtSpace(t *testing.T) {
	fs := vfs.NewMem()
	fs.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: 900 << 20, TotalBytes: 1000 << 20})
	e := openTest(t, Config{Dir: "/db", FS: fs, SpaceInterval: never})
	defer e.Close()
	fs.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: 1 << 20, TotalBytes: 1000 << 20})
	for i := 0; !e.Stats().DiskLow; i++ {
		if i > 2*lookBytes>>10 {
			t.Fatal("nobody looked")
		}
		b := e.NewBatch()
		b.Set(keys.RaftLog(1, uint64(i)), make([]byte, 1<<10))
		if err := errors.Join(e.Commit(b, false), b.Close()); err != nil {
			t.Fatal(err)
		}
	}
}

// A disk that somebody fills up to the last byte: commits are refused, reads go
// on, what had begun ends when there is space again, and nothing is lost.
func TestFullDisk(t *testing.T) {
	disk := smallDisk(t, 48)
	cfg := Config{Dir: filepath.Join(disk, "db"), MemtableBytes: 8 << 20, BallastBytes: 1 << 20, SpaceInterval: never}
	e := openTest(t, cfg)
	put(t, e, true, 0, 1000)
	filler := filepath.Join(disk, "filler")
	fill(t, filler)

	done := make(chan error, 10000)
	value := make([]byte, 64<<10)
	commit := func(i int) error {
		b := e.NewBatch()
		b.Set(keys.RaftLog(1, uint64(i)), append(value, fmt.Sprint(i)...))
		return e.CommitAsync(b, func(err error) { done <- err })
	}
	// A commit that needs a new log file waits too: the writer may be told, or wait.
	var halt atomic.Bool
	writer := make(chan int, 1)
	go func() {
		begun := 0
		for !halt.Load() && begun < cap(done)-1 && commit(begun) == nil {
			begun++
		}
		writer <- begun
	}()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for e.space.stuck.Load() == 0 {
		<-tick.C
	}
	halt.Store(true)
	if err := commit(cap(done)); !errors.Is(err, ErrDiskFull) {
		t.Fatalf("a commit on a full disk: %v", err)
	}
	if s := e.Stats(); !s.DiskFull || !e.DiskLow() {
		t.Fatalf("%+v", s)
	}
	if n, err := count(t, e); n <= 1000 || err != nil {
		t.Fatalf("%d rows while full, %v", n, err)
	}

	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	begun := <-writer
	for range begun {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	if err := e.Flush(); err != nil { // it may have been the last to wait
		t.Fatal(err)
	}
	e.space.makeBallast()
	if s := e.Stats(); s.DiskFull || s.DiskLow {
		t.Fatalf("%+v", s)
	}
	if err := commit(begun); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(<-done, e.Close()); err != nil {
		t.Fatal(err)
	}
	e = openTest(t, cfg)
	if n, err := count(t, e); n != 1000+begun+1 || err != nil {
		t.Fatalf("%d rows after a restart, want %d, %v", n, 1000+begun+1, err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
}

// A full disk at the start: the ballast makes room, so that the operator finds a
// server that can delete.
func TestOpenOnFullDisk(t *testing.T) {
	disk := smallDisk(t, 400)
	cfg := Config{Dir: filepath.Join(disk, "db"), SpaceInterval: never, MemtableBytes: 1 << 20}
	e := openTest(t, cfg)
	put(t, e, true, 0, 1000)
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	filler := filepath.Join(disk, "filler")
	fill(t, filler)
	e = openTest(t, cfg)
	if s := e.Stats(); !s.DiskLow {
		t.Fatalf("%+v", s)
	}
	b := e.NewBatch()
	b.DeleteRange([]byte("\x20\x00"), []byte("\x21\x00"))
	if err := errors.Join(e.Commit(b, true), b.Close()); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
}

// A log that cannot be synced ends the process, told once and with the file's
// name; a start on what is there finds what was durable.
func TestSyncFails(t *testing.T) {
	mem := vfs.NewCrashableMem()
	var broken atomic.Bool
	fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if broken.Load() && (op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData) && filepath.Ext(op.Path) == ".log" {
			return fmt.Errorf("sync %s: %w", op.Path, syscall.EIO)
		}
		return nil
	}))
	told := make(chan error, 10)
	cfg := Config{Dir: "/db", FS: fs, BallastBytes: -1, Fatal: func(err error) { told <- err }}
	e := openTest(t, cfg)
	put(t, e, true, 0, 100)
	broken.Store(true)
	b := e.NewBatch()
	b.Set(keys.RaftLog(1, 1), []byte("not durable"))
	synced := make(chan error, 1)
	if err := e.CommitAsync(b, func(err error) { synced <- err }); err != nil {
		t.Fatal(err)
	}
	err := <-told
	if !errors.Is(err, syscall.EIO) || !strings.Contains(err.Error(), ".log") {
		t.Fatal(err)
	}
	if err := <-synced; !errors.Is(err, syscall.EIO) {
		t.Fatalf("the commit: %v", err)
	}
	if len(told) != 0 {
		t.Fatal("told twice")
	}
	after := openTest(t, Config{Dir: "/db", FS: mem.CrashClone(vfs.CrashCloneCfg{}), BallastBytes: -1})
	if n, err := count(t, after); n != 100 || err != nil {
		t.Fatalf("%d rows, %v", n, err)
	}
	if err := after.Close(); err != nil {
		t.Fatal(err)
	}
}

// A table that is to be ingested, of a snapshot that comes, leaves half of the reserve, and the
// ballast, to the log. A small one may take what there is.
func TestTablesLeaveRoom(t *testing.T) {
	const mb = 1 << 20
	for _, tc := range []struct {
		free, size int
		fails      bool
	}{{26, 4 * mb, false}, {24, 4 * mb, true}, {24, 1 << 10, false}} {
		fs := vfs.NewMem()
		usage := func(free int) {
			fs.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: uint64(free) * mb, TotalBytes: 1000 * mb})
		}
		usage(900)
		e := openTest(t, Config{Dir: "/db", FS: fs, MemtableBytes: 1 * mb, SpaceInterval: never})
		w, err := e.NewTableWriter("/db/table")
		if err != nil {
			t.Fatal(err)
		}
		usage(tc.free)
		rng := rand.New(rand.NewPCG(1, 1))
		value := make([]byte, 1<<10)
		for i := 0; i < tc.size>>10 && err == nil; i++ {
			for j := range value {
				value[j] = byte(rng.Uint32())
			}
			err = w.Set(keys.RaftLog(1, uint64(i)), value)
		}
		if e := w.Finish(); err == nil {
			err = e
		}
		if errors.Is(err, ErrDiskFull) != tc.fails || !tc.fails && err != nil || e.Stats().DiskFull {
			t.Errorf("%+v: %v, the ballast is gone: %v", tc, err, e.Stats().DiskFull)
		}
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// What a node keeps is nobody else's business on its machine.
func TestFolderIsPrivate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	e, err := OpenPebble(Config{Dir: dir, Fatal: func(err error) { t.Error(err) }})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm()&0o077 != 0 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}
