package node

import (
	"testing"

	"github.com/flotilladb/flotilla/placement"
	"github.com/flotilladb/flotilla/proto/metapb"
)

// A planned move to a store that is away is over at once: what it did is in the range's
// descriptor, and the planner may know a better one meanwhile. What was asked for by hand
// goes on.
func TestMovesToAwayStores(t *testing.T) {
	for _, tc := range []struct {
		health placement.StoreHealth
		call   uint64
		stays  bool
	}{
		{placement.Live, 0, true}, {placement.Away, 0, false}, {placement.Lost, 0, false}, {placement.Away, 1, true},
	} {
		c := &Core{}
		o := &operation{op: placement.Operator{ID: placement.OperatorID{Range: 1}, Move: placement.Move{Range: 1, From: 3, To: 4}}, call: tc.call}
		c.operations.at = map[metapb.RangeID]*operation{1: o}
		c.endHopeless(&placement.Picture{
			Stores: []placement.StoreState{{ID: 4, Health: tc.health}},
			Ranges: []placement.RangeState{{Descriptor: &metapb.Descriptor{RangeId: 1}}},
		})
		if stays := c.operations.at[1] == o; stays != tc.stays {
			t.Errorf("%+v: it goes on: %v", tc, stays)
		}
	}
}
