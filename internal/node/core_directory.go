package node

import (
	"maps"
	"slices"
	"time"

	"github.com/flotilladb/flotilla/placement"
	"github.com/flotilladb/flotilla/router"
)

// What this store learns of its ranges is told to the directory, which the system range has.

// mayTell reports whether there is something to tell the directory now. Not
// while the node stops: its next start tells everything.
func (c *Core) mayTell() bool {
	reaches := c.seq != nil || c.many && c.serves
	return c.reporting == nil && len(c.report) > 0 && reaches && !c.stopping && !c.now.Before(c.reportAt)
}

// tellBytesMax bounds what the directory is told at once, beside the first: a store that
// starts tells of all its ranges, and that in one frame, and one entry of the log.
const tellBytesMax = 1 << 20

// tellDirectory reports changed ranges to the system range, or as many as go at once.
func (c *Core) tellDirectory() bool {
	if !c.mayTell() {
		return false
	}
	op := &placement.DirectoryOp{}
	bytes := 0
	for _, id := range slices.Sorted(maps.Keys(c.report)) {
		if c.store.Replica(id) != nil {
			d := c.report[id]
			if bytes += d.SizeVT(); bytes > tellBytesMax && len(op.Descriptors) > 0 {
				break
			}
			op.Descriptors = append(op.Descriptors, d)
		}
		delete(c.report, id)
	}
	c.reporting = op
	c.router.Request(reportID, &router.SystemRequest{Op: op}, c.now)
	return true
}

// reportDelay is how long the directory is left alone after it was not reached.
const reportDelay = 100 * time.Millisecond

// reported takes the system range's answer. What it did not take is told again
// after a while, unless something newer is known by now. Not at once: a router
// that takes nothing says so at once.
func (c *Core) reported(err error) {
	op := c.reporting
	c.reporting = nil
	if err == nil {
		return
	}
	c.reportAt = c.now.Add(reportDelay)
	for _, d := range op.Descriptors {
		if now := c.report[d.ID()]; now == nil || now.Generation < d.Generation {
			c.report[d.ID()] = d
		}
	}
}
