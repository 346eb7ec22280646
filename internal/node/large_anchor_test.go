package node

import (
	"bytes"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/flotilladb/flotilla/range"
)

// A transaction over ranges with one very long key and many short ones takes about as much
// as its request: each intent names the key where its outcome will be, and that is not the
// long one. An entry that the transport does not take would be the last of its range.
func TestTxnWithOneLongKey(t *testing.T) {
	const count, keyBytes = 60, 600 << 10
	for _, deletes := range []bool{false, true} {
		c := newTrio(t, ranges.Config{})
		c.grow(2)
		for i, n := range c.nodes {
			long := append([]byte{'a', byte(i)}, bytes.Repeat([]byte{'x'}, keyBytes)...)
			req := &pb.TxnRequest{Success: []*pb.RequestOp{{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: long}}}}}
			var ids []uint64
			for k := range count {
				put := &pb.PutRequest{Key: append(trioKey(1), byte(k))}
				op := &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: put}}
				if deletes {
					ids = append(ids, n.request(put))
					del := &pb.DeleteRangeRequest{Key: put.Key, RangeEnd: append(bytes.Clone(put.Key), 1)}
					op = &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: del}}
				}
				req.Success = append(req.Success, op)
			}
			c.answered(n, ids...)
			c.frameMax, c.largest = testFrameMax, 0
			id := n.request(req)
			c.answered(n, id)
			if err := n.results[id].Err; err != nil {
				t.Errorf("store %d, deletes %t: %v", n.id, deletes, err)
			}
			if c.largest > testFrameMax {
				t.Errorf("store %d, deletes %t: a frame had %d bytes", n.id, deletes, c.largest)
			}
		}
	}
}
