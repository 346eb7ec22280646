package engine

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Pebble's names for what a file is written for. A failed write of a compaction
// costs that compaction, and Pebble tries again; our tables fail their caller.
// Everything else (log, manifest, markers, flushes) must not fail: Pebble panics,
// or retries without a pause.
const (
	writeCompaction  vfs.DiskWriteCategory = "pebble-compaction"
	writeBlobRewrite vfs.DiskWriteCategory = "pebble-blob-file-rewrite"
	writeTable       vfs.DiskWriteCategory = "flotilla-table"
	writeLog         vfs.DiskWriteCategory = "pebble-wal"
)

// spacePoll is how often a write that waits for space tries again.
const spacePoll = 100 * time.Millisecond

// lookBytes is how much may be committed between two looks at free space.
const lookBytes = 1 << 20

const ballastName = "BALLAST"

// spaceWatch knows how much space there is, and holds the ballast.
type spaceWatch struct {
	fs      vfs.FS // the bare one: what it does must not come back here
	log     *slog.Logger
	dir     string
	ballast string // path of the file
	size    int64  // of the ballast, as configured
	reserve uint64 // LowSpaceBytes as configured
	memory  uint64 // MemtableBytes

	free, total atomic.Uint64
	low, full   atomic.Bool
	// stuck counts the writes that wait for space. Only while waits is set do
	// writes wait: an engine that is being opened or closed reports the error.
	stuck atomic.Int32
	waits atomic.Bool
	ended chan struct{}
	// since counts the bytes committed since the last look: a fast writer fills
	// a reserve in less than an interval.
	since atomic.Int64

	onFatal func(error)
	died    sync.Once

	mu struct {
		sync.Mutex
		held bool // the ballast is on the disk
	}
}

func newSpaceWatch(cfg Config) *spaceWatch {
	w := &spaceWatch{
		fs: cfg.FS, log: cfg.Logger, dir: cfg.Dir,
		ballast: cfg.FS.PathJoin(cfg.Dir, ballastName),
		size:    cfg.BallastBytes, reserve: cfg.LowSpaceBytes, memory: cfg.MemtableBytes,
		ended: make(chan struct{}), onFatal: cfg.Fatal,
	}
	_, err := w.fs.Stat(w.ballast)
	w.mu.held = err == nil
	return w
}

// refresh looks at the file system. It returns false if that has no figures.
func (w *spaceWatch) refresh() bool {
	u, err := w.fs.GetDiskUsage(w.dir)
	if err != nil || u.TotalBytes == 0 {
		return false
	}
	w.since.Store(0)
	w.free.Store(u.AvailBytes)
	w.total.Store(u.TotalBytes)
	low := u.AvailBytes < w.reserveBytes()
	if w.low.Swap(low) != low {
		w.log.Warn("disk space", "low", low, "free_bytes", u.AvailBytes, "total_bytes", u.TotalBytes)
	}
	return true
}

// wrote looks at the file system if much was written since the last look. A byte
// that is committed is written about twice before long: to the log and a table.
func (w *spaceWatch) wrote(n int) {
	if sum := w.since.Add(int64(n)); sum > lookBytes && sum-int64(n) <= lookBytes {
		w.refresh()
	}
}

func (w *spaceWatch) reserveBytes() uint64 {
	if w.reserve != 0 {
		return w.reserve
	}
	total := w.total.Load()
	return max(total/20, min(6*w.memory, total/4))
}

// tight reports whether less than half of the reserve is left. That half, and the ballast,
// are for what must be written: a snapshot that comes is not, and may be as large as it is.
func (w *spaceWatch) tight() bool { return w.free.Load() < w.reserveBytes()/2 }

func (w *spaceWatch) ballastBytes() int64 { return min(w.size, int64(w.total.Load()/100)) }

// makeBallast puts the ballast back once there is room for it beside the
// reserve, and with it ends the state Full.
func (w *spaceWatch) makeBallast() {
	if !w.refresh() {
		return
	}
	size := w.ballastBytes()
	if w.stuck.Load() > 0 || w.free.Load() < w.reserveBytes()+uint64(max(size, 0)) {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.mu.held && size > 0 {
		if err := w.allocate(size); err != nil {
			w.log.Warn("ballast", "error", err)
			_ = w.fs.Remove(w.ballast)
			return
		}
		w.mu.held = true
	}
	if w.full.Swap(false) {
		w.log.Info("disk is no longer full", "free_bytes", w.free.Load())
	}
}

func (w *spaceWatch) allocate(size int64) error {
	f, err := w.fs.Create(w.ballast, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	return errors.Join(f.Preallocate(0, size), f.Sync(), f.Close())
}

// release gives the ballast to whoever needs space.
func (w *spaceWatch) release() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.full.Swap(true) {
		w.log.Error("disk is full", "ballast", w.mu.held)
	}
	if w.mu.held {
		w.mu.held = false
		if err := w.fs.Remove(w.ballast); err != nil && !errors.Is(err, os.ErrNotExist) {
			w.log.Error("ballast", "error", err)
		}
	}
}

// do runs a write. If there is no space for it, the ballast goes; if that was not
// enough, a write that must not fail waits until there is space or the engine is
// closed. op goes on where it stopped each time it is called.
func (w *spaceWatch) do(mustNotFail bool, op func() error) error {
	err := op()
	if err == nil || !isNoSpace(err) {
		return err
	}
	w.release()
	if err = op(); err == nil || !isNoSpace(err) {
		return err
	}
	if !w.waits.Load() {
		return err
	}
	if !mustNotFail {
		// Pebble tries again at once: not to burn the processor, this waits once.
		w.pause()
		return err
	}
	w.stuck.Add(1)
	defer w.stuck.Add(-1)
	for err != nil && isNoSpace(err) && w.pause() {
		err = op()
	}
	return err
}

// fatal reports the end of a running engine. What fails while it is opened or
// closed is its caller's to report.
func (w *spaceWatch) fatal(err error) {
	if err != nil && w.onFatal != nil && w.waits.Load() {
		w.died.Do(func() { w.onFatal(wrap("log or manifest", diskErr(err))) })
	}
}

// pause returns false if the engine is being closed.
func (w *spaceWatch) pause() bool {
	t := time.NewTimer(spacePoll)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-w.ended:
		return false
	}
}

func (w *spaceWatch) close() {
	w.waits.Store(false)
	close(w.ended)
}

// runSpace is engine-disk.
func (e *Pebble) runSpace(ctx context.Context) {
	t := time.NewTicker(e.cfg.SpaceInterval)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			e.space.makeBallast()
		case <-ctx.Done():
			return
		}
	}
}

// fullFS is a file system whose writes survive a full disk. A sync that fails is
// never repeated: it says nothing about what it lost.
type fullFS struct {
	vfs.FS
	space *spaceWatch
}

// Unwrap returns the file system beneath.
func (fs *fullFS) Unwrap() vfs.FS { return fs.FS }

func mustNotFail(c vfs.DiskWriteCategory) bool {
	return c != writeCompaction && c != writeBlobRewrite && c != writeTable
}

func (fs *fullFS) file(c vfs.DiskWriteCategory, open func() (vfs.File, error)) (vfs.File, error) {
	must := mustNotFail(c)
	var f vfs.File
	err := fs.space.do(must, func() (err error) { f, err = open(); return err })
	if err != nil {
		return nil, err
	}
	return &fullFile{File: f, space: fs.space, must: must, log: c == writeLog, table: c == writeTable}, nil
}

// Create implements vfs.FS.
func (fs *fullFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return fs.file(c, func() (vfs.File, error) { return fs.FS.Create(name, c) })
}

// OpenReadWrite implements vfs.FS.
func (fs *fullFS) OpenReadWrite(name string, c vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	return fs.file(c, func() (vfs.File, error) { return fs.FS.OpenReadWrite(name, c, opts...) })
}

// ReuseForWrite implements vfs.FS.
func (fs *fullFS) ReuseForWrite(old, name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return fs.file(c, func() (vfs.File, error) { return fs.FS.ReuseForWrite(old, name, c) })
}

// Rename implements vfs.FS.
func (fs *fullFS) Rename(old, name string) error {
	return fs.space.do(true, func() error { return fs.FS.Rename(old, name) })
}

// Link implements vfs.FS. It is for ingests, which may fail.
func (fs *fullFS) Link(old, name string) error {
	return fs.space.do(false, func() error { return fs.FS.Link(old, name) })
}

type fullFile struct {
	vfs.File
	space *spaceWatch
	must  bool
	log   bool // the write-ahead log
	table bool // of a TableWriter
	size  int64
}

// tableBytesFree is the size up to which a table takes what room there is: those that say
// what is to go, and without which a table that was let in would be of no use, are small.
const tableBytesFree = 64 << 10

func (f *fullFile) Write(p []byte) (n int, err error) {
	if f.table {
		f.space.wrote(len(p))
		if f.size += int64(len(p)); f.size > tableBytesFree && f.space.tight() {
			return 0, syscall.ENOSPC
		}
	}
	// Not the closure of do at first: this is the hot path of the log.
	if n, err = f.File.Write(p); err == nil {
		return n, nil
	}
	if isNoSpace(err) {
		err = f.space.do(f.must, func() error {
			m, err := f.File.Write(p[n:])
			n += m
			return err
		})
	}
	return n, f.checked(err)
}

// checked ends the engine if what must not fail failed.
func (f *fullFile) checked(err error) error {
	if err != nil && f.must {
		f.space.fatal(err)
	}
	return err
}

// Sync implements vfs.File.
func (f *fullFile) Sync() error { return f.checked(f.File.Sync()) }

// SyncData implements vfs.File.
func (f *fullFile) SyncData() error { return f.checked(f.File.SyncData()) }

func (f *fullFile) WriteAt(p []byte, at int64) (n int, err error) {
	err = f.space.do(f.must, func() error {
		m, err := f.File.WriteAt(p[n:], at+int64(n))
		n += m
		return err
	})
	return n, err
}

// Preallocate is only advice: the write itself will find out.
func (f *fullFile) Preallocate(at, n int64) error {
	allocate := f.File.Preallocate
	if fd := f.Fd(); f.log && fd != vfs.InvalidFd {
		allocate = func(at, n int64) error { return extend(fd, at, n) }
	}
	if err := allocate(at, n); err != nil && !isNoSpace(err) {
		return err
	}
	return nil
}
