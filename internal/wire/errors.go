package wire

import (
	"errors"
	"fmt"
)

var (
	// ErrBadFrame says that bytes are not a frame, or were damaged on their way.
	ErrBadFrame = errors.New("wire: bad frame")
	// ErrUnknown says that a frame holds something of a newer version; see
	// *UnknownError.
	ErrUnknown = errors.New("wire: unknown kind")
	// ErrNoForm says that a value has no form on the wire; see *NoFormError.
	ErrNoForm = errors.New("wire: the value cannot be sent")
	// ErrFrameTooLarge says that a frame has more than FrameBytesMax.
	ErrFrameTooLarge = errors.New("wire: frame is too large")
)

// UnknownError names what a newer version sent.
type UnknownError struct {
	What string // version, section, request, reply, ...
	Kind uint64
}

func (e *UnknownError) Error() string {
	return fmt.Sprintf("wire: %s of kind %d is unknown to this version; do all nodes run the same?", e.What, e.Kind)
}

// Is makes errors.Is(err, ErrUnknown) true.
func (e *UnknownError) Is(target error) bool { return target == ErrUnknown }

// NoFormError names the type that Append was given and cannot write.
type NoFormError struct {
	What  string
	Value any
}

func (e *NoFormError) Error() string { return fmt.Sprintf("wire: a %T is no %s", e.Value, e.What) }

// Is makes errors.Is(err, ErrNoForm) true.
func (e *NoFormError) Is(target error) bool { return target == ErrNoForm }

// RemoteError is an error of another node: its text, and which of our sentinels
// it is, if any.
type RemoteError struct {
	Text string
	Kind error // may be nil
}

func (e *RemoteError) Error() string { return e.Text }
func (e *RemoteError) Unwrap() error { return e.Kind }

func badFrame(why string) error { return fmt.Errorf("%w: %s", ErrBadFrame, why) }
