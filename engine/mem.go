package engine

import (
	"bytes"
	"context"
	"io"

	"github.com/cockroachdb/pebble/v2/cockroachkvs"
	"github.com/google/btree"

	"github.com/flotilladb/flotilla/internal/invariant"
)

// Mem is the twin of the Pebble engine for the simulator: one sorted tree. It
// starts no goroutine and is not safe for concurrent use, but a View or an
// Iterator may be read while the engine is written.
//
// Nothing becomes durable by itself: a synced commit makes everything before it
// durable, CommitAsync only when CompleteSync says so (see DriveSyncs), an
// ingest at once. Crash returns what a crash leaves.
type Mem struct {
	tree *btree.BTreeG[memRow]
	// durable holds what a crash leaves at least.
	// Invariant: tree == durable + every batch of log, in order.
	durable *btree.BTreeG[memRow]
	log     []memCommit
	// pending are the done functions of CommitAsync that were not called yet, in
	// order of the calls.
	pending []memPending
	base    uint64 // commits that are in durable. Invariant: base+len(log) commits were made.
	// shared is a clone of tree for readers, nil after a write: opening many
	// iterators between two writes then clones once.
	shared *btree.BTreeG[memRow]
	files  map[string]*memTable
	drive  bool
	closed bool
}

type memRow struct{ key, value []byte }

type memCommit struct{ ops []memOp }

type memPending struct {
	at   uint64 // the number of its commit: durable when base >= at
	done func(error)
}

const memDegree = 16

func lessRow(a, b memRow) bool { return cockroachkvs.Compare(a.key, b.key) < 0 }

// NewMem returns an empty engine whose CommitAsync calls done before it returns.
func NewMem() *Mem {
	t := btree.NewG(memDegree, lessRow)
	return &Mem{tree: t, durable: t.Clone(), files: make(map[string]*memTable)}
}

// DriveSyncs leaves it to CompleteSync to make commits of CommitAsync durable
// and to call their done functions.
func (m *Mem) DriveSyncs() { m.drive = true }

// PendingSyncs returns how many done functions wait to be called.
func (m *Mem) PendingSyncs() int { return len(m.pending) }

// CompleteSync ends the oldest n pending syncs: makes their commits durable, and
// every earlier one, and then calls their done functions in order.
// REQUIRES: n <= PendingSyncs().
func (m *Mem) CompleteSync(n int) {
	if n == 0 {
		return
	}
	due := m.pending[:n:n]
	m.pending = append([]memPending(nil), m.pending[n:]...)
	m.syncTo(due[n-1].at)
	for _, p := range due {
		p.done(nil)
	}
}

// Unsynced returns how many of the last commits a crash may take away.
func (m *Mem) Unsynced() int { return len(m.log) }

// Crash returns the engine that is found after a crash: the durable state and
// the oldest keep(unsynced) of the commits that were not synced. What follows
// them is lost, and so are done functions and unfinished table files. The old
// engine is closed; what was read from it stays readable.
func (m *Mem) Crash(keep func(unsynced int) int) *Mem {
	n := keep(len(m.log))
	invariant.Must(n >= 0 && n <= len(m.log), "keep %d of %d unsynced commits", n, len(m.log))
	after := &Mem{tree: m.durable.Clone(), files: make(map[string]*memTable), drive: m.drive}
	for _, c := range m.log[:n] {
		applyOps(after.tree, c.ops)
	}
	after.durable = after.tree.Clone()
	for path, t := range m.files {
		if t.finished {
			after.files[path] = t
		}
	}
	m.closed = true
	return after
}

// syncTo makes every commit up to the one with this number durable.
func (m *Mem) syncTo(at uint64) {
	if at <= m.base {
		return
	}
	n := int(at - m.base)
	if n == len(m.log) {
		m.durable = m.tree.Clone()
		m.log = m.log[:0:0]
	} else {
		for _, c := range m.log[:n] {
			applyOps(m.durable, c.ops)
		}
		m.log = append([]memCommit(nil), m.log[n:]...)
	}
	m.base = at
}

func (m *Mem) made() uint64 { return m.base + uint64(len(m.log)) }

func applyOps(tree *btree.BTreeG[memRow], ops []memOp) {
	for _, op := range ops {
		switch op.kind {
		case memSet:
			tree.ReplaceOrInsert(memRow{key: op.key, value: op.value})
		case memDelete:
			tree.Delete(memRow{key: op.key})
		case memDeleteRange:
			deleteSpan(tree, op.key, op.value)
		}
	}
}

// deleteSpan removes [start, end) from a tree; a nil end is the end.
func deleteSpan(tree *btree.BTreeG[memRow], start, end []byte) {
	var gone []memRow
	collect := func(r memRow) bool { gone = append(gone, r); return true }
	if end == nil {
		tree.AscendGreaterOrEqual(memRow{key: start}, collect)
	} else {
		tree.AscendRange(memRow{key: start}, memRow{key: end}, collect)
	}
	for _, r := range gone {
		tree.Delete(r)
	}
}

// reader returns a tree that nobody writes any more.
func (m *Mem) reader() *btree.BTreeG[memRow] {
	if m.shared == nil {
		m.shared = m.tree.Clone()
	}
	return m.shared
}

// Get implements Reader.
func (m *Mem) Get(key []byte) ([]byte, io.Closer, error) {
	if m.closed {
		return nil, nil, ErrClosed
	}
	return memGet(m.tree, key)
}

// NewIter implements Reader.
func (m *Mem) NewIter(opts IterOptions) (Iterator, error) {
	if m.closed {
		return nil, ErrClosed
	}
	return newMemIter(m.reader(), opts), nil
}

// NewView implements Engine. A view of some spans shows all of them.
func (m *Mem) NewView(spans []Span) View { return &memView{tree: m.reader()} }

// Commit implements Engine.
func (m *Mem) Commit(b Batch, sync bool) error {
	if m.closed {
		return ErrClosed
	}
	m.apply(b.(*memBatch))
	if sync {
		m.syncTo(m.made())
	}
	return nil
}

// CommitAsync implements Engine.
func (m *Mem) CommitAsync(b Batch, done func(error)) error {
	if m.closed {
		return ErrClosed
	}
	m.apply(b.(*memBatch))
	m.pending = append(m.pending, memPending{at: m.made(), done: done})
	if !m.drive {
		m.CompleteSync(len(m.pending))
	}
	return nil
}

// apply makes a batch visible. The ops are shared with the batch, which
// therefore never writes into them again.
func (m *Mem) apply(b *memBatch) {
	invariant.Must(!b.applied, "a batch was committed twice")
	b.applied = true
	if len(b.ops) == 0 {
		return
	}
	m.shared = nil
	applyOps(m.tree, b.ops)
	m.log = append(m.log, memCommit{ops: b.ops})
}

// IngestAndExcise implements Engine.
func (m *Mem) IngestAndExcise(_ context.Context, tables []string, span Span) error {
	if m.closed {
		return ErrClosed
	}
	var ops []memOp
	for _, path := range tables {
		t, ok := m.files[path]
		if !ok || !t.finished {
			return wrap("ingest", &CorruptionError{Path: path, Err: errNoTable})
		}
		if !t.ordered() {
			return wrap("ingest", errTableOrder)
		}
		ops = append(append(ops, t.deletes...), t.ops...)
	}
	m.shared = nil
	deleteSpan(m.tree, span.Start, span.End)
	applyOps(m.tree, ops)
	m.syncAll()
	for _, path := range tables {
		delete(m.files, path)
	}
	return nil
}

// syncAll makes all that is visible durable.
func (m *Mem) syncAll() {
	m.base = m.made()
	m.log = m.log[:0:0]
	m.durable = m.tree.Clone()
}

// DiskUsage implements Engine: the bytes of the rows in the span.
func (m *Mem) DiskUsage(span Span) (uint64, error) {
	var n uint64
	m.tree.AscendGreaterOrEqual(memRow{key: span.Start}, func(r memRow) bool {
		if span.End != nil && cockroachkvs.Compare(r.key, span.End) >= 0 {
			return false
		}
		n += uint64(len(r.key) + len(r.value))
		return true
	})
	return n, nil
}

// Flush implements Engine: it makes everything durable.
func (m *Mem) Flush() error { m.syncAll(); return nil }

// Compact implements Engine. There is nothing to do.
func (m *Mem) Compact(context.Context, Span) error { return nil }

// Stats implements Engine.
func (m *Mem) Stats() Stats { return Stats{} }

// DiskLow implements Engine: a Mem has room.
func (m *Mem) DiskLow() bool { return false }

// Close implements Engine. Unlike a crash, it loses nothing.
func (m *Mem) Close() error {
	if m.closed {
		return ErrClosed
	}
	m.syncAll()
	m.CompleteSync(len(m.pending))
	m.closed = true
	return nil
}

// Reopen returns the engine that is found after an orderly Close.
// REQUIRES: m is closed.
func (m *Mem) Reopen() *Mem {
	return &Mem{tree: m.durable.Clone(), durable: m.durable, files: m.files, drive: m.drive}
}

type memView struct{ tree *btree.BTreeG[memRow] }

func (v *memView) Get(key []byte) ([]byte, io.Closer, error) { return memGet(v.tree, key) }

func (v *memView) NewIter(opts IterOptions) (Iterator, error) { return newMemIter(v.tree, opts), nil }

func (v *memView) Close() error { return nil }

func memGet(tree *btree.BTreeG[memRow], key []byte) ([]byte, io.Closer, error) {
	r, ok := tree.Get(memRow{key: key})
	if !ok {
		return nil, nil, ErrNotFound
	}
	return r.value, nopCloser{}, nil
}

type nopCloser struct{}

func (nopCloser) Close() error { return nil }

// memTable is a table file of the twin: it lives in the engine that wrote it. As
// in a real table, its range deletions delete what is below the table and none
// of its own rows.
type memTable struct {
	ops, deletes []memOp
	finished     bool
}

// NewTableWriter implements Engine.
func (m *Mem) NewTableWriter(path string) (TableWriter, error) {
	t := &memTable{}
	m.files[path] = t
	return t, nil
}

func (t *memTable) Set(key, value []byte) error {
	t.ops = append(t.ops, memOp{kind: memSet, key: bytes.Clone(key), value: bytes.Clone(value)})
	return nil
}

func (t *memTable) DeleteRange(start, end []byte) error {
	t.deletes = append(t.deletes, memOp{kind: memDeleteRange, key: bytes.Clone(start), value: bytes.Clone(end)})
	return nil
}

func (t *memTable) Finish() error { t.finished = true; return nil }

func (t *memTable) ordered() bool {
	for i := 1; i < len(t.ops); i++ {
		if cockroachkvs.Compare(t.ops[i-1].key, t.ops[i].key) >= 0 {
			return false
		}
	}
	return true
}
