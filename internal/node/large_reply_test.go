package node

import (
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/flotilladb/flotilla/range"
)

// A transaction that changes something and shows much is answered through any store, in
// frames that the transport takes: one that it does not take would be sent again until the
// session is given up, with all that others wait for.
func TestTxnThatShowsMuch(t *testing.T) {
	const count, valueBytes = 24, 600 << 10
	c := newTrio(t, ranges.Config{})
	c.grow(1)
	for i := range count {
		id := c.nodes[0].request(&pb.PutRequest{Key: []byte{'v', byte(i)}, Value: make([]byte, valueBytes)})
		c.answered(c.nodes[0], id)
		c.must(c.nodes[0].results[id].Err)
	}
	c.frameMax, c.largest = 2*testFrameMax, 0
	for _, n := range c.nodes {
		id := n.request(&pb.TxnRequest{Success: []*pb.RequestOp{
			{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte("u")}}},
			{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: []byte("v"), RangeEnd: []byte("w")}}},
		}})
		c.answered(n, id)
		c.must(n.results[id].Err)
		resp := n.results[id].Resp.(*pb.TxnResponse)
		if got := len(resp.Responses[1].GetResponseRange().Kvs); got != count {
			t.Errorf("store %d: shows %d keys, want %d", n.core.cfg.StoreID, got, count)
		}
	}
	if c.largest > 2*testFrameMax {
		t.Errorf("a frame had %d bytes", c.largest)
	}
}
