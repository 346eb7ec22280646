package node

import (
	"slices"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/flotilladb/flotilla/internal/frame"
	"github.com/flotilladb/flotilla/internal/wire"
	"github.com/flotilladb/flotilla/proto/peerpb"
	"github.com/flotilladb/flotilla/range"
)

// testFrameMax stands for what the transport takes, which is more.
const testFrameMax = 4 << 20

// A store that was away lacks something of many ranges. What their leaders on another
// store send it at once is no frame that the transport does not take: each try would be
// as large, and be lost.
func TestManyRangesCatchUp(t *testing.T) {
	const count, valueBytes = 40, 600 << 10
	c := newTrio(t, ranges.Config{})
	c.grow(count)
	away, other := c.nodes[2], c.nodes[0]
	away.down = true
	c.until("leaders without it", c.led)
	c.frameMax, c.largest = testFrameMax, 0
	for i := range count {
		id := other.request(&pb.PutRequest{Key: trioKey(i), Value: make([]byte, valueBytes)})
		c.answered(other, id)
		c.must(other.results[id].Err)
	}
	away.down, away.in = false, nil
	c.until("it has all", func() bool {
		for _, n := range c.nodes[:2] {
			for _, id := range n.core.Store().IDs() {
				if r := n.core.Store().Replica(id); r.Leads() && away.core.Store().Replica(id).Applied() < r.Applied() {
					return false
				}
			}
		}
		return true
	})
	if c.largest > testFrameMax {
		t.Errorf("a frame had %d bytes", c.largest)
	}
}

// Many large writes that come at once through a store that does not lead their range go
// in frames that the transport takes.
func TestManyLargeWritesAtOnce(t *testing.T) {
	const count, valueBytes = 24, 600 << 10
	c := newTrio(t, ranges.Config{})
	c.grow(1)
	c.frameMax, c.largest = testFrameMax, 0
	for _, n := range c.nodes {
		var ids []uint64
		for i := range count {
			ids = append(ids, n.request(&pb.PutRequest{Key: trioKey(i), Value: make([]byte, valueBytes)}))
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

// framesOf takes all that a link has to say, in frames that the transport takes.
func framesOf(t *testing.T, l *link) (frames []*frame.Frame) {
	t.Helper()
	for l.hasNext() {
		f := l.take(1)
		raw, err := wire.Append(nil, f)
		if err != nil {
			t.Fatal(err)
		}
		if len(raw) > testFrameMax {
			t.Errorf("a frame has %d bytes", len(raw))
		}
		frames = append(frames, f)
	}
	return frames
}

// What a hub tells another store of many large events goes in frames that the transport
// takes, in order, with the rest of what is said.
func TestMuchFeedNews(t *testing.T) {
	const count, valueBytes = 24, 600 << 10
	l := link{self: 1, peer: 2, selfStart: 1, peerStart: 1, session: 1}
	for i := range count {
		change := peerpb.FeedChange{Feed: uint64(i), Events: []peerpb.FeedEvent{{Row: peerpb.Row{Value: make([]byte, valueBytes)}}}}
		l.next.FeedNews = append(l.next.FeedNews, &peerpb.FeedNews{Count: 1, Bytes: valueBytes, Changes: []peerpb.FeedChange{change}})
	}
	l.next.Requests = []*peerpb.Request{{ID: 7, Body: &peerpb.Close{S: 1}}}
	l.next.FeedAsks = []*peerpb.FeedAsk{{TakenCount: 1}}
	var feeds []uint64
	requests, asks := 0, 0
	for _, f := range framesOf(t, &l) {
		requests, asks = requests+len(f.Requests), asks+len(f.FeedAsks)
		for _, n := range f.FeedNews {
			feeds = append(feeds, n.Changes[0].Feed)
		}
	}
	if len(feeds) != count || !slices.IsSorted(feeds) || requests != 1 || asks != 1 {
		t.Errorf("news of feeds %d, %d requests, %d asks", feeds, requests, asks)
	}
}

// A store that stops says so in the last frame of all that it has to say.
func TestMuchFeedNewsBeforeTheEnd(t *testing.T) {
	const count, valueBytes = 8, 600 << 10
	l := link{self: 1, peer: 2, selfStart: 1, peerStart: 1, session: 1}
	for range count {
		l.next.FeedNews = append(l.next.FeedNews, &peerpb.FeedNews{Count: 1, Bytes: valueBytes})
	}
	l.end()
	news, ended := 0, false
	for _, f := range framesOf(t, &l) {
		if ended {
			t.Error("a frame comes behind the last")
		}
		news, ended = news+len(f.FeedNews), f.Parting == frame.Ends
	}
	if news != count || !ended {
		t.Errorf("%d of %d news were said, ended %t", news, count, ended)
	}
}

// What a hub asks another store of very many feeds goes in frames that the transport takes,
// in order, with the rest of what is said.
func TestMuchFeedAsks(t *testing.T) {
	const count, keyBytes = 24, 600 << 10
	l := link{self: 1, peer: 2, selfStart: 1, peerStart: 1, session: 1}
	for i := range count {
		l.next.FeedAsks = append(l.next.FeedAsks, &peerpb.FeedAsk{Begin: []peerpb.FeedBegin{{Feed: uint64(i), End: make([]byte, keyBytes)}}})
	}
	l.next.Requests = []*peerpb.Request{{ID: 7, Body: &peerpb.Close{S: 1}}}
	l.next.FeedNews = []*peerpb.FeedNews{{Count: 1}}
	var feeds []uint64
	requests, news := 0, 0
	for _, f := range framesOf(t, &l) {
		requests, news = requests+len(f.Requests), news+len(f.FeedNews)
		for _, a := range f.FeedAsks {
			feeds = append(feeds, a.Begin[0].Feed)
		}
	}
	if len(feeds) != count || !slices.IsSorted(feeds) || requests != 1 || news != 1 {
		t.Errorf("asks of feeds %d, %d requests, %d news", feeds, requests, news)
	}
}

// Pages of history for many reads of one store go in frames that the transport takes.
func TestManyPagesOfHistory(t *testing.T) {
	const count, valueBytes = 12, 600 << 10
	l := link{self: 1, peer: 2, selfStart: 1, peerStart: 1, session: 1}
	for i := range count {
		ev := peerpb.FeedEvent{Tombstone: true, Prev: &peerpb.Row{Value: make([]byte, valueBytes)}}
		l.next.Replies = append(l.next.Replies, peerpb.Reply{ID: uint64(i), Body: &peerpb.HistoryPage{Events: []peerpb.FeedEvent{ev}}})
	}
	replies := 0
	for _, f := range framesOf(t, &l) {
		replies += len(f.Replies)
	}
	if replies != count {
		t.Errorf("%d replies, want %d", replies, count)
	}
}
