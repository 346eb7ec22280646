package node

import (
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/flotilladb/flotilla/router"
)

// A transaction over ranges holds its keys for three syncs: intents, record, end.
// That its record is forgotten shares the first of the next transaction.
func TestTxnSyncs(t *testing.T) {
	r := newCoreRun(t, CoreConfig{})
	r.request(&router.SplitRequest{Key: []byte("m")})
	r.run()
	const txns = 20
	for range txns {
		r.request(&pb.TxnRequest{Success: []*pb.RequestOp{
			{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte("a")}}},
			{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte("z")}}},
		}})
	}
	syncs := 0
	for r.core.HasReady() || r.eng.PendingSyncs() > 0 {
		if r.core.HasReady() {
			r.step()
			continue
		}
		r.eng.CompleteSync(1)
		syncs++
	}
	if syncs > 3*txns+1 {
		t.Errorf("%d syncs for %d transactions", syncs, txns)
	}
}
