package node

import (
	"testing"
	"time"

	"github.com/flotilladb/flotilla/placement"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/range"
	"github.com/flotilladb/flotilla/router"
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

// lookCounter counts the planners' looks at all ranges.
type lookCounter struct {
	trio  *trio
	last  []*placement.StoreState
	looks int
}

func countLooks(c *trio) *lookCounter {
	return &lookCounter{c, make([]*placement.StoreState, len(c.nodes)), 0}
}

// now counts those since the last call: each has stores of its own.
func (l *lookCounter) now() int {
	for i, n := range l.trio.nodes {
		if s := n.core.storesThen; len(s) > 0 && &s[0] != l.last[i] {
			l.looks, l.last[i] = l.looks+1, &s[0]
		}
	}
	return l.looks
}

// One look plans all transfers that make leaders even, and they are begun a part after the
// other: to look at every range again for each part would cost more than the transfers do.
// When there is nothing to do the next look is late, but not after a split, nor when a replica
// is found to be corrupt.
func TestLeadersSpreadInFewLooks(t *testing.T) {
	const count = 1000
	c := newTrio(t, ranges.Config{})
	c.cut(count)
	for _, n := range c.nodes {
		n.core.cfg.Planner = &placement.Limits{}
	}
	l, most := countLooks(c), 0
	c.until("leaders are even", func() bool {
		l.now()
		for _, n := range c.nodes {
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
	if l.looks > 2 {
		t.Errorf("%d looks", l.looks)
	}
	if most > transfersAtOnce {
		t.Errorf("%d transfers at a time", most)
	}
	next := func() time.Duration {
		looks := l.now()
		return c.until("another look", func() bool { return l.now() > looks })
	}
	for range 4 {
		next()
	}
	const quiet = count / planQuietRanges * planInterval
	if took := next(); took < quiet {
		t.Errorf("%v after a look that found nothing to do there is another", took)
	}
	for _, tc := range []struct {
		name string
		req  any
	}{
		{"a split", &router.SplitRequest{Key: append(trioKey(count/2), '5')}},
		{"a corrupt replica", &router.SystemRequest{Op: &placement.CorruptOp{Range: DataRange, Replica: 2, Member: 2}}},
	} {
		for next() < quiet { // until there is nothing to do again
		}
		a := c.nodes[0]
		id := a.request(tc.req)
		c.answered(a, id)
		c.must(a.results[id].Err)
		if took := next(); took >= quiet/2 {
			t.Errorf("%v until somebody looks after %s", took, tc.name)
		}
	}
}
