package mvcc

import (
	"errors"
	"fmt"

	"github.com/flotilladb/flotilla/proto/peerpb"
)

// Each of these is one error of etcd; the API layer has the table of codes and
// strings.
var (
	// ErrEmptyKey says that a request or a compare names no key.
	ErrEmptyKey = errors.New("mvcc: key is not provided")
	// ErrKeyNotFound says that ignore_value or ignore_lease met a missing key,
	// or that a transaction holds an empty operation (etcd's odd choice).
	ErrKeyNotFound = errors.New("mvcc: key not found")
	// ErrValueProvided says that ignore_value came with a value.
	ErrValueProvided = errors.New("mvcc: value is provided")
	// ErrLeaseProvided says that ignore_lease came with a lease.
	ErrLeaseProvided = errors.New("mvcc: lease is provided")
	// ErrInvalidSortOption says that a sort order or target is unknown.
	ErrInvalidSortOption = errors.New("mvcc: invalid sort option")
	// ErrTooManyOps says that a transaction has more operations than allowed.
	ErrTooManyOps = errors.New("mvcc: too many operations in txn request")
	// ErrDuplicateKey says that a transaction writes a key twice.
	ErrDuplicateKey = errors.New("mvcc: duplicate key given in txn request")
	// ErrLeaseNotFound says that a put names a lease that does not exist. It is
	// package lease's ErrNotFound.
	ErrLeaseNotFound = peerpb.ErrLeaseNotFound
	// ErrLeaseUnknown says that it is not known here whether a lease that a put
	// names exists; see LeaseUnknown.
	ErrLeaseUnknown = errors.New("mvcc: a lease is not known here")
	// ErrCompacted says that a revision is below the compacted one.
	ErrCompacted = errors.New("mvcc: required revision has been compacted")
	// ErrFutureRevision says that a revision is above the current one.
	ErrFutureRevision = errors.New("mvcc: required revision is a future revision")
	// ErrStreamSort says that RangeStream was asked to sort.
	ErrStreamSort = errors.New("mvcc: RangeStream does not support custom sort orders")
	// ErrStreamFilter says that RangeStream was asked to filter by revision.
	ErrStreamFilter = errors.New("mvcc: RangeStream does not support revision filters")
)

// ErrWait says that the answer depends on a revision that is still open: the
// request must be evaluated again in the next batch, with a revision that is
// known.
var ErrWait = errors.New("mvcc: a revision is still open")

// PauseError ends a scan that met too many dead keys (see EngineState). All live
// keys before Key were shown.
type PauseError struct {
	Key []byte
}

func (e *PauseError) Error() string { return fmt.Sprintf("mvcc: many dead keys before %q", e.Key) }

// PauseOf returns the pause that an error is, or nil.
func PauseOf(err error) *PauseError {
	p, _ := err.(*PauseError)
	return p
}

// ErrTooLarge says that a request deletes more keys than Env allows, or looks at
// more bytes of them, or that a scan for it paused.
var ErrTooLarge = errors.New("mvcc: the request changes too much")

// ErrUnknownRequest says that Evaluate was given a message that is no request
// of the KV service.
var ErrUnknownRequest = errors.New("mvcc: unknown kind of request")

// ErrCorrupt says that bytes of the engine are not what this package wrote; see
// *CorruptError.
var ErrCorrupt = errors.New("mvcc: corrupt version")

// CorruptError names the row that cannot be read.
type CorruptError struct {
	Key []byte // engine key, nil if unknown
	Why string
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("mvcc: corrupt version at %x: %s", e.Key, e.Why)
}

// Is makes errors.Is(err, ErrCorrupt) true.
func (e *CorruptError) Is(target error) bool { return target == ErrCorrupt }
