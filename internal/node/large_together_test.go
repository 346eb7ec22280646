package node

import (
	"bytes"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/flotilladb/flotilla/range"
)

// Several that ask at once for the keys of a lease that has many are answered, in frames that
// the transport takes, though all answers together are more.
func TestManyKeysOfLeasesAtOnce(t *testing.T) {
	const count, keyBytes, askers = 15, 200 << 10, 6
	c := newTrio(t, ranges.Config{})
	c.grow(1)
	ask := func(req any) {
		id := c.nodes[0].request(req)
		c.answered(c.nodes[0], id)
		c.must(c.nodes[0].results[id].Err)
	}
	ask(&pb.LeaseGrantRequest{ID: 7, TTL: 60})
	for i := range count {
		ask(&pb.PutRequest{Key: append([]byte{'v', byte(i)}, make([]byte, keyBytes)...), Lease: 7})
	}
	c.frameMax, c.largest = 2*testFrameMax, 0
	for _, n := range c.nodes {
		var ids []uint64
		for range askers {
			ids = append(ids, n.request(&pb.LeaseTimeToLiveRequest{ID: 7, Keys: true}))
		}
		c.answered(n, ids...)
		for _, id := range ids {
			c.must(n.results[id].Err)
			if got := len(n.results[id].Resp.(*pb.LeaseTimeToLiveResponse).Keys); got != count {
				t.Errorf("store %d: the lease has %d keys, want %d", n.id, got, count)
			}
		}
	}
	if c.largest > 2*testFrameMax {
		t.Errorf("a frame had %d bytes", c.largest)
	}
}

// Transactions with long keys that come at once through a store that leads none of their
// ranges go in frames that the transport takes.
func TestManyTxnsWithLongKeysAtOnce(t *testing.T) {
	const keyBytes, askers = 600 << 10, 16
	c := newTrio(t, ranges.Config{})
	c.grow(2)
	c.frameMax, c.largest = testFrameMax, 0
	for _, n := range c.nodes {
		var ids []uint64
		for i := range askers {
			key := append([]byte{'a', byte(i)}, bytes.Repeat([]byte{'x'}, keyBytes)...)
			ids = append(ids, n.request(&pb.TxnRequest{Success: []*pb.RequestOp{
				{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: key}}},
				{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: append(trioKey(1), byte(i))}}},
			}}))
		}
		c.answered(n, ids...)
		for _, id := range ids {
			c.must(n.results[id].Err)
		}
	}
	if c.largest > testFrameMax {
		t.Errorf("a frame had %d bytes", c.largest)
	}
}
