package node

import (
	"context"
	"sync"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/mvcc"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/range"
)

// Counts is the store's index of live keys, with the lock that mvcc.CountIndex
// asks for. It is not kept before somebody counts: until then a write pays
// nothing for it.
type Counts struct {
	reader engine.Reader
	build  chan struct{} // has room for one: there may be a part to build
	mu     struct {
		sync.Mutex
		index *mvcc.CountIndex // nil: nobody ever counted
	}
}

// buildRows is how many rows one step of building looks at.
const buildRows = 16 << 10

// NewCounts returns an index of nothing.
func NewCounts(r engine.Reader) *Counts {
	return &Counts{reader: r, build: make(chan struct{}, 1)}
}

// Commit commits to the engine and tells the index. The two are one to whoever
// counts.
func (c *Counts) Commit(applied []ranges.Applied, commit func() error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := commit(); err != nil {
		return err
	}
	if c.mu.index == nil {
		return nil
	}
	for i := range applied {
		for _, u := range applied[i].Updates {
			c.mu.index.Apply(metapb.Revision(u.Revision), u.Mutations)
		}
	}
	return nil
}

// Forget has the live keys of a span counted anew: a snapshot has replaced them.
func (c *Counts) Forget(span metapb.Span) {
	start, end, ok := keys.UserBounds(span)
	if !ok {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.index != nil {
		c.mu.index.Forget(start, end)
	}
}

// Count returns the number of live keys of [start, end) at a revision.
func (c *Counts) Count(start, end []byte, at metapb.Revision) (int64, error) {
	c.mu.Lock()
	if c.mu.index == nil {
		c.mu.index = mvcc.NewCountIndex(nil, nil)
	}
	plan := c.mu.index.Plan(start, end, at)
	c.mu.Unlock()
	if !plan.Complete {
		select {
		case c.build <- struct{}{}:
		default:
		}
	}
	scanned, err := mvcc.CountScan(c.reader, plan.Scans, at)
	return plan.Known + scanned, err
}

// Live returns the number of live keys now, -1 if it is not known.
func (c *Counts) Live() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.index == nil {
		return -1
	}
	if n, ok := c.mu.index.Live(); ok {
		return n
	}
	return -1
}

// run builds what of the index is not known, step by step, when somebody met
// it.
func (c *Counts) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.build:
		}
		for ctx.Err() == nil {
			task := c.Begin()
			if task == nil || !c.Finish(task, task.Run()) {
				break
			}
		}
	}
}

// Begin returns the next part to build, nil if there is none. It is run without
// the lock, beside commits, and then given to Finish.
func (c *Counts) Begin() *mvcc.CountTask {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.index == nil {
		return nil
	}
	task, err := c.mu.index.Begin(c.reader, buildRows)
	if err != nil {
		return nil
	}
	return task
}

// Finish takes in a part that was run, with what its run returned; false if it
// failed.
func (c *Counts) Finish(task *mvcc.CountTask, runErr error) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.index.Finish(task) == nil && runErr == nil
}
