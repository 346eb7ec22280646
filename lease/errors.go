package lease

import (
	"errors"
	"fmt"

	"github.com/flotilladb/flotilla/proto/peerpb"
)

var (
	// ErrNotFound says that there is no such lease. It is the error of a put that
	// names one, too.
	ErrNotFound = peerpb.ErrLeaseNotFound
	// ErrExists says that the id of a grant is in use.
	ErrExists = errors.New("lease: already exists")
	// ErrTTLTooLarge says that a grant asks for more than TTLMax.
	ErrTTLTooLarge = errors.New("lease: too large lease TTL")
	// ErrExpired says that the deadline of a lease has passed: it is being revoked
	// and is not renewed any more. Who waits for the revoke will then find
	// ErrNotFound.
	ErrExpired = errors.New("lease: its deadline has passed")
	// ErrCheckpointed says that the record of a lease may hold a checkpoint. The
	// clear is among the next Checkpoints; when that is applied, the renewal may
	// be tried again.
	ErrCheckpointed = errors.New("lease: a checkpoint has to be cleared first")
	// ErrCorrupt says that bytes of the engine are not what this package wrote;
	// see *CorruptError.
	ErrCorrupt = errors.New("lease: corrupt row")
)

// CorruptError names the row that cannot be read.
type CorruptError struct {
	Key []byte // engine key or address
	Why string
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("lease: corrupt row at %x: %s", e.Key, e.Why)
}

// Is makes errors.Is(err, ErrCorrupt) true.
func (e *CorruptError) Is(target error) bool { return target == ErrCorrupt }
