package node

import (
	"context"
	"errors"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/flotilladb/flotilla/mvcc"
)

// Under an alarm that data is corrupt nothing is served, and nothing is compacted: what
// would tell how it came about is kept.
func TestCorruptAlarm(t *testing.T) {
	c := newNetCluster(t, 3)
	c.start(0, 1, 2)
	rev := c.put(0, "k", "v")
	c.put(0, "k", "w")
	n := c.nodes[1]
	alarm := &pb.AlarmRequest{Action: pb.AlarmRequest_ACTIVATE, Alarm: pb.AlarmType_CORRUPT, MemberID: 1}
	if _, err := n.Alarm(t.Context(), alarm); err != nil {
		t.Fatal(err)
	}
	kv := n.KV()
	for name, ask := range map[string]func(context.Context) error{
		"put": func(ctx context.Context) error {
			_, err := kv.Put(ctx, &pb.PutRequest{Key: []byte("k")})
			return err
		},
		"get": func(ctx context.Context) error {
			_, err := kv.Range(ctx, &pb.RangeRequest{Key: []byte("k")})
			return err
		},
		"stream": func(ctx context.Context) error {
			return kv.RangeStream(ctx, &pb.RangeRequest{Key: []byte("k")}, func(*pb.RangeResponse) error { return nil })
		},
		"delete": func(ctx context.Context) error {
			_, err := kv.DeleteRange(ctx, &pb.DeleteRangeRequest{Key: []byte("k")})
			return err
		},
		"txn": func(ctx context.Context) error {
			_, err := kv.Txn(ctx, &pb.TxnRequest{Success: []*pb.RequestOp{rangeOp("k")}})
			return err
		},
		"compact": func(ctx context.Context) error {
			_, err := kv.Compact(ctx, &pb.CompactionRequest{Revision: rev})
			return err
		},
	} {
		if err := ask(t.Context()); !errors.Is(err, mvcc.ErrCorrupt) {
			t.Errorf("%s while data is corrupt: %v", name, err)
		}
	}
}
