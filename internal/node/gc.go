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
		err := c.collect(ctx, to)
		for errors.Is(err, engine.ErrDiskFull) && sleep(ctx, gcFullRetry) == nil {
			err = c.collect(ctx, to)
		}
		if err != nil && ctx.Err() == nil {
			c.n.cfg.Logger.Error("removal of compacted versions stopped", "err", err)
		}
		c.ended(to, err)
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

// collect removes the garbage up to a revision from every range of the store.
func (c *collector) collect(ctx context.Context, to metapb.Revision) error {
	removal := NewRemoval(&c.n.pub, to)
	for {
		began := time.Now()
		step, err := removal.Step(c.n.eng, mvcc.CollectBudget{})
		pause := max(gcPauseMin, gcShare*time.Since(began))
		switch {
		case err != nil:
			return err
		case step == RemovalDone:
			return nil
		case step == RemovalWaits:
			pause = gcRetry
		}
		if err := sleep(ctx, pause); err != nil {
			return err
		}
	}
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
