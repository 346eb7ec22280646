package node

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/flotilladb/flotilla/proto/adminpb"
	"github.com/flotilladb/flotilla/proto/peerpb"
)

// A node without a replica of anything lists, shows and moves ranges, also if it has served
// nobody before; without a directory it says that it does not know them.
func TestRangesElsewhere(t *testing.T) {
	c := newNetCluster(t, 4)
	c.start(0, 1, 2)
	c.put(0, "k", "v")
	c.start(3)
	n, ctx := c.nodes[3], t.Context()

	list, err := n.ListRanges(ctx)
	if err != nil || list.OnlyHere || len(list.Ranges) != 2 {
		t.Fatalf("listed: %v, %v", list, err)
	}
	for i, in := range list.Ranges {
		if !in.Elsewhere || in.Descriptor_.RangeId != uint64(i+1) || len(in.Descriptor_.Replicas) != 3 || in.LiveKeys != -1 {
			t.Errorf("listed: %v", in)
		}
	}
	for _, req := range []*adminpb.ShowRangeRequest{{RangeId: uint64(DataRange)}, {Key: []byte("k")}} {
		if in, err := n.ShowRange(ctx, req); err != nil || !in.Elsewhere || in.Descriptor_.RangeId != uint64(DataRange) {
			t.Errorf("show %v: %v, %v", req, in, err)
		}
	}
	if _, err := n.ShowRange(ctx, &adminpb.ShowRangeRequest{RangeId: 99}); !errors.Is(err, peerpb.ErrRangeNotFound) {
		t.Errorf("show a range that there is not: %v", err)
	}
	if _, err := n.MoveReplica(ctx, &adminpb.MoveReplicaRequest{RangeId: 99, FromStoreId: 1, ToStoreId: 4}); !errors.Is(err, peerpb.ErrRangeNotFound) {
		t.Errorf("move a range that there is not: %v", err)
	}

	if _, err := n.MoveReplica(ctx, &adminpb.MoveReplicaRequest{RangeId: uint64(DataRange), FromStoreId: 3, ToStoreId: 4}); err != nil {
		t.Fatal(err)
	}
	in, err := n.ShowRange(ctx, &adminpb.ShowRangeRequest{RangeId: uint64(DataRange)})
	if err != nil || in.Elsewhere || in.LiveKeys != 1 {
		t.Errorf("show what has come here: %v, %v", in, err)
	}

	var wg sync.WaitGroup
	for i := range 3 {
		wg.Go(func() { c.stop(i) })
	}
	wg.Wait()
	if list, err = n.ListRanges(ctx); err != nil || !list.OnlyHere || len(list.Ranges) != 1 {
		t.Errorf("listed without a directory: %v, %v", list, err)
	}
}

// A node moves and hands on ranges that it never heard of.
func TestUnheardOfRange(t *testing.T) {
	c := newNetCluster(t, 4)
	c.start(0, 1, 2)
	c.start(3)
	split := func(key string) uint64 {
		t.Helper()
		resp, err := c.nodes[0].SplitRange(t.Context(), &adminpb.SplitRangeRequest{Key: []byte(key)})
		if err != nil {
			t.Fatal(err)
		}
		return resp.Right.Descriptor_.RangeId
	}
	got, err := c.nodes[3].TransferLeader(t.Context(), &adminpb.TransferLeaderRequest{RangeId: split("p"), ToStoreId: 2})
	if err != nil || got.LeaderStoreId != 2 {
		t.Errorf("transfer: %v, %v", got, err)
	}
	moved, err := c.nodes[3].MoveReplica(t.Context(), &adminpb.MoveReplicaRequest{RangeId: split("t"), FromStoreId: 3, ToStoreId: 4})
	if err != nil || moved.Descriptor_.ReplicaOn(4) == nil {
		t.Errorf("move: %v, %v", moved, err)
	}
}

// Keys are counted as of what a replica has, though its node has heard of no revision since.
func TestLiveKeysOfAnIdleNode(t *testing.T) {
	c := newNetCluster(t, 3)
	c.start(0, 1, 2)
	last := int64(0)
	for _, k := range []string{"a", "b", "c"} {
		last = c.put(0, k, "v")
	}
	c.every(func(i int) {
		n := c.nodes[i]
		until(t, "all is applied", func() bool {
			applied := int64(0)
			err := n.inLoop(t.Context(), func() { applied = int64(n.core.Store().Revision()) })
			return err == nil && applied == last
		})
		n.pub.current.Store(1)
		in, err := n.ShowRange(t.Context(), &adminpb.ShowRangeRequest{RangeId: uint64(DataRange)})
		if err != nil || in.LiveKeys != 3 {
			t.Errorf("node %d counts %d keys, %v", i, in.GetLiveKeys(), err)
		}
	})
}

// hurried is of somebody who does not wait any longer.
type hurried struct{ context.Context }

func (hurried) Deadline() (time.Time, bool) { return time.Now(), true }

// A list of ranges comes in time, without the counts for which there was none.
func TestListWithoutCounts(t *testing.T) {
	n := open(t, t.TempDir())
	defer closeNode(t, n)
	put(t, n.KV(), "a", "v", 2)
	for _, tc := range []struct {
		ctx  context.Context
		want int64
	}{{hurried{t.Context()}, -1}, {t.Context(), 1}} {
		list, err := n.ListRanges(tc.ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, in := range list.Ranges {
			if in.Descriptor_.ID() == DataRange && in.LiveKeys != tc.want {
				t.Errorf("%d keys, want %d", in.LiveKeys, tc.want)
			}
		}
	}
}
