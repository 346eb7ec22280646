package ranges

import (
	"fmt"
	"testing"
	"time"

	"github.com/flotilladb/flotilla/proto/peerpb"
)

// A leader is found to be corrupt while it sends a snapshot. Nothing more of it goes to the new
// replica: with a copy there, nobody could say any more who is right.
func TestCondemnedSendsNoMore(t *testing.T) {
	c := calmClusterOf(t, 1, 4)
	leader, fourth := c.holder(2), c.nodes[3]
	other := c.nodes[leader.id%3]
	for i := range 8 {
		acked := c.acked
		c.putAt(t, leader, fmt.Sprintf("value%d%0200d", i, i), func() {}, func() bool { return c.acked > acked })
	}
	r := leader.store.Replica(2)
	changeValue(t, leader.eng, "k")
	if err := c.askChange(t, leader, &peerpb.ChangeReplicas{Learner: 4, Node: 4}); err != nil {
		t.Fatal(err)
	}
	key := snapshotKey{2, 4}
	c.until(t, 5*time.Second, "a part of the snapshot is there", func() bool { x := fourth.receivers[key]; return x != nil && x.next > 1 })
	if leader.senders[key] == nil || fourth.receivers[key].Incoming() != nil {
		t.Fatal("it is over")
	}
	leader.store.Condemn(2, r.id, false)
	c.until(t, 20*time.Second, "the fourth has a replica", func() bool {
		own, good := fourth.store.Replica(2), other.store.Replica(2)
		return own != nil && own.Applied() == good.Applied() && good.Leader() != leader.id
	})
	want, err := rowsOf(other.eng, r.desc.Span(), make(map[string]bool))
	if err != nil {
		t.Fatal(err)
	}
	got, err := rowsOf(fourth.eng, r.desc.Span(), make(map[string]bool))
	if err != nil {
		t.Fatal(err)
	}
	if got != want {
		t.Fatal("it has what the condemned one had")
	}
}
