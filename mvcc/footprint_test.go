package mvcc

import (
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// Of a delete of a span the number of keys is enough to know where nothing else
// of the request writes.
func TestTxnFootprint(t *testing.T) {
	del := func(key, end string) *pb.RequestOp {
		return deleteOp(&pb.DeleteRangeRequest{Key: []byte(key), RangeEnd: []byte(end)})
	}
	put := func(key string) *pb.RequestOp { return putOp(&pb.PutRequest{Key: []byte(key)}) }
	read := func(key, end string) *pb.RequestOp {
		return rangeOp(&pb.RangeRequest{Key: []byte(key), RangeEnd: []byte(end)})
	}
	txn := func(ops ...*pb.RequestOp) *pb.RequestOp {
		return &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: &pb.TxnRequest{Success: ops}}}
	}
	for _, c := range []struct {
		name string
		ops  []*pb.RequestOp
		want string // one letter for each access: d for a delete of that kind
	}{
		{"alone", []*pb.RequestOp{del("a", "c")}, "d"},
		{"to the end of the keyspace", []*pb.RequestOp{del("a", "\x00")}, "d"},
		{"one key", []*pb.RequestOp{del("a", "")}, "-"},
		{"a put beside it", []*pb.RequestOp{put("c"), del("a", "c")}, "-d"},
		{"a put in it", []*pb.RequestOp{put("b"), del("a", "c")}, "--"},
		{"a put in it, of a nested transaction", []*pb.RequestOp{txn(put("b")), txn(del("a", "\x00"))}, "--"},
		{"a read in it", []*pb.RequestOp{read("a", "z"), del("a", "c")}, "-d"},
		{"two that touch", []*pb.RequestOp{del("a", "c"), del("c", "e")}, "dd"},
		{"two that overlap", []*pb.RequestOp{del("a", "d"), del("c", "e")}, "--"},
		{"one in a long one, then one beside both", []*pb.RequestOp{del("a", "k"), del("b", "c"), del("k", "m")}, "--d"},
		{"one that overlaps the first only", []*pb.RequestOp{del("a", "k"), del("b", "c"), del("d", "m"), del("m", "n")}, "---d"},
		{"one that holds nothing", []*pb.RequestOp{del("c", "a"), del("a", "d")}, "-d"},
	} {
		got := ""
		for _, a := range TxnFootprint(&pb.TxnRequest{Success: c.ops}) {
			if a.Deletes {
				got += "d"
			} else {
				got += "-"
			}
		}
		if got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}
