// Package engine is ordered bytes on a disk: batches that are atomic, views
// that do not move, and spans that are swapped in at one blow.
//
// There are two engines. OpenPebble is the real one. NewMem is its twin for the
// simulator: one sorted tree in memory that forgets, at a crash, a random
// suffix of the writes that were not synced. Package enginetest is the contract
// that both must pass.
//
// Every key is an engine key: a prefix, a zero byte, and either nothing or a
// version suffix and its length (package keys draws it). Within one prefix, the
// key without a version sorts first, then versions from the newest to the oldest.
//
// Durability is by order: all writes of an engine share one log, so a sync of a
// later batch makes every earlier one durable too. A batch committed without
// sync may be lost by a crash, but never alone: what is lost is a suffix.
//
// A disk that fills up goes through three states. Low (Stats.DiskLow): less is
// free than the reserve; who takes writes from clients refuses them from here
// on, so that deletes and compaction still have room. Full (Stats.DiskFull): a
// write failed for want of space; the ballast file was given back to the file
// system, and the write was made in its room. Stuck: no ballast is left either;
// Commit returns ErrDiskFull for what it has not begun, what it has begun waits
// for space (a commit that met the end of space first does so before it
// returns), and reads go on. All three end by themselves when space comes back.
//
// Goroutines of the Pebble engine besides Pebble's own: "engine-sync" waits for
// syncs and calls what CommitAsync was given; "engine-disk" watches free space.
// The twin has none and is not safe for concurrent use.
package engine

import (
	"context"
	"io"

	"github.com/flotilladb/flotilla/internal/keys"
)

// Reader reads engine keys.
type Reader interface {
	// Get returns the value of a key, valid until closer is closed, or
	// ErrNotFound. A damaged block is a *CorruptionError naming the file.
	Get(key []byte) (value []byte, closer io.Closer, err error)
	// NewIter returns an iterator over the state of this moment.
	// Iterators are closed by their user.
	NewIter(opts IterOptions) (Iterator, error)
}

// IterOptions bound and tune an iterator.
type IterOptions struct {
	// Lower (inclusive) and Upper (exclusive) are engine keys. Nil is unbounded.
	Lower, Upper []byte
	// MinRevision and MaxRevision, if not both zero, let the iterator skip
	// blocks that hold no version in [MinRevision, MaxRevision]; a zero
	// MaxRevision is no limit. It is a hint: rows outside of it, deleted ones
	// among them, may still come and must be dropped by the caller. Rows
	// without a version may be left out.
	MinRevision, MaxRevision int64
	// Point says that the iterator will be used with SeekPrefixGE, so that
	// bloom filters are worth their loading.
	Point bool
}

// Iterator walks engine keys in order. Key and Value are valid until the next
// positioning. After a false return, Error tells the end from a failure.
type Iterator interface {
	First() bool
	Last() bool
	SeekGE(key []byte) bool
	SeekLT(key []byte) bool
	// SeekPrefixGE is SeekGE that stops where the key's prefix ends. Of the
	// relative moves only Next may follow it.
	SeekPrefixGE(key []byte) bool
	Next() bool
	Prev() bool
	// NextPrefix goes to the first key with another prefix.
	NextPrefix() bool
	Valid() bool
	Key() []byte
	Value() ([]byte, error)
	Error() error
	Close() error
}

// View is a Reader that shows the state of one moment until it is closed. It
// survives an excise (it is not a plain Pebble snapshot).
type View interface {
	Reader
	Close() error
}

// Batch collects writes. It is not safe for concurrent use and is not readable.
type Batch interface {
	Set(key, value []byte)
	// SetDeferred gives room for a key and a value to be filled in place
	// before the next call on the batch: one copy fewer on the hot path. What
	// is in them before is not defined.
	SetDeferred(keyLen, valueLen int) (key, value []byte)
	// Delete removes one key.
	Delete(key []byte)
	// DeleteRange removes [start, end), bare keys (no version) both.
	DeleteRange(start, end []byte)
	Empty() bool
	// Len is the size in bytes of what was collected.
	Len() int
	// Count is the number of operations that were collected.
	Count() int
	// Reset empties the batch so that it can be used again, also after Commit.
	Reset()
	// Close gives the batch back; it is not used afterwards.
	Close() error
}

// Engine is a Reader that can be written.
type Engine interface {
	Reader
	NewBatch() Batch
	// Commit applies a batch atomically. With sync it returns when the batch,
	// and so every earlier one, is durable. The batch stays its caller's, who
	// may only Reset or Close it then. An empty batch with sync makes everything
	// before it durable. After ErrDiskFull nothing was applied and the same
	// batch may be committed again.
	Commit(b Batch, sync bool) error
	// CommitAsync applies a batch, visible at return, and calls done on a
	// goroutine of the engine when it is durable, in order of the calls. The
	// batch belongs to the engine from then on and is closed by it, unless an
	// error is returned: then it is its caller's and done is not called. With
	// thousands of commits under way CommitAsync waits for a done to return, so
	// that done must not call it then.
	CommitAsync(b Batch, done func(error)) error
	// NewView returns a view of some or all spans (nil: all) of engine keys, in any
	// order; they must not overlap.
	NewView(spans []Span) View
	// IngestAndExcise replaces everything in span by the tables' rows, atomically
	// and durably. Every commit before it is made durable first, so that it is
	// never kept without them. Tables were written by NewTableWriter and do not
	// overlap; they may lie outside of span, where they write over what is
	// there. On success their files are gone from where they were. The ends of
	// span are bare keys.
	IngestAndExcise(ctx context.Context, tables []string, span Span) error
	// NewTableWriter begins a table file that can be ingested. A table that is not small
	// leaves half of the disk's reserve to others: then it fails with ErrDiskFull.
	NewTableWriter(path string) (TableWriter, error)
	// DiskUsage estimates the bytes on disk of a span of engine keys.
	DiskUsage(span Span) (uint64, error)
	// Flush writes what is in memory to tables (for tests and orderly stops).
	Flush() error
	// Compact rewrites a span so that deleted rows give their space back now.
	Compact(ctx context.Context, span Span) error
	Stats() Stats
	// DiskLow is Stats().DiskLow || Stats().DiskFull, for whoever asks often.
	DiskLow() bool
	Close() error
}

// TableWriter writes a table in key order.
type TableWriter interface {
	Set(key, value []byte) error
	// DeleteRange removes [start, end) of what is there when the table is
	// ingested, not of the table itself. The ends are bare keys; deletions come
	// in order and do not overlap, but go their own way beside the rows.
	DeleteRange(start, end []byte) error
	// Finish completes the file and makes it durable.
	Finish() error
}

// Span is the half-open set of engine keys [Start, End), bare keys (no version)
// both; a nil End is the end. No engine key begins with 0xff.
type Span = keys.Span

// Stats are figures for metrics and for back-pressure.
type Stats struct {
	DiskBytes      uint64 // bytes on disk, log included
	LogicalBytes   uint64 // bytes of live tables
	DiskFreeBytes  uint64 // free on the file system, 0 if unknown
	DiskTotalBytes uint64 // size of the file system, 0 if unknown
	L0Sublevels    int    // read amplification of level 0; near WriteStall: slow down
	L0SublevelsMax int    // where writes stall
	MemtableBytes  uint64
	CacheBytes     int64
	WriteStalls    int64 // since open
	CompactionDebt uint64
	DiskLow        bool // less is free than the reserve: take no more from clients
	DiskFull       bool // a write failed for want of space and the ballast was released
}
