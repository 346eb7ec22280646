package node

import (
	"bytes"
	"errors"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/flotilladb/flotilla/proto/peerpb"
	"github.com/flotilladb/flotilla/range"
	"github.com/flotilladb/flotilla/router"
)

// The revoke of a lease with more keys than the transport takes at once is refused. A frame
// that it does not take would be sent again until the session is given up, with all that
// others wait for, and that as often as the revoke is tried; an entry of the log that it
// does not take would be the range's last.
func TestRevokeOfMuch(t *testing.T) {
	const count, keyBytes = 48, 200 << 10
	for i := range 4 {
		c := newTrio(t, ranges.Config{RevokeBytesMax: 1 << 20})
		c.grow(12)
		n, prefix, end := c.nodes[i%3], trioKey(8), trioKey(9)
		if i == 3 { // at its home alone
			prefix, end = trioKey(0), trioKey(1)
		}
		ask := func(n *trioNode, req any) error {
			id := n.request(req)
			c.answered(n, id)
			return n.results[id].Err
		}
		c.must(ask(n, &pb.LeaseGrantRequest{ID: 7, TTL: 60}))
		c.must(ask(n, &pb.PutRequest{Key: trioKey(0), Lease: 7}))
		for i := range count {
			key := append(append(bytes.Clone(prefix), byte(i)), make([]byte, keyBytes)...)
			c.must(ask(n, &pb.PutRequest{Key: key, Lease: 7}))
		}
		c.frameMax, c.largest = 2*testFrameMax, 0
		for _, req := range []any{&router.RevokeRequest{ID: 7}, &pb.LeaseTimeToLiveRequest{ID: 7, Keys: true}} {
			id := n.request(req)
			for range 500 {
				c.step()
			}
			if res, ok := n.results[id]; !ok || !errors.Is(res.Err, peerpb.ErrTooLarge) {
				t.Errorf("store %d: %T is answered %t, with %v", n.id, req, ok, res.Err)
			}
		}
		for _, other := range c.nodes {
			c.must(ask(other, &pb.PutRequest{Key: append(bytes.Clone(prefix), 'x'), Value: []byte("v")}))
		}
		if c.largest > 2*testFrameMax {
			t.Errorf("store %d: a frame had %d bytes", n.id, c.largest)
		}
		// Without its keys it ends.
		c.must(ask(n, &pb.DeleteRangeRequest{Key: prefix, RangeEnd: end}))
		c.must(ask(n, &router.RevokeRequest{ID: 7}))
	}
}
