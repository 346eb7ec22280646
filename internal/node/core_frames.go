package node

import (
	"time"

	"github.com/flotilladb/flotilla/internal/frame"
	"github.com/flotilladb/flotilla/internal/wire"
	"github.com/flotilladb/flotilla/proto/peerpb"
	"github.com/flotilladb/flotilla/raftgroup"
	"github.com/flotilladb/flotilla/range"
)

// frameContentMax bounds what goes into one frame beside its first message, request or
// reply. The transport takes larger ones, but not of any size: one that it does not take
// would be refused as often as it is made, or sent again.
const frameContentMax = 1 << 20

// itemBytes is what an item of a frame takes at least, about.
const itemBytes = 64

// cutFrame leaves in f the first of its requests, replies, or what hubs say, if there is too
// much for one frame, and returns all that is to follow, in the order in which one frame would
// say it.
func cutFrame(f *frame.Frame) (rest frame.Frame) {
	bytes := 0
	if n := fitting(f.Requests, &bytes, requestBytes); n < len(f.Requests) {
		rest = *f
		rest.Requests = f.Requests[n:]
		*f = frame.Frame{Requests: f.Requests[:n:n]}
		return rest
	}
	if n := fitting(f.Replies, &bytes, replyBytes); n < len(f.Replies) {
		rest = *f
		rest.Requests, rest.Replies = nil, f.Replies[n:]
		*f = frame.Frame{Requests: f.Requests, Replies: f.Replies[:n:n]}
		return rest
	}
	asks := fitting(f.FeedAsks, &bytes, askBytes)
	news := 0
	if asks == len(f.FeedAsks) {
		news = fitting(f.FeedNews, &bytes, newsBytes)
	}
	if asks < len(f.FeedAsks) || news < len(f.FeedNews) {
		rest.FeedAsks, rest.FeedNews, rest.Parting = f.FeedAsks[asks:], f.FeedNews[news:], f.Parting
		f.FeedAsks, f.FeedNews, f.Parting = f.FeedAsks[:asks:asks], f.FeedNews[:news:news], frame.Stays
	}
	return rest
}

// fitting returns how many of the first items have room in a frame that has so many bytes;
// the first of a frame always has.
func fitting[T any](items []T, bytes *int, size func(T) int) int {
	for i := range items {
		n := size(items[i])
		if *bytes > 0 && *bytes+n > frameContentMax {
			return i
		}
		*bytes += n
	}
	return len(items)
}

// What an item of each kind that is cut takes in a frame, about.

func requestBytes(r *peerpb.Request) int { return itemBytes + ranges.RequestBytes(r.Body) }
func replyBytes(r peerpb.Reply) int      { return itemBytes + wire.ReplyBytes(&r) }
func askBytes(a *peerpb.FeedAsk) int     { return itemBytes + wire.FeedAskBytes(a) }
func newsBytes(n *peerpb.FeedNews) int   { return itemBytes + n.Bytes }

// frameBytes is what a frame takes of what cutFrame cuts, about.
func frameBytes(f *frame.Frame) int {
	return sum(f.Requests, requestBytes) + sum(f.Replies, replyBytes) + sum(f.FeedAsks, askBytes) + sum(f.FeedNews, newsBytes)
}

// restOf is what a frame of one large item takes longer than the largest of others on a link
// of so many bytes a second.
func restOf(f *frame.Frame, bytesPerSecond int) time.Duration {
	return time.Duration(max(frameBytes(f)-frameContentMax, 0)) * time.Second / time.Duration(bytesPerSecond)
}

func sum[T any](items []T, size func(T) int) (n int) {
	for _, item := range items {
		n += size(item)
	}
	return n
}

// raftBytes is what a message of Raft takes in a frame, about.
func raftBytes(m *raftgroup.Message) int {
	n := itemBytes
	for _, e := range m.Entries {
		n += itemBytes + len(e.Data)
	}
	return n
}

// storeFrames are the frames of one lane to a store, in order.
type storeFrames struct {
	frames []*frame.Frame
	bytes  int // in the last
}

// addRaft adds a message of Raft to the frames to a store.
func (c *Core) addRaft(to *storeFrames, m *ranges.Message) {
	n := raftBytes(m.Raft)
	if len(to.frames) == 0 || to.bytes+n > frameContentMax {
		to.frames, to.bytes = append(to.frames, c.frameTo(m.To, frame.Raft)), 0
	}
	f := to.frames[len(to.frames)-1]
	f.Raft = append(f.Raft, raftgroup.RangeMessage{RangeID: m.Range, Message: m.Raft})
	to.bytes += n
}
