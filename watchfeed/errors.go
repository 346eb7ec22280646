package watchfeed

import "errors"

var (
	// ErrTooManyWatches says that a stream has as many watches as it may.
	ErrTooManyWatches = errors.New("watchfeed: too many watches on a stream")
	// ErrClosed says that the stream or the hub was closed.
	ErrClosed = errors.New("watchfeed: closed")
)
