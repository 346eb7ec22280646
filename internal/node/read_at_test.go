package node

import (
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/flotilladb/flotilla/router"
)

// A transaction over ranges that reads at the revision that a put in the batch
// before its prepare is about to get sees that put.
func TestTxnReadsAtRevisionUnderWay(t *testing.T) {
	r := newCoreRun(t, CoreConfig{})
	r.request(&router.SplitRequest{Key: []byte("m")})
	r.run()
	next := int64(r.core.Current()) + 1
	first := r.request(&pb.PutRequest{Key: []byte("a"), Value: []byte("new")})
	// The second range answers when this is applied, and so the first put.
	r.request(&pb.PutRequest{Key: []byte("z")})
	txn := r.request(&pb.TxnRequest{Success: []*pb.RequestOp{
		{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: []byte("a"), Revision: next}}},
		{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: &pb.DeleteRangeRequest{Key: []byte("z")}}},
	}})
	r.run()
	if got := r.results[first].Resp.(*pb.PutResponse).Header.Revision; got != next {
		t.Fatalf("put at %d, want %d", got, next)
	}
	if err := r.results[txn].Err; err != nil {
		t.Fatal(err)
	}
	resp := r.results[txn].Resp.(*pb.TxnResponse)
	if kvs := resp.Responses[0].GetResponseRange().Kvs; len(kvs) != 1 || kvs[0].ModRevision != next {
		t.Fatalf("at revision %d: %v", next, kvs)
	}
}
