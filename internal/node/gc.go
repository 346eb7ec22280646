package node

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/mvcc"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/range"
)

// collector removes what a compaction no longer needs, range by range, in steps
// small enough that writes beside it do not notice.
type collector struct {
	n      *Node
	signal chan struct{}
	mu     struct {
		sync.Mutex
		done    metapb.Revision // garbage up to here is gone
		changed chan struct{}   // closed when done grows
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
)

func newCollector(n *Node) *collector {
	c := &collector{n: n, signal: make(chan struct{}, 1)}
	c.mu.done = -1
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

// wait returns when the garbage up to rev is gone.
func (c *collector) wait(ctx context.Context, rev metapb.Revision) error {
	for {
		c.mu.Lock()
		done, changed := c.mu.done, c.mu.changed
		c.mu.Unlock()
		if done >= rev {
			return nil
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
		if err := c.collect(ctx, to); err != nil {
			if ctx.Err() == nil {
				c.n.cfg.Logger.Error("removal of compacted versions stopped", "err", err)
			}
			continue
		}
		c.mu.Lock()
		c.mu.done = max(c.mu.done, to)
		close(c.mu.changed)
		c.mu.changed = make(chan struct{})
		c.mu.Unlock()
	}
}

// collect removes the garbage up to a revision from every range of the store.
func (c *collector) collect(ctx context.Context, to metapb.Revision) error {
	c.n.pub.removal.Store(max(c.n.pub.removal.Load(), int64(to)))
	for addr, more := []byte{byte(keys.KindUser)}, true; more; {
		t := c.n.pub.table.Load()
		i := t.find(addr)
		pr := t.pieces[i]
		// What is under way below the compacted revision must be applied first,
		// or the newest version that the compaction keeps would not be known.
		if metapb.Revision(pr.bound.Load()) <= to {
			if err := sleep(ctx, gcRetry); err != nil {
				return err
			}
			continue
		}
		end, err := c.collectRange(ctx, pr.desc, to)
		if err != nil {
			return fmt.Errorf("range %d: %w", pr.desc.RangeId, err)
		}
		addr, more = end, len(end) != 0
	}
	return nil
}

// collectRange removes the garbage of one range and returns where it ended. A
// split meanwhile does no harm: the right side took over the mark from before,
// and what is removed twice is removed.
func (c *collector) collectRange(ctx context.Context, d *metapb.Descriptor, to metapb.Revision) ([]byte, error) {
	eng := c.n.eng
	mark, err := ranges.ReadRemovalMark(eng, d.ID())
	if err != nil {
		return nil, err
	}
	if mark >= to {
		return d.End, nil
	}
	start, end, ok := keys.UserBounds(d.Span())
	if !ok {
		return d.End, nil
	}
	gc := mvcc.NewCollector(start, end, max(mark, 0), to)
	for done := false; !done; {
		began := time.Now()
		b := eng.NewBatch()
		_, done, err = gc.Step(eng, b, mvcc.CollectBudget{})
		if done {
			ranges.WriteRemovalMark(b, d.ID(), to)
		}
		if err == nil && !b.Empty() {
			err = eng.Commit(b, false)
		}
		b.Close()
		if err != nil {
			return nil, err
		}
		if err := sleep(ctx, max(gcPauseMin, gcShare*time.Since(began))); err != nil {
			return nil, err
		}
	}
	return d.End, nil
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
