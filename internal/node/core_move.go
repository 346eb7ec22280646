package node

import (
	"github.com/flotilladb/flotilla/internal/frame"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/peerpb"
	"github.com/flotilladb/flotilla/range"
)

// changes takes what the store has to say about replicas that come and go.
func (c *Core) changes(out *ranges.Output) {
	c.removed = append(c.removed, out.Removed...)
	for _, g := range out.Gone {
		c.sendGone(g.To, &frame.Frame{Gone: []peerpb.Gone{{Range: g.Range, Replica: g.Replica}}})
	}
	for _, g := range out.Present {
		c.sendGone(g.To, &frame.Frame{Present: []peerpb.Gone{{Range: g.Range, Replica: g.Replica}}})
	}
	for i := range out.Installed {
		c.installed(&out.Installed[i])
	}
	for _, w := range out.Snapshots {
		c.wantSnapshot(w)
	}
	if len(out.Snapshots) > 0 {
		c.beginSnapshots()
	}
}

// sendGone sends what may be lost. Where a frame of the same turn can take it, it does.
func (c *Core) sendGone(to metapb.StoreID, f *frame.Frame) {
	if n := len(c.out); n > 0 && c.out[n-1].To == to && len(c.out[n-1].Gone)+len(c.out[n-1].Present) > 0 {
		last := c.out[n-1]
		last.Gone, last.Present = append(last.Gone, f.Gone...), append(last.Present, f.Present...)
		return
	}
	f.Lane, f.From, f.To, f.FromStart = frame.Raft, c.cfg.StoreID, to, c.cfg.StoreStart
	c.out = append(c.out, f)
}
