package mvcc

import (
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
)

// hashHistory is the history whose hashes testdata/hash holds, as etcd 3.7.3
// answered them. Its first request gets revision 2.
func hashHistory() []proto.Message {
	put := func(key, value string, lease int64) *pb.PutRequest {
		return &pb.PutRequest{Key: []byte(key), Value: []byte(value), Lease: lease}
	}
	del := func(key, end string) *pb.DeleteRangeRequest {
		r := &pb.DeleteRangeRequest{Key: []byte(key)}
		if end != "" {
			r.RangeEnd = []byte(end)
		}
		return r
	}
	return []proto.Message{
		put("a", "1", 0), put("b", "2", 1), put("a", "3", 0), del("a", ""),
		&pb.TxnRequest{Success: []*pb.RequestOp{
			{Request: &pb.RequestOp_RequestPut{RequestPut: put("c", "4", 0)}},
			{Request: &pb.RequestOp_RequestPut{RequestPut: put("d", "", 2)}},
			{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: del("b", "")}},
		}},
		put("a", "5", 0), put("c", "a longer value, so that its length takes two bytes in the checksum's powers: "+
			"................................................................................", 0),
		del("c", "e"), put("e", "6", 0), del("a", "\x00"), put("f", "7", 0), del("f", ""),
	}
}
