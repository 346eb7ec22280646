package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/cockroachkvs"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/flotilladb/flotilla/internal/stop"
)

// Pebble is the real engine.
type Pebble struct {
	cfg   Config
	opts  *pebble.Options // for table writers
	db    *pebble.DB
	space *spaceWatch
	syncs chan pendingSync // to engine-sync, in order of the calls

	stalls  atomic.Int64
	corrupt sync.Map      // path of a damaged file -> true, once it was logged
	iters   sync.Pool     // of *pebbleIter
	batchs  sync.Pool     // of *pebbleBatch
	stop    *stop.Stopper // engine-sync and engine-disk
	// open is held shared by what may be asked of a closed engine.
	open   sync.RWMutex
	closed atomic.Bool
	metric *collector // nil without a Registerer
}

var _ Engine = (*Pebble)(nil)

// syncsMax bounds the commits whose sync is awaited. Pebble has about as many
// places itself.
const syncsMax = 4096

type pendingSync struct {
	batch *pebbleBatch
	done  func(error)
}

// OpenPebble opens the engine in a folder, which it locks. What a crash tore off
// the end of the log is forgotten; damage elsewhere is a *CorruptionError.
func OpenPebble(cfg Config) (*Pebble, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if cfg.FS == nil {
		cfg.FS = vfs.Default
	}
	if err := cfg.FS.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, wrap("open", diskErr(err))
	}
	cfg = cfg.withDefaults() // which looks at the folder's file system
	lock, err := lockFolder(cfg.FS, cfg.Dir)
	if err != nil {
		return nil, err
	}
	// Pebble takes a reference of its own.
	defer func() { _ = lock.Close() }()
	if err := checkFormat(cfg.FS, cfg.Dir); err != nil {
		return nil, err
	}
	e := &Pebble{cfg: cfg, syncs: make(chan pendingSync, syncsMax), stop: stop.New(context.Background())}
	e.space = newSpaceWatch(cfg)
	log := &pebbleLogger{log: cfg.Logger}
	e.opts = cfg.options(&fullFS{FS: cfg.FS, space: e.space}, log, e.events())
	e.opts.Lock = lock
	e.opts.EnsureDefaults()
	if e.db, err = openDB(cfg, e.opts); err != nil {
		return nil, err
	}
	e.space.waits.Store(true)
	e.space.makeBallast()
	err = errors.Join(e.stop.Go("engine-sync", e.runSyncs), e.stop.Go("engine-disk", e.runSpace))
	if err == nil && cfg.Registerer != nil {
		e.metric = newCollector(e)
		err = cfg.Registerer.Register(e.metric)
	}
	if err != nil {
		return nil, errors.Join(wrap("open", err), e.Close())
	}
	return e, nil
}

// openDB opens Pebble, which panics on some kinds of damage.
func openDB(cfg Config, opts *pebble.Options) (db *pebble.DB, err error) {
	defer func() {
		switch r := recover().(type) {
		case nil:
		case error:
			if err = diskErr(r); !errors.Is(err, ErrDiskFull) {
				err = &CorruptionError{Path: cfg.Dir, Err: r}
			}
		default:
			err = &CorruptionError{Path: cfg.Dir, Err: fmt.Errorf("%v", r)}
		}
	}()
	db, err = pebble.Open(cfg.Dir, opts)
	if err != nil {
		return nil, wrap("open", openErr(cfg.Dir, err))
	}
	return db, nil
}

// Get implements Reader.
func (e *Pebble) Get(key []byte) ([]byte, io.Closer, error) {
	v, c, err := e.db.Get(key)
	if err != nil {
		return nil, nil, readErr(err)
	}
	return v, c, nil
}

// NewIter implements Reader.
func (e *Pebble) NewIter(opts IterOptions) (Iterator, error) {
	it := e.takeIter(opts)
	var err error
	it.it, err = e.db.NewIter(&it.opts)
	return it.opened(err)
}

// NewBatch implements Engine.
func (e *Pebble) NewBatch() Batch {
	if b, ok := e.batchs.Get().(*pebbleBatch); ok {
		return b
	}
	return &pebbleBatch{e: e, b: e.db.NewBatch()}
}

// Commit implements Engine.
func (e *Pebble) Commit(b Batch, sync bool) error {
	pb, err := e.begin(b)
	if err != nil {
		return err
	}
	if !sync {
		return commitErr(e.db.Apply(pb.b, pebble.NoSync))
	}
	if pb.b.Empty() {
		return commitErr(e.db.LogData(nil, pebble.Sync))
	}
	return commitErr(e.db.Apply(pb.b, pebble.Sync))
}

// CommitAsync implements Engine.
func (e *Pebble) CommitAsync(b Batch, done func(error)) error {
	pb, err := e.begin(b)
	if err != nil {
		return err
	}
	if pb.b.Empty() {
		// Pebble would not wait for anything; earlier commits must be waited for.
		_ = pb.b.LogData(nil, nil)
	}
	if err := e.db.ApplyNoSyncWait(pb.b, pebble.Sync); err != nil {
		return commitErr(err)
	}
	e.syncs <- pendingSync{batch: pb, done: done}
	return nil
}

func (e *Pebble) begin(b Batch) (*pebbleBatch, error) {
	if e.closed.Load() {
		return nil, ErrClosed
	}
	if e.space.stuck.Load() != 0 {
		return nil, ErrDiskFull
	}
	pb := b.(*pebbleBatch)
	e.space.wrote(pb.b.Len())
	return pb, nil
}

// runSyncs is engine-sync. Waiting in order is enough: a later sync covers the
// earlier ones.
// It ends when Close has closed the queue, not before: what was committed is
// waited for.
func (e *Pebble) runSyncs(context.Context) {
	for p := range e.syncs {
		err := p.batch.b.SyncWait()
		_ = p.batch.Close()
		p.done(commitErr(err))
	}
}

// NewView implements Engine. A view of no spans is of all of them.
func (e *Pebble) NewView(spans []Span) View {
	ranges := []pebble.KeyRange{{Start: lowest(), End: highest()}}
	if spans != nil {
		ranges = keyRanges(spans)
		slices.SortFunc(ranges, func(a, b pebble.KeyRange) int { return cockroachkvs.Compare(a.Start, b.Start) })
	}
	return &pebbleView{e: e, s: e.db.NewEventuallyFileOnlySnapshot(ranges)}
}

type pebbleView struct {
	e *Pebble
	s *pebble.EventuallyFileOnlySnapshot
}

func (v *pebbleView) Get(key []byte) ([]byte, io.Closer, error) {
	val, c, err := v.s.Get(key)
	if err != nil {
		return nil, nil, readErr(err)
	}
	return val, c, nil
}

func (v *pebbleView) NewIter(opts IterOptions) (Iterator, error) {
	it := v.e.takeIter(opts)
	var err error
	it.it, err = v.s.NewIter(&it.opts)
	return it.opened(err)
}

func (v *pebbleView) Close() error { return v.s.Close() }

// Flush implements Engine.
func (e *Pebble) Flush() error { return wrap("flush", diskErr(e.db.Flush())) }

// Compact implements Engine.
func (e *Pebble) Compact(ctx context.Context, span Span) error {
	start, end := bounds(span)
	return wrap("compact", readErr(e.db.Compact(ctx, start, end, false)))
}

// DiskUsage implements Engine.
func (e *Pebble) DiskUsage(span Span) (uint64, error) {
	start, end := bounds(span)
	n, err := e.db.EstimateDiskUsage(start, end)
	return n, wrap("disk usage", readErr(err))
}

// Close implements Engine. Commits that were begun become durable first.
// Iterators and views must be closed before.
func (e *Pebble) Close() error {
	e.open.Lock()
	was := e.closed.Swap(true)
	e.open.Unlock()
	if was {
		return ErrClosed
	}
	close(e.syncs)
	e.space.close()
	e.stop.Stop()
	if e.metric != nil {
		e.cfg.Registerer.Unregister(e.metric)
	}
	return wrap("close", diskErr(e.db.Close()))
}
