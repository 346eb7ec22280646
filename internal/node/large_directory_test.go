package node

import (
	"testing"

	"github.com/flotilladb/flotilla/range"
	"github.com/flotilladb/flotilla/router"
)

// A store that starts tells the directory of all its ranges, and one that does not know them
// reads it, in frames that the transport takes, however many ranges there are and however
// long the keys between them.
func TestLargeDirectory(t *testing.T) {
	const count, keyBytes = 20, 300 << 10
	c := newTrio(t, ranges.Config{})
	c.grow(1)
	for i := range count {
		key := append(trioKey(i), make([]byte, keyBytes)...)
		id := c.nodes[0].request(&router.SplitRequest{Key: key})
		c.answered(c.nodes[0], id)
		c.must(c.nodes[0].results[id].Err)
	}
	told := func() bool {
		for _, n := range c.nodes {
			if len(n.core.report) > 0 || n.core.reporting != nil || n.core.lookingUp {
				return false
			}
		}
		return true
	}
	c.until("the directory knows all", told)
	c.frameMax, c.largest = testFrameMax, 0
	for _, n := range c.nodes {
		n.in, n.synced = nil, nil
		c.open(n)
		c.until("leaders", c.led)
		c.until("the directory knows all", told)
		n.core.stale = true
		c.until("it looks", func() bool { return n.core.lookingUp })
		c.until("it has looked", told)
	}
	if c.largest > testFrameMax {
		t.Errorf("a frame had %d bytes", c.largest)
	}
}
