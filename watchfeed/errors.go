package watchfeed

import "errors"

var (
	// ErrTooManyWatches: the stream has as many watches as it may have, or its
	// client does not read the answers to earlier ones.
	ErrTooManyWatches = errors.New("watchfeed: too many watches on the stream")
	// ErrTooManyStreams: the hub has as many streams as it may have.
	ErrTooManyStreams = errors.New("watchfeed: too many streams")
	// ErrClosed: the stream is closed.
	ErrClosed = errors.New("watchfeed: stream closed")
	// ErrStopping: the hub stops.
	ErrStopping = errors.New("watchfeed: stopping")
)
