package watchfeed

import (
	"fmt"
	"testing"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/proto/cmdpb"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/txnpb"
)

// A large delete comes as many updates of one revision. A watch that catches up
// from the rings gets all of them, though they are more than a window has room for.
func TestManyUpdatesOfOneRevision(t *testing.T) {
	for _, at := range []Revision{3, 2} { // where the watch begins: at the delete, or before
		core, err := NewCore(CoreConfig{Reader: engine.NewMem(), RingBytesMax: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		const n = ringPrevsMax + 50
		core.Step(&Step{
			Descriptors: []*metapb.Descriptor{{RangeId: 2, Start: keys.User(nil), Generation: 1}},
			Bounds:      []RangeBound{{2, NoBound}}, Compacted: -1, Current: 1,
		})
		up := RangeUpdates{Range: 2, Updates: []*cmdpb.Update{{Revision: 2, Mutations: []*txnpb.Mutation{{Key: []byte("a"), Tombstone: true}}}}}
		for i := range n {
			m := &txnpb.Mutation{Key: fmt.Appendf(nil, "k%03d", i), Sub: uint32(i), Tombstone: true}
			up.Updates = append(up.Updates, &cmdpb.Update{Revision: 3, Mutations: []*txnpb.Mutation{m}})
		}
		core.Step(&Step{Applied: []RangeUpdates{up}, Compacted: -1, Current: 3})
		f := core.byRange[2]
		win := core.ringWindow(&place{group: &group{lo: f, hi: f, released: 3}, tree: &treeNode{}}, at, true)
		if at == 2 && (win.through != 2 || len(win.events) != 1) {
			t.Errorf("from 2: %d events through %d, want 1 through 2", len(win.events), win.through)
		}
		if at == 3 && (win.through != 3 || len(win.events) != n) {
			t.Errorf("from 3: %d events through %d, want %d through 3", len(win.events), win.through, n)
		}
	}
}
