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
	// ErrOneStore says that the cluster has one store and that nobody has ended that.
	ErrOneStore = errors.New("placement: the cluster is one of one store")
	// ErrOtherFolder says that the node had another data folder before.
	ErrOtherFolder = errors.New("placement: the node had another data folder")
	// ErrNameTaken says that another node has the name.
	ErrNameTaken = errors.New("placement: another node of the cluster has this name")
	// ErrURLTaken says that another node is to be reached at the same URL.
	ErrURLTaken = errors.New("placement: another node of the cluster has this peer URL")
	// ErrRemoved says that the node was removed from the cluster.
	ErrRemoved = errors.New("placement: the node was removed from the cluster")
	// ErrNoMember says that there is no such node.
	ErrNoMember = errors.New("placement: no such node")
	// ErrNeeded says that a range would lose its majority with a node, or all it has.
	ErrNeeded = errors.New("placement: a range needs its replica on the node")
	// ErrBadRow says that a system row is not what this version writes.
	ErrBadRow = errors.New("placement: bad system row")
)
