package node

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"github.com/flotilladb/flotilla/mvcc"
	"github.com/flotilladb/flotilla/proto/metapb"
)

// farReads are of keys k00 to k29; old is the revision of an older state.
func farReads(old int64) map[string]*pb.RangeRequest {
	all := func(r *pb.RangeRequest) *pb.RangeRequest {
		r.Key, r.RangeEnd = []byte("k"), []byte("l")
		return r
	}
	return map[string]*pb.RangeRequest{
		"one key":      {Key: []byte("k25")},
		"no key":       {Key: []byte("nothing")},
		"old":          {Key: []byte("k05"), Revision: old},
		"all":          all(&pb.RangeRequest{}),
		"keys":         all(&pb.RangeRequest{KeysOnly: true}),
		"count":        all(&pb.RangeRequest{CountOnly: true}),
		"limit":        all(&pb.RangeRequest{Limit: 12}),
		"filter":       all(&pb.RangeRequest{MinModRevision: 8, MaxModRevision: 20}),
		"filter limit": all(&pb.RangeRequest{MinModRevision: 8, MaxModRevision: 20, Limit: 5}),
		"sorted":       all(&pb.RangeRequest{SortOrder: pb.RangeRequest_DESCEND, SortTarget: pb.RangeRequest_MOD, Limit: 3}),
		"serializable": all(&pb.RangeRequest{Serializable: true, Limit: 2}),
		"from key":     {Key: []byte("k15"), RangeEnd: []byte{0}},
	}
}

// A node that has no replica of anything answers as the others do, whatever is read,
// and in as many pages as it takes.
func TestNodeWithoutReplicas(t *testing.T) {
	c := newNetCluster(t, 4)
	c.start(0, 1, 2)
	value := strings.Repeat("v", 40<<10)
	for i := range 30 {
		c.put(i%3, fmt.Sprintf("k%02d", i), value+fmt.Sprint(i))
	}
	old := c.put(0, "k05", "old")
	last := c.put(1, "k05", "new")
	for _, at := range []string{"k10", "k20"} {
		if _, err := c.nodes[1].client.Split(t.Context(), []byte(at)); err != nil {
			t.Fatal(err)
		}
	}
	c.start(3)
	far := c.nodes[3]
	if ids := far.core.Store().IDs(); len(ids) > 0 {
		t.Fatalf("the node has replicas of %v", ids)
	}
	for name, req := range farReads(old) {
		got, err := far.KV().Range(t.Context(), req)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		want, err := c.nodes[0].KV().Range(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		if !proto.Equal(got, want) || got.Header.Revision != last {
			t.Errorf("%s: %d rows of %d, more %v, at %d; want %d of %d, %v, at %d", name, len(got.Kvs), got.Count, got.More,
				got.Header.Revision, len(want.Kvs), want.Count, want.More, want.Header.Revision)
		}
		if name == "sorted" || strings.HasPrefix(name, "filter") {
			continue // not in a stream
		}
		whole := &pb.RangeResponse{}
		err = far.KV().RangeStream(t.Context(), req, func(piece *pb.RangeResponse) error {
			proto.Merge(whole, piece)
			return nil
		})
		if err != nil || !proto.Equal(whole, want) {
			t.Errorf("%s in a stream: %d rows of %d, %v", name, len(whole.Kvs), whole.Count, err)
		}
	}
	c.farWrites(3, last)
}

// farWrites does through a node what is more than to read.
func (c *netCluster) farWrites(i int, last int64) {
	t, kv := c.t, c.nodes[i].KV()
	txn, err := kv.Txn(t.Context(), &pb.TxnRequest{Success: []*pb.RequestOp{rangeOp("k05"), rangeOp("k25")}})
	if err != nil || txn.Header.Revision != last || string(txn.Responses[0].GetResponseRange().Kvs[0].Value) != "new" {
		t.Errorf("a transaction that reads: %v, %v", txn.GetHeader(), err)
	}
	if rev := c.put(i, "k05", "newer"); rev != last+1 {
		t.Errorf("a put is at %d after %d", rev, last)
	}
	if got := c.get(i, "k05"); got != "newer" {
		t.Errorf("what was put reads as %q", got)
	}
	if _, err := kv.Compact(t.Context(), &pb.CompactionRequest{Revision: last}); err != nil {
		t.Fatal(err)
	}
	if _, err := kv.Range(t.Context(), &pb.RangeRequest{Key: []byte("k05"), Revision: last - 1}); !errors.Is(err, mvcc.ErrCompacted) {
		t.Errorf("a compacted revision: %v", err)
	}
	if _, err := kv.Range(t.Context(), &pb.RangeRequest{Key: []byte("k05"), Revision: last + 9}); !errors.Is(err, mvcc.ErrFutureRevision) {
		t.Errorf("a future revision: %v", err)
	}
	if d, err := c.nodes[i].descriptor(t.Context(), metapb.SystemRange); err != nil || d.ID() != metapb.SystemRange {
		t.Errorf("the system range: %v, %v", d, err)
	}
}
