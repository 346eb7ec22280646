package node

import (
	"testing"

	"github.com/flotilladb/flotilla/placement"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/range"
)

// Transfers for balance can wait for the next look, what repairs and what empties a store
// cannot.
func TestOnlyBalancesLeaders(t *testing.T) {
	move, transfer := placement.Operator{Move: placement.Move{To: 2}}, placement.Operator{TransferTo: 2}
	for _, tc := range []struct {
		name    string
		at      []placement.Operator
		leaving bool
		want    bool
	}{
		{"nothing", nil, false, true},
		{"transfers", []placement.Operator{transfer, transfer}, false, true},
		{"a move as well", []placement.Operator{transfer, move}, false, false},
		{"a store leaves", []placement.Operator{transfer}, true, false},
	} {
		c := &Core{}
		c.operations.at = make(map[metapb.RangeID]*operation)
		for i, op := range tc.at {
			c.operations.at[metapb.RangeID(i+1)] = &operation{op: op}
		}
		stores := []placement.StoreState{{ID: 1}, {ID: 2, Leaving: tc.leaving}}
		if got := c.onlyBalancesLeaders(stores); got != tc.want {
			t.Errorf("%s: %t", tc.name, got)
		}
	}
}

// One look plans all transfers that make leaders even, and they are begun a part after the
// other: to look at every range again for each part would cost more than the transfers do.
func TestLeadersSpreadInFewLooks(t *testing.T) {
	const count = 1000
	c := newTrio(t, ranges.Config{})
	c.cut(count)
	looks, most, begin := 0, 0, c.now
	last := make([]*placement.StoreState, len(c.nodes))
	for _, n := range c.nodes {
		n.core.cfg.Planner = &placement.Limits{}
	}
	c.until("leaders are even", func() bool {
		for i, n := range c.nodes { // each look has stores of its own
			if s := n.core.storesThen; len(s) > 0 && &s[0] != last[i] {
				looks, last[i] = looks+1, &s[0]
			}
			most = max(most, len(n.core.operations.at))
		}
		for _, n := range c.nodes {
			leads := 0
			for _, id := range n.core.Store().IDs() {
				if n.core.Store().Replica(id).Leads() {
					leads++
				}
			}
			if leads < 300 || leads > 370 {
				return false
			}
		}
		return c.led()
	})
	t.Logf("%d looks, %v, at most %d at a time", looks, c.now.Sub(begin), most)
	if looks > 2 {
		t.Errorf("%d looks", looks)
	}
	if most > transfersAtOnce {
		t.Errorf("%d transfers at a time", most)
	}
}
