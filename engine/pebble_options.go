package engine

import (
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/cockroachkvs"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/prometheus/client_golang/prometheus"
)

// format is the layout of Pebble's files that we write: columnar blocks, virtual
// tables and log chunks that tell a torn end from a damaged middle.
const format = pebble.FormatValueSeparation

// The size of a memtable that is chosen by the size of the file system.
const (
	memtableBytesMin = 4 << 20
	memtableBytesMax = 16 << 20
)

// l0StopWrites is the number of level 0 sublevels at which writes stop.
const l0StopWrites = 32

// Config says how a Pebble engine is opened.
type Config struct {
	// Dir is the folder. It is made if it is not there.
	Dir string
	// CacheBytes is the size of the cache of uncompressed blocks; 128 MiB if 0.
	CacheBytes int64
	// MemtableBytes is the size of one memtable. At most three exist at once, and
	// after a kill their writes are replayed from the log, of which up to five
	// times as much is on the disk. If 0, it is 16 MiB, or a sixty-fourth of a file
	// system that is smaller than 1 GiB, but not less than 4 MiB. Larger ones were
	// slower: most of their memory is touched for the first time.
	MemtableBytes uint64
	// BallastBytes is the size of a file that is given back to the file system
	// when that is full. 64 MiB if 0, none if negative; at most one hundredth of
	// the file system.
	BallastBytes int64
	// LowSpaceBytes is the free space below which Stats.DiskLow is true. If 0, it
	// is a twentieth of the file system, but not less than six memtables (what is
	// in them must still fit, twice while it is compacted) unless that is more
	// than a quarter of it.
	LowSpaceBytes uint64
	// SpaceInterval is how often free space is looked at; 1 s if 0.
	SpaceInterval time.Duration
	// Fatal is called, once, when a running engine could not write or sync its log
	// or manifest: nobody knows then what is on the disk, so the process must end.
	// What was reported durable is. If it returns, or is nil, commits fail and
	// what Pebble does not expect to fail panics.
	Fatal func(error)
	// Damaged is called, once for each file, when bytes on the disk are not what was
	// written; bounds are the first and the last key that may be concerned, nil if they
	// are not known. It must not read or write the engine.
	Damaged func(first, last []byte)
	// FS is the file system, the machine's if nil.
	FS vfs.FS
	// Logger gets one line per change of state, nothing if nil.
	Logger *slog.Logger
	// Registerer gets the metrics, nobody if nil.
	Registerer prometheus.Registerer
}

// Validate reports what is wrong with a config.
func (c *Config) Validate() error {
	switch {
	case c.Dir == "":
		return errors.New("engine config: no folder")
	case c.CacheBytes < 0:
		return fmt.Errorf("engine config: cache of %d bytes", c.CacheBytes)
	case c.MemtableBytes != 0 && (c.MemtableBytes < 64<<10 || c.MemtableBytes > 1<<30):
		return fmt.Errorf("engine config: memtable of %d bytes is not in [64 KiB, 1 GiB]", c.MemtableBytes)
	case c.SpaceInterval < 0:
		return fmt.Errorf("engine config: space interval %v", c.SpaceInterval)
	}
	return nil
}

func (c Config) withDefaults() Config {
	if c.CacheBytes == 0 {
		c.CacheBytes = 128 << 20
	}
	if c.BallastBytes == 0 {
		c.BallastBytes = 64 << 20
	}
	if c.SpaceInterval == 0 {
		c.SpaceInterval = time.Second
	}
	if c.FS == nil {
		c.FS = vfs.Default
	}
	if c.MemtableBytes == 0 {
		c.MemtableBytes = memtableBytesMax
		if u, err := c.FS.GetDiskUsage(c.Dir); err == nil && u.TotalBytes != 0 {
			c.MemtableBytes = max(memtableBytesMin, min(memtableBytesMax, u.TotalBytes/64))
		}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

func (c Config) options(fs vfs.FS, log *pebbleLogger, events *pebble.EventListener) *pebble.Options {
	o := &pebble.Options{
		FS:                 fs,
		Logger:             log,
		EventListener:      events,
		Comparer:           &cockroachkvs.Comparer,
		KeySchema:          cockroachkvs.KeySchema.Name,
		KeySchemas:         sstable.MakeKeySchemas(&cockroachkvs.KeySchema),
		FormatMajorVersion: format,

		// The revision of a version is where cockroachkvs has its wall time.
		BlockPropertyCollectors: cockroachkvs.BlockPropertyCollectors,

		CacheSize:                   c.CacheBytes,
		MemTableSize:                c.MemtableBytes,
		MemTableStopWritesThreshold: 3,
		MaxOpenFiles:                4096,

		// Four sublevels: each time that they are merged into the level below, much of
		// that is written anew. With half of the writes of a busy store being the log,
		// of which hardly a row is left when a memtable is flushed, tables of level 0 are
		// small; merging each at once took as much processor time as all requests.
		L0CompactionThreshold:     8,
		L0CompactionFileThreshold: 500,
		L0StopWritesThreshold:     l0StopWrites,
		LBaseMaxBytes:             64 << 20,
		FlushSplitBytes:           2 << 20,

		// A second compaction only helps when the first cannot keep up: client
		// requests want the same two or four cores.
		CompactionConcurrencyRange: func() (int, int) { return 1, max(1, min(3, runtime.GOMAXPROCS(0)-1)) },

		// Background writes are pushed out in small steps, so that the sync of a
		// log does not wait behind megabytes of tables.
		BytesPerSync:    512 << 10,
		WALBytesPerSync: 0, // every group of commits is synced anyway

		// A range deletion gives its space back without further writes.
		FlushDelayDeleteRange: 5 * time.Second,

		// Deleting many files at once makes some disks stall.
		TargetByteDeletionRate: 128 << 20,
	}
	o.TargetFileSizes[0] = 4 << 20
	o.Experimental.L0CompactionConcurrency = 4
	o.Experimental.CompactionDebtConcurrency = 1 << 30
	o.Experimental.IngestSplit = func() bool { return true }
	o.Experimental.EnableDeleteOnlyCompactionExcises = func() bool { return true }
	o.Experimental.EnableColumnarBlocks = func() bool { return true }
	for i := range o.Levels {
		l := &o.Levels[i]
		l.BlockSize = 16 << 10
		// In percent: small rows beside large ones, as those of replicas beside entries of
		// their logs, are in blocks of their own, and read without them.
		l.BlockSizeThreshold = 1
		l.IndexBlockSize = 128 << 10
		l.FilterPolicy = bloom.FilterPolicy(10)
		l.Compression = func() *sstable.CompressionProfile { return sstable.SnappyCompression }
	}
	// Level 0 is rewritten within seconds: compressing it costs more than it saves.
	o.Levels[0].Compression = func() *sstable.CompressionProfile { return sstable.NoCompression }
	return o
}

// pebbleLogger hands Pebble's lines to slog. Pebble is chatty, so what it calls
// information is for debugging here.
type pebbleLogger struct{ log *slog.Logger }

func (l *pebbleLogger) Infof(f string, args ...any) {
	if l.log.Enabled(nil, slog.LevelDebug) { //nolint:staticcheck // no context here
		l.log.Debug(fmt.Sprintf(f, args...))
	}
}

func (l *pebbleLogger) Errorf(f string, args ...any) {
	l.log.Error("pebble", "error", fmt.Sprintf(f, args...))
}

// Fatalf ends the process. Pebble calls it when its log or manifest cannot be
// written or synced: after a failed sync nobody knows what is on the disk, so to
// go on would be to lie about what is durable. A full disk does not end here,
// see fullFS.
func (l *pebbleLogger) Fatalf(f string, args ...any) {
	msg := fmt.Sprintf(f, args...)
	l.log.Error("pebble: cannot go on", "error", msg)
	panic("engine: " + msg)
}
