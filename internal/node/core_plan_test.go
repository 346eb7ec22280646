package node

import (
	"testing"

	"github.com/flotilladb/flotilla/placement"
	"github.com/flotilladb/flotilla/proto/metapb"
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
