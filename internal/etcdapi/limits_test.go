package etcdapi

import (
	"math/rand/v2"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
)

// entryOf is the log entry that etcd would write; its number has 9 bytes.
func entryOf(m proto.Message) *pb.InternalRaftRequest {
	r := &pb.InternalRaftRequest{Header: &pb.RequestHeader{ID: 1 << 60}}
	switch m := m.(type) {
	case *pb.PutRequest:
		r.Put = m
	case *pb.DeleteRangeRequest:
		r.DeleteRange = m
	case *pb.TxnRequest:
		r.Txn = m
	}
	return r
}

// Around every request's own size, the limit cuts exactly where etcd's does.
func TestTooLargeIsEtcdsLimit(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	for range 300 {
		put, del, txn := randomPut(rng), randomDelete(rng), randomTxn(rng, 2)
		put.Value = make([]byte, rng.IntN(40000))
		for _, tc := range []struct {
			m     proto.Message
			about int
		}{{put, aboutPut(put)}, {del, aboutDelete(del)}, {txn, aboutTxn(txn)}} {
			size := proto.Size(entryOf(tc.m))
			for limit := size - 2; limit <= size+2; limit++ {
				if got := tooLarge(tc.m, tc.about, limit); got != (size > limit) {
					t.Fatalf("%v: etcd's entry has %d bytes, limit %d, too large: %v", tc.m, size, limit, got)
				}
			}
			if exact := sizeNested(proto.Size(tc.m)); exact > tc.about {
				t.Fatalf("%v: about %d bytes, really %d", tc.m, tc.about, exact)
			}
		}
	}
}

func TestQuotaCost(t *testing.T) {
	put := func(n int) *pb.RequestOp {
		return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: make([]byte, n)}}}
	}
	txn := &pb.TxnRequest{
		Success: []*pb.RequestOp{put(10), {Request: &pb.RequestOp_RequestDeleteRange{}}},
		Failure: []*pb.RequestOp{{Request: &pb.RequestOp_RequestTxn{RequestTxn: &pb.TxnRequest{
			Success: []*pb.RequestOp{put(1), put(2)},
		}}}},
	}
	if got := txnCost(txn); got != 2*256+3 {
		t.Fatalf("cost %d, want that of the nested branch", got)
	}
	if got := txnCost(&pb.TxnRequest{}); got != 0 {
		t.Fatalf("an empty txn costs %d", got)
	}
}

func TestReadOnlyTxn(t *testing.T) {
	get := &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{}}}
	nested := &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: &pb.TxnRequest{}}}
	for _, tc := range []struct {
		r    *pb.TxnRequest
		want bool
	}{
		{&pb.TxnRequest{}, true},
		{&pb.TxnRequest{Success: []*pb.RequestOp{get}, Failure: []*pb.RequestOp{get}}, true},
		{&pb.TxnRequest{Success: []*pb.RequestOp{get, nested}}, false},
		{&pb.TxnRequest{Failure: []*pb.RequestOp{{}}}, false},
	} {
		if got := readOnly(tc.r); got != tc.want {
			t.Errorf("%v: read only %v", tc.r, got)
		}
	}
}
