package ranges

import (
	"testing"
	"time"

	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/proto/peerpb"
	"github.com/flotilladb/flotilla/proto/txnpb"
)

// A leader has the intents of a record resolved, and is deposed before it hears of it.
// When it leads again it begins anew: else the record would stay.
func TestSweepEndsWithTheLeader(t *testing.T) {
	c := calmCluster(t, 1)
	n := c.holder(2)
	r, other := n.store.Replica(2), c.nodes[n.id%3]
	rec := &txnpb.Record{
		Id:     &txnpb.TxnID{StoreId: uint64(n.id), StoreStart: n.start + 1, Number: 1},
		Status: txnpb.RecordStatus_COMMITTED, Revision: 1, IntentAddresses: [][]byte{keys.User([]byte("k"))},
	}
	asked := func() {
		t.Helper()
		c.until(t, 5*time.Second, "the intents are to be resolved", func() bool { return len(n.store.pushes) > 0 })
	}
	told := func() {
		for id := range n.store.pushes { // there is one
			n.store.Reply(peerpb.Reply{ID: id, Body: &peerpb.Done{}})
		}
	}
	r.txns.records[keyOf(rec.Id)] = rec
	r.watchRecords()
	asked()
	if err := n.store.Transfer(2, other.id); err != nil {
		t.Fatal(err)
	}
	c.until(t, time.Second, "another store leads", func() bool { return c.holder(2) == other })
	told()
	if err := other.store.Transfer(2, n.id); err != nil {
		t.Fatal(err)
	}
	c.until(t, time.Second, "the first store leads", func() bool { return c.holder(2) == n })
	asked()
	told()
	c.until(t, time.Second, "the record is forgotten", func() bool { return len(r.txns.records) == 0 })
}
