package node

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/peerpb"
	"github.com/flotilladb/flotilla/range"
	"github.com/flotilladb/flotilla/router"
)

// A lease may have more keys than the transport takes at once, in a range or at its home. A
// frame that it does not take would be sent again until the session is given up, with all that
// others wait for, and that as often as the revoke is tried; an entry of the log that it does
// not take would be the range's last. So the keys are listed in pieces, and a revoke's intent
// names the lease. To a cluster that has a node of an older version it is refused.
func TestRevokeOfMuch(t *testing.T) {
	const count, keyBytes = 48, 200 << 10
	for i := range 5 {
		c := newTrio(t, ranges.Config{RevokeBytesMax: 1 << 20, EntryBytesMax: 2 << 20})
		c.grow(12)
		n, prefix, end := c.nodes[i%3], trioKey(8), trioKey(9)
		if i == 3 { // at its home alone
			prefix, end = trioKey(0), trioKey(1)
		}
		if i == 4 {
			for _, n := range c.nodes {
				n.core.store.SetFormat(metapb.FormatFirst)
			}
		}
		ask := func(n *trioNode, req any) (any, error) {
			id := n.request(req)
			c.answered(n, id)
			return n.results[id].Resp, n.results[id].Err
		}
		must := func(n *trioNode, req any) (resp any) {
			t.Helper()
			resp, err := ask(n, req)
			c.must(err)
			return resp
		}
		must(n, &pb.LeaseGrantRequest{ID: 7, TTL: 60})
		must(n, &pb.PutRequest{Key: trioKey(0), Lease: 7})
		for i := range count {
			key := append(append(bytes.Clone(prefix), byte(i)), make([]byte, keyBytes)...)
			must(n, &pb.PutRequest{Key: key, Lease: 7})
		}
		must(n, &pb.PutRequest{Key: append(bytes.Clone(prefix), 8, 'x')}) // among them, and not the lease's
		c.frameMax, c.largest = 2*testFrameMax, 0
		if i == 4 {
			for _, req := range []any{&router.RevokeRequest{ID: 7}, &pb.LeaseTimeToLiveRequest{ID: 7, Keys: true}} {
				if _, err := ask(n, req); !errors.Is(err, peerpb.ErrTooLarge) {
					t.Errorf("store %d: %T is answered with %v", n.id, req, err)
				}
			}
			must(n, &pb.DeleteRangeRequest{Key: prefix, RangeEnd: end}) // without its keys it ends
			must(n, &router.RevokeRequest{ID: 7})
			continue
		}
		ttl := must(n, &pb.LeaseTimeToLiveRequest{ID: 7, Keys: true}).(*pb.LeaseTimeToLiveResponse)
		if len(ttl.Keys) != count+1 || !slices.IsSortedFunc(ttl.Keys, bytes.Compare) {
			t.Errorf("store %d: %d keys are listed", n.id, len(ttl.Keys))
		}
		at := must(n, &router.RevokeRequest{ID: 7}).(*pb.DeleteRangeResponse)
		if at.Deleted != count+1 {
			t.Errorf("store %d: %d keys are said to be deleted", n.id, at.Deleted)
		}
		for _, other := range c.nodes {
			put := must(other, &pb.PutRequest{Key: append(bytes.Clone(prefix), 'x'), Value: []byte("v")}).(*pb.PutResponse)
			if put.Header.Revision <= at.Header.Revision {
				t.Errorf("store %d: revoked at %d, put at %d", n.id, at.Header.Revision, put.Header.Revision)
			}
		}
		if c.largest > 2*testFrameMax {
			t.Errorf("store %d: a frame had %d bytes", n.id, c.largest)
		}
		left := must(n, &pb.DeleteRangeRequest{Key: prefix, RangeEnd: end}).(*pb.DeleteRangeResponse)
		ttl = must(n, &pb.LeaseTimeToLiveRequest{ID: 7, Keys: true}).(*pb.LeaseTimeToLiveResponse)
		if left.Deleted != 2 || ttl.TTL != -1 {
			t.Errorf("store %d: %d keys were left, of a lease that has %d", n.id, left.Deleted, ttl.TTL)
		}
	}
}
