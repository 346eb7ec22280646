package router

import "errors"

var (
	// ErrTimeout says that a request was not answered in time. Whether it took
	// effect is not known.
	ErrTimeout = errors.New("router: request timed out")
	// ErrNoRange says that no range is known for a key.
	ErrNoRange = errors.New("router: no range is known for the key")
	// ErrTooManyRequests says that the router has all the requests under way
	// that it may have. The request was not begun.
	ErrTooManyRequests = errors.New("router: too many requests under way")
	// ErrTooLarge says that a transaction has to look at more than it may. It
	// changed nothing.
	ErrTooLarge = errors.New("router: the request looks at too much")
	// ErrStopping says that the node stops. The request was not begun.
	ErrStopping = errors.New("router: the node stops")
	// ErrBadRequest says that the router was asked for what it does not know.
	ErrBadRequest = errors.New("router: unknown kind of request")
	// ErrBadSplitKey says that a range cannot be split there.
	ErrBadSplitKey = errors.New("router: bad split key")
	// ErrRangesMoved says that a read met moving ranges too often to finish.
	ErrRangesMoved = errors.New("router: ranges moved too often during a read")
)
