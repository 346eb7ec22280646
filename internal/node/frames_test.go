package node

import (
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/flotilladb/flotilla/range"
)

// testFrameMax stands for what the transport takes, which is more.
const testFrameMax = 4 << 20

// A store that was away lacks something of many ranges. What their leaders on another
// store send it at once is no frame that the transport does not take: each try would be
// as large, and be lost.
func TestManyRangesCatchUp(t *testing.T) {
	const count, valueBytes = 40, 600 << 10
	c := newTrio(t, ranges.Config{})
	c.grow(count)
	away, other := c.nodes[2], c.nodes[0]
	away.down = true
	c.until("leaders without it", c.led)
	c.frameMax, c.largest = testFrameMax, 0
	for i := range count {
		id := other.request(&pb.PutRequest{Key: trioKey(i), Value: make([]byte, valueBytes)})
		c.answered(other, id)
		c.must(other.results[id].Err)
	}
	away.down, away.in = false, nil
	c.until("it has all", func() bool {
		for _, n := range c.nodes[:2] {
			for _, id := range n.core.Store().IDs() {
				if r := n.core.Store().Replica(id); r.Leads() && away.core.Store().Replica(id).Applied() < r.Applied() {
					return false
				}
			}
		}
		return true
	})
	if c.largest > testFrameMax {
		t.Errorf("a frame had %d bytes", c.largest)
	}
}

// Many large writes that come at once through a store that does not lead their range go
// in frames that the transport takes.
func TestManyLargeWritesAtOnce(t *testing.T) {
	const count, valueBytes = 24, 600 << 10
	c := newTrio(t, ranges.Config{})
	c.grow(1)
	c.frameMax, c.largest = testFrameMax, 0
	for _, n := range c.nodes {
		var ids []uint64
		for i := range count {
			ids = append(ids, n.request(&pb.PutRequest{Key: trioKey(i), Value: make([]byte, valueBytes)}))
		}
		c.answered(n, ids...)
		for _, id := range ids {
			c.must(n.results[id].Err)
		}
	}
	if c.largest > testFrameMax {
		t.Errorf("a frame had %d bytes", c.largest)
	}
}
