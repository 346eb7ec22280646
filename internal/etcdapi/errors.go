package etcdapi

import (
	"context"
	"errors"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/internal/stop"
	"github.com/flotilladb/flotilla/lease"
	"github.com/flotilladb/flotilla/mvcc"
	"github.com/flotilladb/flotilla/placement"
	"github.com/flotilladb/flotilla/proto/peerpb"
	"github.com/flotilladb/flotilla/router"
	"github.com/flotilladb/flotilla/watchfeed"
)

// errNoAuth answers requests that manage users before they can be.
var errNoAuth = status.Error(codes.Unimplemented, "etcdserver: authentication is not supported by this version of flotilla")

// grpcErrors is the one table from our errors to what etcd would say, codes and
// strings. The first row that matches counts.
//
// What the router could not bring to an end in time is Unavailable, as in etcd
// when it has no leader. An error that may hide a write that took place says
// "timed out, possibly due to": clients do not send such a request again.
var grpcErrors = []struct {
	is error
	to error
}{
	{mvcc.ErrEmptyKey, rpctypes.ErrGRPCEmptyKey},
	{mvcc.ErrKeyNotFound, rpctypes.ErrGRPCKeyNotFound},
	{mvcc.ErrValueProvided, rpctypes.ErrGRPCValueProvided},
	{mvcc.ErrLeaseProvided, rpctypes.ErrGRPCLeaseProvided},
	{mvcc.ErrInvalidSortOption, rpctypes.ErrGRPCInvalidSortOption},
	{mvcc.ErrTooManyOps, rpctypes.ErrGRPCTooManyOps},
	{mvcc.ErrDuplicateKey, rpctypes.ErrGRPCDuplicateKey},
	{peerpb.ErrLeaseNotFound, rpctypes.ErrGRPCLeaseNotFound},
	{lease.ErrExpired, rpctypes.ErrGRPCLeaseNotFound},
	{lease.ErrExists, rpctypes.ErrGRPCLeaseExist},
	{lease.ErrTTLTooLarge, rpctypes.ErrGRPCLeaseTTLTooLarge},
	{lease.ErrCorrupt, rpctypes.ErrGRPCCorrupt},
	{mvcc.ErrCompacted, rpctypes.ErrGRPCCompacted},
	{mvcc.ErrFutureRevision, rpctypes.ErrGRPCFutureRev},
	{mvcc.ErrTooLarge, rpctypes.ErrGRPCRequestTooLarge},
	{mvcc.ErrCorrupt, rpctypes.ErrGRPCCorrupt},
	{mvcc.ErrStreamSort, status.Error(codes.Unimplemented, "RangeStream does not support custom sort orders")},
	{mvcc.ErrStreamFilter, status.Error(codes.Unimplemented, "RangeStream does not support revision filters")},

	{peerpb.ErrDiskFull, rpctypes.ErrGRPCNoSpace},
	{peerpb.ErrTooLarge, rpctypes.ErrGRPCRequestTooLarge},
	{peerpb.ErrStopping, rpctypes.ErrGRPCStopped},
	{stop.ErrStopping, rpctypes.ErrGRPCStopped},
	// etcd lets a client-side error value slip out here, which gRPC sends as
	// Unknown (etcd issue 7025). The string is the same, the code the right one.
	{peerpb.ErrOverloaded, rpctypes.ErrGRPCRequestTooManyRequests},
	{peerpb.ErrUnknown, rpctypes.ErrGRPCTimeoutDueToLeaderFail},
	{peerpb.ErrNotLeader, rpctypes.ErrGRPCTimeout},
	{peerpb.ErrRangeNotFound, rpctypes.ErrGRPCTimeout},
	{peerpb.ErrRefused, rpctypes.ErrGRPCTimeout},
	{peerpb.ErrMoved, rpctypes.ErrGRPCTimeout},
	{peerpb.ErrLockLost, rpctypes.ErrGRPCTimeout},
	{peerpb.ErrTxnAborted, rpctypes.ErrGRPCTimeout},
	{peerpb.ErrRevisionRefused, rpctypes.ErrGRPCTimeout},
	{peerpb.ErrBadTransfer, rpctypes.ErrGRPCBadLeaderTransferee},

	{placement.ErrNoMember, rpctypes.ErrGRPCMemberNotFound},
	{placement.ErrRemoved, rpctypes.ErrGRPCMemberNotFound},
	{placement.ErrURLTaken, rpctypes.ErrGRPCPeerURLExist},

	{router.ErrTooLarge, rpctypes.ErrGRPCRequestTooLarge},
	{router.ErrTimeout, rpctypes.ErrGRPCTimeout},
	{router.ErrNoRange, rpctypes.ErrGRPCTimeout},
	{router.ErrRangesMoved, rpctypes.ErrGRPCTimeout},
	{router.ErrTooManyRequests, rpctypes.ErrGRPCRequestTooManyRequests},
	{router.ErrStopping, rpctypes.ErrGRPCStopped},

	{watchfeed.ErrClosed, rpctypes.ErrGRPCStopped},
	{watchfeed.ErrStopping, rpctypes.ErrGRPCStopped},
	{watchfeed.ErrTooManyStreams, rpctypes.ErrGRPCRequestTooManyRequests},
	{watchfeed.ErrTooManyWatches, rpctypes.ErrGRPCRequestTooManyRequests},

	{engine.ErrDiskFull, rpctypes.ErrGRPCNoSpace},
	{engine.ErrClosed, rpctypes.ErrGRPCStopped},

	{placement.ErrCompacted, rpctypes.ErrGRPCCompacted},
	{placement.ErrFutureRevision, rpctypes.ErrGRPCFutureRev},
	{placement.ErrStopped, rpctypes.ErrGRPCStopped},
	{placement.ErrDeposed, rpctypes.ErrGRPCTimeout},
}

// toGRPC turns an error of the parts behind the API into a status.
func toGRPC(err error) error {
	if err == nil {
		return nil
	}
	// gRPC itself knows how to say these.
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	for _, row := range grpcErrors {
		if errors.Is(err, row.is) {
			return row.to
		}
	}
	// Clients know etcd's words, and those who read them what to do.
	if errors.Is(err, placement.ErrNeeded) {
		return status.Errorf(codes.FailedPrecondition, "%s: %s", rpctypes.ErrorDesc(rpctypes.ErrGRPCMemberNotEnoughStarted), err)
	}
	// etcd has no words for these: an operator is told what to do, a client which file is
	// damaged.
	if errors.Is(err, placement.ErrOneStore) {
		return status.Error(codes.FailedPrecondition, err.Error())
	}
	if corrupt := (*engine.CorruptionError)(nil); errors.As(err, &corrupt) {
		return status.Error(codes.DataLoss, err.Error())
	}
	if _, ok := status.FromError(err); ok {
		return err
	}
	return status.Error(codes.Unknown, err.Error())
}

// toAdmin is toGRPC for operators, who want to know what does not exist.
func toAdmin(err error) error {
	switch {
	case errors.Is(err, peerpb.ErrRangeNotFound):
		return status.Error(codes.NotFound, "there is no such range: see 'flotilla range list'")
	case errors.Is(err, peerpb.ErrUnknownStore), errors.Is(err, peerpb.ErrNoReplica):
		return status.Error(codes.NotFound, err.Error())
	case errors.Is(err, peerpb.ErrHasReplica):
		return status.Error(codes.AlreadyExists, err.Error())
	case errors.Is(err, peerpb.ErrBadTransfer), errors.Is(err, peerpb.ErrLastReplica), errors.Is(err, peerpb.ErrNoMajority),
		errors.Is(err, peerpb.ErrMoveUnderWay), errors.Is(err, peerpb.ErrMoveStalled),
		errors.Is(err, peerpb.ErrWaitsForUpgrade), errors.Is(err, peerpb.ErrNotUndecided), errors.Is(err, peerpb.ErrUnreadable),
		errors.Is(err, peerpb.ErrGivenUp), errors.Is(err, peerpb.ErrNoVoter), errors.Is(err, peerpb.ErrTrustUnderWay):
		return status.Error(codes.FailedPrecondition, err.Error())
	case errors.Is(err, router.ErrBadSplitKey):
		return status.Error(codes.InvalidArgument, err.Error())
	}
	return toGRPC(err)
}
