package rpc

import "errors"

// Why a peer is refused, for errors.Is. Each comes as a *RefusedError whose text
// says what to do.
var (
	ErrWrongCluster = errors.New("rpc: another cluster")
	ErrVersion      = errors.New("rpc: no common protocol version")
	// ErrStoreTaken: another process with the same store id is connected, or was
	// started later.
	ErrStoreTaken = errors.New("rpc: store id in use")
	// ErrOwnStore: the peer claims the store id of the one that it connects to.
	ErrOwnStore = errors.New("rpc: peer has this store's id")
	// ErrWrongStore: the address is another store's. It is resolved again.
	ErrWrongStore = errors.New("rpc: another store")
	// ErrNotReady: the peer does not know yet who it is. Try again.
	ErrNotReady = errors.New("rpc: peer has no identity yet")
	// ErrSilent: a connection gave no sign of life for SilenceMax.
	ErrSilent = errors.New("rpc: no sign of life")
	// ErrReplaced: a newer connection of the same sender took the place of this one.
	ErrReplaced = errors.New("rpc: replaced by a newer connection")
	// ErrProtocol: a message that the protocol does not have.
	ErrProtocol = errors.New("rpc: bad message")
	// errNoTLS: the other end closed the connection in place of a handshake.
	errNoTLS = errors.New("rpc: no answer to the TLS handshake: if the node there has no --peer-cert-file, set the same flags for TLS on all nodes")
	// errClosed: the other end closed the connection, as a process that ends does.
	errClosed = errors.New("rpc: the other end closed the connection")
)

// refusal is why, on the wire.
type refusal uint64

const (
	refusedOther refusal = iota
	refusedCluster
	refusedVersion
	refusedTaken
	refusedOwn
	refusedStore
	refusedNotReady
)

// RefusedError says why two peers do not talk, and what to do about it.
type RefusedError struct {
	kind refusal
	// Text is a sentence for operators.
	Text string
}

func (e *RefusedError) Error() string { return "refused: " + e.Text }

// Is makes errors.Is find the kind.
func (e *RefusedError) Is(target error) bool {
	switch e.kind {
	case refusedCluster:
		return target == ErrWrongCluster
	case refusedVersion:
		return target == ErrVersion
	case refusedTaken:
		return target == ErrStoreTaken
	case refusedOwn:
		return target == ErrOwnStore
	case refusedStore:
		return target == ErrWrongStore
	case refusedNotReady:
		return target == ErrNotReady
	}
	return false
}
