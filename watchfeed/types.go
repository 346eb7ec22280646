package watchfeed

import (
	"github.com/flotilladb/flotilla/proto/cmdpb"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/peerpb"
)

// Revision is the logical time of a write.
type Revision = metapb.Revision

// NoBound is the bound of a range on which nothing is under way.
const NoBound Revision = 1<<63 - 1

// RangeUpdates are changes that a range has applied, in order of application.
type RangeUpdates struct {
	Range   metapb.RangeID
	Updates []*cmdpb.Update
}

// RangeBound says that no write below Bound can still appear on a range, but for
// writes whose revision is not yet given out: those are above Current.
type RangeBound struct {
	Range metapb.RangeID
	Bound Revision
}

// Step is what one step of the store made readable.
type Step struct {
	// Applied is in order of application. Whoever gives it leaves it alone.
	Applied []RangeUpdates
	// Lost are ranges of which updates at or below Current or Reached are not in
	// Applied.
	Lost []metapb.RangeID
	// Removed are ranges that are not on this store any more. They go after Applied
	// and before Descriptors.
	Removed []metapb.RangeID
	// RowsGo: rows that were here go once the hub has taken the step.
	RowsGo bool
	// Descriptors are of ranges that changed or are new. They take effect after
	// Applied.
	Descriptors []*metapb.Descriptor
	// Bounds are those that may have changed.
	Bounds []RangeBound
	// Current is the revision at which a read that begins now reads, 0 before the
	// store serves. Compacted is the compacted revision, or negative.
	Current, Compacted Revision
	// Reached is the highest revision of what was applied up to this step. On one
	// store it is not above Current, and may be left out.
	Reached Revision
	// Asks: bounds get on only where Ready.Wants said that somebody wants them to.
	Asks bool
	// Feeds have to do with feeds of other stores, in order. They go last.
	Feeds []FeedInput
}

// FeedInput is one thing that has to do with feeds of other stores; one field beside
// Store is set.
type FeedInput struct {
	Store metapb.StoreID
	Ask   *peerpb.FeedAsk
	News  *peerpb.FeedNews
	// Lost: what was said to Store, and by it, may be lost. What comes after that was
	// said after that.
	Lost    bool
	Located *Located
}

// FeedOutput is one thing that is to be done for feeds of other stores: to tell Store
// something, in order, or to Locate.
type FeedOutput struct {
	Store  metapb.StoreID
	Ask    *peerpb.FeedAsk
	News   *peerpb.FeedNews
	Locate *Locate
}

// Locate asks for a store that has a replica of the range that holds the user key
// Start; End is where nobody wants more, nil: nowhere. It is answered once, when there
// is such a store. Not could not be followed: another one is better.
type Locate struct {
	Start, End []byte
	Not        metapb.StoreID
}

// Located answers Locate. The store has at least [Start, End); an empty End is the end
// of the keyspace.
type Located struct {
	Start, End []byte
	Store      metapb.StoreID
}

// CreateRequest asks for a watch.
type CreateRequest struct {
	// ID is unique in the stream.
	ID int64
	// Key and End are the span: End nil is one key, else it is half-open, an empty
	// End being the end of the keyspace.
	Key, End []byte
	// Start is the first revision wanted; 0 is what comes after now.
	Start int64
	// PrevKV wants the value before each event.
	PrevKV bool
	// Progress wants to hear, every now and then, how far an idle watch is.
	Progress bool
	// NoPut and NoDelete leave events out.
	NoPut, NoDelete bool
	// Fragment comes back in responses.
	Fragment bool
}

// StreamConfig describes a stream.
type StreamConfig struct {
	// RequireLeader ends the stream with NoLeader when one of its watches cannot
	// go on for long.
	RequireLeader bool
	// WatchesMax bounds the watches. Default 1,048,576.
	WatchesMax int
	// QueueResponsesMax and QueueBytesMax bound the events that wait for Recv; a
	// response may go over. Defaults 65,536 and 4 MiB.
	QueueResponsesMax, QueueBytesMax int
}

func (c *StreamConfig) setDefaults() {
	setDefault(&c.WatchesMax, 1<<20)
	setDefault(&c.QueueResponsesMax, 1<<16)
	setDefault(&c.QueueBytesMax, 4<<20)
}

func setDefault(p *int, v int) {
	if *p == 0 {
		*p = v
	}
}

// ResponseKind says what a Response tells.
type ResponseKind uint8

const (
	// Created: the watch is there. It comes before everything else of its id.
	Created ResponseKind = iota
	// Canceled: the watch is gone, as asked.
	Canceled
	// Compacted: the watch is gone, because what it wants next is compacted.
	Compacted
	// NoLeader: the stream's watches cannot go on; ID is -1.
	NoLeader
	// Events happened.
	Events
	// Progress: the watch was given everything up to Revision.
	Progress
	// StreamProgress: all watches of the stream were; ID is -1.
	StreamProgress
	// left: what another store follows is not here.
	left
)

// Response is one thing to tell a client.
type Response struct {
	// ID is the watch's, or -1.
	ID int64
	// Revision is that of the response's header. Of Events it is the last event's:
	// never ahead of an event that is still to come.
	Revision int64
	// CompactRevision is the compacted revision, of Compacted.
	CompactRevision int64
	// Events are in order of revision and sub-revision, and all that the watch
	// wants of each revision. They are shared with other responses.
	Events []*Event
	Kind   ResponseKind
	// PrevKV and Fragment are the watch's.
	PrevKV, Fragment bool
}
