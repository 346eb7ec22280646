package peerpb

import (
	"errors"
	"fmt"

	"github.com/flotilladb/flotilla/proto/metapb"
)

// What a range's leader (or its absence) says to a router. Those marked
// *retry* were certainly not proposed and may be sent again.
var (
	// ErrNotLeader (retry): the replica does not lead its range.
	ErrNotLeader = errors.New("range: not the leader")
	// ErrRangeNotFound (retry after a look at the directory): no such replica here.
	ErrRangeNotFound = errors.New("range: not on this store")
	// ErrRefused (retry): the request was dropped before it was proposed.
	ErrRefused = errors.New("range: refused before it was proposed")
	// ErrOverloaded (retry, later): the range's queue is full.
	ErrOverloaded = errors.New("range: too many requests wait")
	// ErrUnknown: the request was proposed and its outcome is not known. It must
	// not be sent again.
	ErrUnknown = errors.New("range: the outcome of the request is unknown")
	// ErrMoved (retry): the range does not hold all the keys; see *MovedError.
	ErrMoved = errors.New("range: keys moved")
	// ErrLockLost: a prepared transaction's locks are gone; it starts over.
	ErrLockLost = errors.New("range: the transaction's locks are gone")
	// ErrTxnAborted: somebody aborted the transaction first; it starts over.
	ErrTxnAborted = errors.New("range: the transaction was aborted")
	// ErrRevisionRefused: see *RefusedRevisionError.
	ErrRevisionRefused = errors.New("range: closed above the transaction's revision")
	// ErrDiskFull: the store takes no writes that need space.
	ErrDiskFull = errors.New("range: the store's disk is full")
	// ErrLeaseNotFound: a request names a lease that does not exist. Package mvcc
	// and package lease, which cannot see each other, both call it theirs.
	ErrLeaseNotFound = errors.New("lease: requested lease not found")
	// ErrLeaseNotDue: a lease was to be revoked only if it had expired.
	ErrLeaseNotDue = errors.New("lease: not expired")
	// ErrNeedsTxn: the request takes a cross-range transaction.
	ErrNeedsTxn = errors.New("range: the request takes a transaction")
	// ErrMarkMissing: a transaction may not attach keys to a lease here yet; it
	// starts over.
	ErrMarkMissing = errors.New("range: no mark of the lease")
	// ErrTooLarge: the request changes too much for one entry of the log. It is
	// to be run as a transaction, also inside one range.
	ErrTooLarge = errors.New("range: the request changes too much for one entry")
	// ErrBadChange: the change of replicas does not fit the range's descriptor.
	ErrBadChange = errors.New("range: the change does not fit the replicas that there are")
	// ErrNotCaughtUp (retry, later): the learner lacks too much to become a voter.
	ErrNotCaughtUp = errors.New("range: the learner is not caught up")
	// ErrLeaderLeaves (retry after a transfer): the leader does not take itself out.
	ErrLeaderLeaves = errors.New("range: the leader's own replica is to go; transfer first")
	// ErrBadTransfer: the store has no live voter of the range, or lacks too much.
	ErrBadTransfer = errors.New("range: the leadership cannot go to that store")
	// ErrLastReplica: a range keeps at least one voter.
	ErrLastReplica = errors.New("range: the last replica stays")
	// ErrNoMajority: of the voters that there would be too few are alive.
	ErrNoMajority = errors.New("range: the change would leave no live majority of the voters")
	// ErrHasReplica: a store has one replica of a range at most.
	ErrHasReplica = errors.New("range: the store has a replica already")
	// ErrNoReplica: the store has no replica of the range.
	ErrNoReplica = errors.New("range: the store has no replica")
	// ErrUnknownStore: there is no such store in the cluster.
	ErrUnknownStore = errors.New("range: no such store in the cluster")
	// ErrMoveUnderWay: another change of the range's replicas is under way.
	ErrMoveUnderWay = errors.New("range: another move of a replica of it is under way")
	// ErrWaitsForUpgrade: the request needs what some member of the cluster does not know
	// yet. It may be asked again when all nodes run the newest version.
	ErrWaitsForUpgrade = errors.New("range: not before all nodes of the cluster are upgraded")
	// ErrMoveStalled: a move got no further, and what it had done was undone.
	ErrMoveStalled = errors.New("range: the new replica did not catch up in time; the move was given up")
	// ErrNotUndecided: only a range of which nobody knows what is right takes an
	// operator's word.
	ErrNotUndecided = errors.New("range: it is not undecided: replicas that agree are in service, or a replica that was found to be corrupt was named")
	// ErrUnreadable: the replica cannot be trusted.
	ErrUnreadable = errors.New("range: a part of what the store has of it cannot be read")
	// ErrGivenUp: an operator has named another replica before.
	ErrGivenUp = errors.New("range: replicas of it were given up for another one; name that one")
	// ErrNoVoter: the replica could not lead the range.
	ErrNoVoter = errors.New("range: the store's replica does not vote")
	// ErrTrustUnderWay: the store goes on by itself for a while, and may be asked again.
	ErrTrustUnderWay = errors.New("range: the store has not answered, reads what it has, or waits for the stores of the other replicas; ask again")
	// ErrStopping (retry elsewhere): the store stops.
	ErrStopping = errors.New("range: the store stops")
)

// NotLeaderError says that the replica does not lead its range, and who does.
type NotLeaderError struct {
	Range metapb.RangeID
	// Leader is the store of the leader of Term, as far as the replica knows; 0: it
	// knows none.
	Leader metapb.StoreID
	Term   uint64
}

func (e *NotLeaderError) Error() string {
	return fmt.Sprintf("range %d: not the leader of term %d; store %d may be", e.Range, e.Term, e.Leader)
}

// Is makes errors.Is(err, ErrNotLeader) true.
func (e *NotLeaderError) Is(target error) bool { return target == ErrNotLeader }

// MovedError says that the range does not hold all the keys of a request, or
// that the request named another generation. Newer has the descriptors that the
// store knows for the keys and may be empty.
type MovedError struct {
	Range metapb.RangeID
	Newer []*metapb.Descriptor
}

func (e *MovedError) Error() string { return fmt.Sprintf("range %d: keys moved", e.Range) }

// Is makes errors.Is(err, ErrMoved) true.
func (e *MovedError) Is(target error) bool { return target == ErrMoved }

// RefusedRevisionError says that a prepared transaction's revision came too
// late: the range has closed at Closed. The locks are kept; a higher revision
// may be offered.
type RefusedRevisionError struct {
	Closed metapb.Revision
}

func (e *RefusedRevisionError) Error() string {
	return fmt.Sprintf("range: closed at %d, above the transaction's revision", e.Closed)
}

// Is makes errors.Is(err, ErrRevisionRefused) true.
func (e *RefusedRevisionError) Is(target error) bool { return target == ErrRevisionRefused }
