package node

import (
	"testing"

	"github.com/flotilladb/flotilla/proto/metapb"
)

// The term in headers does not go down on a node that has no replica of the system range:
// who leads it may be known there, and the term not, or neither.
func TestTermDoesNotGoDown(t *testing.T) {
	p := NewPublished()
	for _, seen := range []struct {
		leader metapb.StoreID
		term   uint64
		want   uint64
	}{
		{2, 7, 7}, {0, 0, 7}, {3, 0, 7}, {3, 9, 9}, {2, 8, 9},
	} {
		p.SystemLeader(seen.leader, seen.term)
		if got := p.term.Load(); got != seen.want || p.leader.Load() != uint64(seen.leader) {
			t.Errorf("leader %d in term %d: leader %d in term %d, want term %d", seen.leader, seen.term, p.leader.Load(), got, seen.want)
		}
	}
}
