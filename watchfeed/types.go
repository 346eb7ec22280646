package watchfeed

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
