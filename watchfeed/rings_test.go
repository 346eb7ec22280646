package watchfeed

import (
	"testing"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/proto/cmdpb"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/txnpb"
)

// What a ring gives up because its range comes anew, as by a snapshot, is not kept either,
// also where all rings together have room, and another range has older ones.
func TestRingsKeepNothingThatIsCut(t *testing.T) {
	c, err := NewCore(CoreConfig{Reader: engine.NewMem(), RingBytesMax: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	rev := int64(1)
	put := func(id metapb.RangeID, key string) Step {
		rev++
		m := &txnpb.Mutation{Key: []byte(key), Value: make([]byte, 1000), CreateRevision: rev, Version: 1}
		return Step{
			Applied: []RangeUpdates{{id, []*cmdpb.Update{{Revision: rev, Mutations: []*txnpb.Mutation{m}}}}},
			Current: Revision(rev), Compacted: -1,
		}
	}
	step := func(s Step) { c.Step(&s) }
	step(Step{Current: 1, Compacted: -1, Descriptors: []*metapb.Descriptor{
		{RangeId: 2, Generation: 1, End: []byte("um")}, {RangeId: 3, Generation: 1, Start: []byte("um")},
	}, Bounds: []RangeBound{{2, NoBound}, {3, NoBound}}})
	step(put(2, "a"))
	for range 1000 {
		for range 10 {
			step(put(3, "n"))
		}
		step(Step{Lost: []metapb.RangeID{3}, Current: Revision(rev), Compacted: -1})
	}
	bytes := 0
	for _, u := range c.rings.arrived.all() {
		bytes += u.size
	}
	if bytes > c.cfg.RingBytesMax {
		t.Errorf("%d bytes are kept, %d may be; %d are in the rings", bytes, c.cfg.RingBytesMax, c.rings.bytes)
	}
	if n := c.byRange[2].ring.updates.len(); n != 1 {
		t.Errorf("the ring of the range that stayed has %d updates", n)
	}
}
