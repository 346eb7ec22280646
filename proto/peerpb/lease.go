package peerpb

import (
	"time"

	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/txnpb"
)

// The requests about leases. Those that name one go to the range that holds
// keys.Lease(id), the lease's home, but for EnsureMarks and LeaseKeys, which go
// to a range of client keys. A lease id is an int64 here, as in etcd's API.

// LeaseUse is a client's key that may be attached to a lease.
type LeaseUse struct {
	Lease int64
	Key   []byte
}

// GrantLease writes a lease's record. Answered by *Done when applied, or by
// package lease's ErrExists. Number names the grant: asking twice with the same does no
// harm.
type GrantLease struct {
	ID, TTL int64
	Number  uint64
}

// RegisterLease notes, durably, that keys of a lease may be in spans of
// addresses. If some, but not these, are noted already that are in Range, the
// whole of that is: a range does not ask for each key. Answered by *Registered,
// or by ErrLeaseNotFound. While the lease is being revoked it waits for the
// outcome.
type RegisterLease struct {
	ID    int64
	Spans []metapb.Span
	Range metapb.Span
}

// Registered answers RegisterLease.
type Registered struct {
	Number uint64 // of the grant
	// Spans are what is noted in Range.
	Spans []metapb.Span
}

// EnsureMarks has a range of client keys ask for the marks that it lacks.
// Answered by *Marks. A cross-range transaction sends it before it takes any
// lock: a registration may wait for a revoke, and that for the transaction.
type EnsureMarks struct {
	Uses []LeaseUse
}

// Marks answers EnsureMarks: the named leases that do not exist.
type Marks struct {
	Absent []int64
}

// RevokeLease ends a lease and deletes its keys, if all of them can only be on
// its home range. Answered by a DeleteRangeResponse of etcd's API, or by
// ErrLeaseNotFound, ErrLeaseNotDue, or ErrNeedsTxn: then it takes a transaction
// (Prepare.Revoke).
type RevokeLease struct {
	ID int64
	// Expired says that the lease is only to be revoked if its deadline passed.
	Expired bool
}

// LeaseRevoke is what a Prepare of a revoke asks of each range: the mark of the
// lease, and at its home the record, are locked, and the lease's keys in the
// range are found and locked.
type LeaseRevoke struct {
	ID      int64
	Home    bool // the range is expected to hold the record
	Expired bool // as in RevokeLease
}

// LeaseFound is what a Prepared of a revoke says.
type LeaseFound struct {
	// Spans are the addresses where keys may be; of the home only. In an answer to LeaseKeys
	// they are where there are more keys.
	Spans []metapb.Span
	// Keys are the lease's keys in the range, in order. Where they are too many to be told
	// at once, and Prepared.Counts says how many, they are the first and the last.
	Keys [][]byte
}

// RemoveLease deletes the record of a lease that has no keys, under the locks of
// a transaction, and gives the locks of this range back. Answered by *Done when
// applied, or by ErrLockLost.
type RemoveLease struct {
	Txn  *txnpb.TxnID
	Lock uint64
	ID   int64
}

// RenewLeases renews leases. Answered by *Renewed.
type RenewLeases struct {
	IDs []int64
}

// Renewed answers RenewLeases, in the order of its ids.
type Renewed struct {
	// TTLs are as granted, or one of the values below.
	TTLs []int64
}

// What a renewal may come to besides a TTL.
const (
	RenewUnknown int64 = 0  // there is no such lease
	RenewAgain   int64 = -1 // not decided: ask again
	RenewExpired int64 = -2 // the deadline passed; it is about to go
)

// LookupLease asks for a lease as it is now, and waits for no revoke. Answered by
// *LeaseInfo, or by ErrLeaseNotFound.
type LookupLease struct {
	ID int64
}

// LeaseInfo answers LookupLease.
type LeaseInfo struct {
	TTL       int64 // as granted, in seconds
	Remaining time.Duration
	// Spans are the addresses where keys may be.
	Spans []metapb.Span
}

// LeaseKeys asks for the keys of a lease in a part of a range. Answered by
// *LeaseFound.
//
// They are the first of the span where there are too many to be told at once.
type LeaseKeys struct {
	ID   int64
	Span metapb.Span // addresses
}

// ListLeases asks for the leases of a range from an address on, at most LimitMax.
// Answered by *LeaseList.
type ListLeases struct {
	From     []byte
	LimitMax int
}

// LeaseList answers ListLeases.
type LeaseList struct {
	Leases []LeaseEntry // in the order of addresses
	More   bool
}

// LeaseEntry is one lease of a list.
type LeaseEntry struct {
	ID        int64
	Remaining time.Duration
}

// CheckpointLeases writes into records what remains of their leases. A range
// sends it to itself.
type CheckpointLeases struct {
	Leases []LeaseCheckpoint
}

// LeaseCheckpoint is what remains of a lease, in seconds; 0 clears what was
// written before. Number is that of the grant.
type LeaseCheckpoint struct {
	ID, Remaining int64
	Number        uint64
}

func (*GrantLease) body()       {}
func (*RegisterLease) body()    {}
func (*EnsureMarks) body()      {}
func (*RevokeLease) body()      {}
func (*RemoveLease) body()      {}
func (*RenewLeases) body()      {}
func (*LookupLease) body()      {}
func (*LeaseKeys) body()        {}
func (*ListLeases) body()       {}
func (*CheckpointLeases) body() {}
