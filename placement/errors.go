package placement

import "errors"

var (
	// ErrStopped says that the sequencer has stopped in order; who asks looks for
	// the next one. Nothing was given out.
	ErrStopped = errors.New("placement: the sequencer has stopped")
	// ErrDeposed says that the asker has seen a newer epoch than the sequencer's.
	ErrDeposed = errors.New("placement: a newer sequencer exists")
	// ErrStaleAsk says that an ask is of an older start of its store, was
	// acknowledged already, or is not the one that had its place before.
	ErrStaleAsk = errors.New("placement: the ask is out of date")
	// ErrAskOrder says that an ask came before the one in front of it.
	ErrAskOrder = errors.New("placement: an ask is missing in its store's path")
	// ErrTooManyUnacked says that a store acknowledges nothing.
	ErrTooManyUnacked = errors.New("placement: too many unacknowledged answers")
	// ErrBadAsk says that an ask wants a negative number, or too many revisions.
	ErrBadAsk = errors.New("placement: bad number of revisions")
	// ErrCompacted says that a revision was compacted already.
	ErrCompacted = errors.New("placement: the revision has been compacted")
	// ErrFutureRevision says that a revision is above the current one.
	ErrFutureRevision = errors.New("placement: the revision is a future revision")
	// ErrUnknownOp says that an operation is none of the system range's.
	ErrUnknownOp = errors.New("placement: unknown operation")
	// ErrBadOp says that an operation's contents make no sense.
	ErrBadOp = errors.New("placement: bad operation")
	// ErrBadRow says that a system row is not what this version writes.
	ErrBadRow = errors.New("placement: bad system row")
)
