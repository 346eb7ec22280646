package engine

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/proto/metapb"
)

func openTest(t *testing.T, cfg Config) *Pebble {
	t.Helper()
	e, err := OpenPebble(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func put(t *testing.T, e Engine, sync bool, from, to int) {
	t.Helper()
	b := e.NewBatch()
	for i := from; i < to; i++ {
		b.Set(keys.Version([]byte(fmt.Sprintf("key%06d", i)), metapb.Revision(i+1), 0), []byte(fmt.Sprintf("value of %d", i)))
	}
	if err := errors.Join(e.Commit(b, sync), b.Close()); err != nil {
		t.Fatal(err)
	}
}

func count(t *testing.T, e Engine) (n int, err error) {
	t.Helper()
	it, err := e.NewIter(IterOptions{})
	if err != nil {
		return 0, err
	}
	for ok := it.First(); ok; ok = it.Next() {
		n++
	}
	return n, errors.Join(it.Error(), it.Close())
}

func TestLocked(t *testing.T) {
	for name, fs := range map[string]vfs.FS{"memory": vfs.NewMem(), "disk": vfs.Default} {
		cfg := Config{Dir: filepath.Join(t.TempDir(), "db"), FS: fs, BallastBytes: -1}
		e := openTest(t, cfg)
		if _, err := OpenPebble(cfg); !errors.Is(err, ErrLocked) {
			t.Errorf("%s: %v", name, err)
		}
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
		if err := openTest(t, cfg).Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestNewerFormat(t *testing.T) {
	dir := t.TempDir()
	if err := openTest(t, Config{Dir: dir, BallastBytes: -1}).Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "marker.format-version.000099.999"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenPebble(Config{Dir: dir}); !errors.Is(err, ErrNewerFormat) {
		t.Fatal(err)
	}
}

// In a folder of etcd a node would begin with nothing, and its clients find all keys gone.
func TestFolderOfEtcd(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "member", "wal"), 0o700); err != nil {
		t.Fatal(err)
	}
	if e, err := OpenPebble(Config{Dir: dir, BallastBytes: -1}); !errors.Is(err, ErrEtcdData) {
		if err == nil {
			e.Close()
		}
		t.Fatal(err)
	}
}

// A folder that was begun beside etcd's data by an earlier version opens.
func TestFolderBesideEtcd(t *testing.T) {
	dir := t.TempDir()
	if err := openTest(t, Config{Dir: dir, BallastBytes: -1}).Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "member", "wal"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := openTest(t, Config{Dir: dir, BallastBytes: -1}).Close(); err != nil {
		t.Fatal(err)
	}
}

func TestConfigValidate(t *testing.T) {
	for _, cfg := range []Config{{}, {Dir: "x", CacheBytes: -1}, {Dir: "x", MemtableBytes: 1}, {Dir: "x", SpaceInterval: -1}} {
		if _, err := OpenPebble(cfg); err == nil {
			t.Errorf("%+v was accepted", cfg)
		}
	}
}

// onlyFile returns the biggest file of a folder with this ending.
func onlyFile(t *testing.T, dir, ending string) string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*"+ending))
	if err != nil || len(names) == 0 {
		t.Fatalf("no %s in %s: %v", ending, dir, err)
	}
	best, size := "", int64(-1)
	for _, name := range names {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		if info.Size() > size {
			best, size = name, info.Size()
		}
	}
	return best
}

func flip(t *testing.T, path string, at int64) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if at < 0 {
		at += int64(len(data))
	}
	data[at] ^= 0xff
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

// A damaged block of a table is refused with the name of its file; the rest of
// the store is served.
func TestCorruptBlock(t *testing.T) {
	dir := t.TempDir()
	cfg := Config{Dir: dir, BallastBytes: -1}
	e := openTest(t, cfg)
	put(t, e, true, 0, 5000)
	if err := errors.Join(e.Flush(), e.Close()); err != nil {
		t.Fatal(err)
	}
	table := onlyFile(t, dir, ".sst")
	flip(t, table, 100)
	e = openTest(t, cfg)
	_, err := count(t, e)
	var c *CorruptionError
	if !errors.As(err, &c) || filepath.Base(c.Path) != filepath.Base(table) {
		t.Fatalf("scan: %v", err)
	}
	if _, _, err := e.Get(keys.Version([]byte("key000000"), 1, 0)); !errors.As(err, &c) {
		t.Fatalf("get in the block: %v", err)
	}
	_, closer, err := e.Get(keys.Version([]byte("key004999"), 5000, 0))
	if err != nil {
		t.Fatalf("get in another block: %v", err)
	}
	if err := errors.Join(closer.Close(), e.Close()); err != nil {
		t.Fatal(err)
	}
}

// A big damaged block is refused without the search for the bit that broke,
// which takes longer than a client waits.
func TestCorruptBigBlock(t *testing.T) {
	dir := t.TempDir()
	var lines bytes.Buffer
	cfg := Config{Dir: dir, BallastBytes: -1, Logger: slog.New(slog.NewTextHandler(&lines, nil))}
	e := openTest(t, cfg)
	key := keys.Version([]byte("big"), 1, 0)
	b := e.NewBatch()
	b.Set(key, bytes.Repeat([]byte("value"), 400<<10))
	if err := errors.Join(e.Commit(b, true), b.Close(), e.Flush(), e.Close()); err != nil {
		t.Fatal(err)
	}
	table := onlyFile(t, dir, ".sst")
	flip(t, table, 1<<20)
	e = openTest(t, cfg)
	for range 10 {
		_, _, err := e.Get(key)
		var c *CorruptionError
		if !errors.As(err, &c) || filepath.Base(c.Path) != filepath.Base(table) || !errors.Is(err, errChecksum) {
			t.Fatal(err)
		}
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(lines.String(), filepath.Base(table)); n != 1 {
		t.Fatalf("the log names the file %d times:\n%s", n, lines.String())
	}
}

// Damage that is met while opening is an error that names the folder or file.
func TestCorruptAtOpen(t *testing.T) {
	dir := t.TempDir()
	cfg := Config{Dir: dir, BallastBytes: -1}
	e := openTest(t, cfg)
	put(t, e, true, 0, 5000)
	if err := errors.Join(e.Flush(), e.Close()); err != nil {
		t.Fatal(err)
	}
	table := onlyFile(t, dir, ".sst")
	if err := os.Truncate(table, 1000); err != nil {
		t.Fatal(err)
	}
	_, err := OpenPebble(cfg)
	var c *CorruptionError
	if !errors.As(err, &c) || !strings.Contains(err.Error(), strings.TrimSuffix(filepath.Base(table), ".sst")) {
		t.Fatalf("short table: %v", err)
	}
	if err := os.Remove(table); err != nil {
		t.Fatal(err)
	}
	if _, err = OpenPebble(cfg); !errors.As(err, &c) {
		t.Fatalf("missing table: %v", err)
	}
	flip(t, onlyFile(t, dir, "MANIFEST-*"), 20)
	if _, err = OpenPebble(cfg); !errors.As(err, &c) {
		t.Fatalf("manifest: %v", err)
	}
}

// killed returns a folder as a kill leaves it: a copy made while the engine is
// open.
func killed(t *testing.T, dir string) string {
	t.Helper()
	to := t.TempDir()
	if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	return to
}

// A record that was being written at the kill is forgotten, whole.
func TestTornLog(t *testing.T) {
	dir := t.TempDir()
	e := openTest(t, Config{Dir: dir, BallastBytes: -1})
	put(t, e, true, 0, 10)
	info, err := os.Stat(onlyFile(t, dir, ".log"))
	if err != nil {
		t.Fatal(err)
	}
	put(t, e, true, 10, 20)
	for _, cut := range []int64{0, 1, 20, 100} {
		after := killed(t, dir)
		if err := os.Truncate(onlyFile(t, after, ".log"), info.Size()+cut); err != nil {
			t.Fatal(err)
		}
		again := openTest(t, Config{Dir: after, BallastBytes: -1})
		if n, err := count(t, again); n != 10 || err != nil {
			t.Fatalf("torn %d bytes into the second record: %d rows, %v", cut, n, err)
		}
		if err := again.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
}

// smallDisk mounts a file system of the given size, or skips.
func smallDisk(t *testing.T, megabytes int) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%dm", megabytes)); err != nil {
		t.Skipf("cannot mount a small file system: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// fill writes until the disk has no room and returns the file.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	block := bytes.Repeat([]byte{1}, 64<<10)
	for err == nil {
		_, err = f.Write(block)
		if err != nil && len(block) > 1 {
			block, err = block[:len(block)/2], nil
		}
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}
