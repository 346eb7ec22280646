package node

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/mvcc"
	"github.com/flotilladb/flotilla/proto/metapb"
)

// collector removes what a compaction no longer needs, range by range, in steps
// small enough that writes beside it do not notice.
type collector struct {
	n      *Node
	signal chan struct{}
	mu     struct {
		sync.Mutex
		done    metapb.Revision // garbage up to here is gone
		failed  metapb.Revision // garbage up to here could not all be removed
		err     error           // why not
		changed chan struct{}   // closed when one of them changes
	}
}

const (
	// gcPause is between two steps; gcShare is how much longer the pause is than
	// the step was, so that removal takes a bounded part of the disk and of a
	// core.
	gcPauseMin = time.Millisecond
	gcShare    = 2
	// gcRows is how many versions a step looks at or removes. Commits take effect
	// in order, so a write waits for the whole of a step before it.
	gcRows = 256
	// gcRetry is when a range is looked at again on which writes below the
	// compacted revision were still under way.
	gcRetry = 20 * time.Millisecond
	// gcFullRetry is when a full disk is tried again. Removal is what makes space,
	// so it is never given up for want of it.
	gcFullRetry = time.Second
)

func newCollector(n *Node) *collector {
	c := &collector{n: n, signal: make(chan struct{}, 1)}
	c.mu.done, c.mu.failed = -1, -1
	c.mu.changed = make(chan struct{})
	return c
}

// wake says that the compacted revision has grown.
func (c *collector) wake() {
	select {
	case c.signal <- struct{}{}:
	default:
	}
}

// wait returns when the garbage up to rev is gone, or cannot be removed.
func (c *collector) wait(ctx context.Context, rev metapb.Revision) error {
	for {
		c.mu.Lock()
		done, failed, err, changed := c.mu.done, c.mu.failed, c.mu.err, c.mu.changed
		c.mu.Unlock()
		switch {
		case done >= rev:
			return nil
		case failed >= rev:
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		case <-c.n.loopDone:
			return errUnknownOutcome
		}
	}
}

// run collects whenever the compacted revision has grown, also after a start.
func (c *collector) run(ctx context.Context) {
	c.wake()
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.signal:
		}
		to := metapb.Revision(c.n.pub.compacted.Load())
		if to < 0 {
			continue
		}
		rest, err := c.collect(ctx, to)
		for errors.Is(err, engine.ErrDiskFull) && sleep(ctx, gcFullRetry) == nil {
			rest, err = c.collect(ctx, to)
		}
		if err != nil && err != errMoreToRemove && ctx.Err() == nil {
			c.n.cfg.Logger.Error("removal of compacted versions stopped", "err", err)
		}
		if err != errMoreToRemove {
			c.ended(to, err)
		}
		_ = c.reclaim(ctx, rest)
	}
}

// ended tells who waits how the removal of the garbage up to a revision went.
func (c *collector) ended(to metapb.Revision, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil {
		c.mu.done = max(c.mu.done, to)
	} else {
		c.mu.failed, c.mu.err = to, err
	}
	close(c.mu.changed)
	c.mu.changed = make(chan struct{})
}

// collect removes the garbage up to a revision from every range of the store,
// and returns the last of it, whose space is still to be given back.
func (c *collector) collect(ctx context.Context, to metapb.Revision) (rest Garbage, err error) {
	removal := NewRemoval(&c.n.pub, to)
	for {
		began := time.Now()
		step, err := removal.Step(c.n.eng, mvcc.CollectBudget{RowsMax: gcRows})
		pause := max(gcPauseMin, gcShare*time.Since(began))
		switch {
		case err != nil || step == RemovalDone:
			rest, _ = removal.TakeGarbage(true)
			return rest, err
		case step == RemovalWaits && removal.Swept() && len(c.signal) > 0:
			rest, _ = removal.TakeGarbage(true)
			return rest, errMoreToRemove
		case step == RemovalWaits:
			pause = gcRetry
		}
		if err := sleep(ctx, pause); err != nil {
			return Garbage{}, err
		}
		if g, ok := removal.TakeGarbage(false); ok {
			if err := c.reclaim(ctx, g); err != nil {
				return Garbage{}, err
			}
		}
	}
}

const (
	// Less garbage than this is left to the engine, which finds it when it
	// rewrites what is there; so is a share of less than one in reclaimShare of
	// the span on disk, or the work would be out of proportion.
	reclaimBytesMin = 1 << 20
	reclaimShare    = 4
)

// reclaim has the engine give back the space of what was removed. By itself it
// would do so only when more was written: the deletions stay in memory until
// that is full, and a store that nobody writes to any more keeps its garbage.
// Rewriting needs room too, which is why it is done piece by piece. It returns
// an error only when the node stops.
func (c *collector) reclaim(ctx context.Context, g Garbage) error {
	if g.Bytes < reclaimBytesMin {
		return nil
	}
	began := time.Now()
	err := c.n.eng.Flush()
	var usage uint64
	if err == nil {
		usage, err = c.n.eng.DiskUsage(g.Span)
	}
	if err == nil && uint64(g.Bytes)*reclaimShare >= usage {
		err = c.n.eng.Compact(ctx, g.Span)
	}
	if err != nil && ctx.Err() == nil {
		c.n.cfg.Logger.Warn("space of removed versions is not given back yet", "err", err)
	}
	return sleep(ctx, gcShare*time.Since(began))
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return errors.New("node stops")
	case <-t.C:
		return nil
	}
}
