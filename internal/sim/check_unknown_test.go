package sim

import (
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/flotilladb/flotilla/internal/model"
	"github.com/flotilladb/flotilla/proto/txnpb"
)

// Two puts without an answer fit the first revision, one of them alone the last: who made
// which shows only there. One that fits nobody is found all the same.
func TestWhoMadeWhat(t *testing.T) {
	put := func(value string) any { return &pb.PutRequest{Key: []byte("k"), Value: []byte(value)} }
	keep := &pb.PutRequest{Key: []byte("k"), IgnoreValue: true}
	for _, tc := range []struct {
		name     string
		requests []any
		values   string // of k, from revision 2 on
		ok       bool
	}{
		{"in the order in which they were asked", []any{put("c"), keep, put("d")}, "ccd", true},
		{"the other order", []any{put("c"), put("c"), keep, put("d")}, "ccdc", true},
		{"by way of a third", []any{put("c"), put("c"), put("d"), keep, keep}, "cccdd", true},
		{"two by way of others", []any{put("c"), put("c"), put("c"), keep, put("d"), keep}, "ccdcdc", false},
		{"nobody", []any{put("c"), put("c"), keep, put("d")}, "ccdcc", false},
	} {
		limits := model.Limits{TxnOpsMax: 128, RequestBytesMax: 1 << 16, LeaseTTLMin: 1}
		h, err := newHistory(limits)
		if err != nil {
			t.Fatal(err)
		}
		for _, req := range tc.requests {
			h.begin(0, req).low = 1
		}
		for i, value := range tc.values {
			m := &txnpb.Mutation{Key: []byte("k"), Value: []byte(string(value)), CreateRevision: 2, Version: int64(i) + 1}
			h.effects[int64(i)+2] = []*txnpb.Mutation{m}
		}
		first, err := model.New(limits)
		if err != nil {
			t.Fatal(err)
		}
		c := &checker{h: h, first: first, owners: make(map[int64]*op), limits: limits}
		if err := c.sort(); err != nil {
			t.Fatal(err)
		}
		if err := c.replay(); (err == nil) != tc.ok {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
}
