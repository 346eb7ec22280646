package watchfeed

import "time"

// StreamConfig is what a client's stream may have and wants.
type StreamConfig struct {
	// WatchesMax bounds the watches of the stream.
	WatchesMax int
	// QueueResponsesMax and QueueBytesMax bound what waits for Recv; beyond,
	// watches fall back to catch-up.
	QueueResponsesMax int
	QueueBytesMax     int
	// ProgressInterval is after how much silence a watch with Progress is told
	// how far it is.
	ProgressInterval time.Duration
	// RequireLeader ends the stream with NoLeader when it stands too long.
	RequireLeader bool
}

// CreateRequest asks for a watch.
type CreateRequest struct {
	ID       int64  // unique in the stream
	Key, End []byte // End: nil is one key; else half-open; empty and not nil is to the end of the keyspace. Never an empty span
	Start    int64  // first revision wanted; 0 is after now

	PrevKV, Progress, NoPut, NoDelete, Fragment bool
}

// ResponseKind says what a Response tells.
type ResponseKind uint8

// The kinds of responses.
const (
	// Created comes before everything else of a watch.
	Created ResponseKind = iota + 1
	// Canceled answers Cancel; nothing of the watch comes after it.
	Canceled
	// Compacted ends a watch whose next revision is gone: see CompactRevision.
	Compacted
	// NoLeader ends the stream.
	NoLeader
	// Events carries changes.
	Events
	// Progress says that everything up to Revision was delivered to a watch.
	Progress
	// StreamProgress says that of all watches of the stream.
	StreamProgress
)

// Response is one thing that a stream has to tell its client.
type Response struct {
	Kind ResponseKind
	ID   int64 // of the watch
	// Revision is the header's. Created: the current one, or that before the first
	// wanted; Events: of the last event in it.
	Revision        int64
	CompactRevision int64
	Events          []*Event // by (revision, sub), whole revisions; never changed
	// PrevKV and Fragment are what the watch was created with.
	PrevKV, Fragment bool
}
