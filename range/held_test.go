package ranges

import (
	"fmt"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/peerpb"
)

// A log does not grow for ever behind a snapshot that does not get on: the snapshot is
// given up, and begins anew.
func TestHeldLogIsBounded(t *testing.T) {
	c := calmCluster(t, 1)
	n := c.holder(2)
	const held, behind = 30 << 10, 4 << 10
	n.store.cfg.LogHeldBytesMax, n.store.cfg.LogBehindBytesMax = held, behind
	r := n.store.Replica(2)
	to := metapb.ReplicaID(uint64(n.id)%3 + 1)
	x, err := n.store.BeginSnapshot(2, to, 200)
	if err != nil {
		t.Fatal(err)
	}
	most := uint64(0)
	for i := range 400 {
		value := fmt.Sprintf("held%d", i) + strings.Repeat("x", 500)
		c.request(n, keys.User([]byte("k")), &clusterRequest{key: "k", value: value, at: c.issued,
			body: &peerpb.Write{Req: &pb.PutRequest{Key: []byte("k"), Value: []byte(value)}}})
		if err := c.run(10 * time.Millisecond); err != nil {
			t.Fatal(err)
		}
		most = max(most, r.group.LogBytes())
		if c.lost > 0 {
			break
		}
	}
	if c.lost != 1 || most < held-behind || most > held+2*behind {
		t.Fatalf("%d snapshots were given up, the log had %d bytes", c.lost, most)
	}
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	n.store.SnapshotEnded(2, to, false)
	if x, err = n.store.BeginSnapshot(2, to, 200); err != nil {
		t.Fatalf("it does not begin anew: %v", err)
	}
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	n.store.SnapshotEnded(2, to, true)
}
