package engine

import (
	"errors"
	"fmt"
)

var (
	// ErrNotFound says that a key is not there.
	ErrNotFound = errors.New("engine: not found")
	// ErrLocked says that another process has the folder open.
	ErrLocked = errors.New("engine: folder is in use by another process")
	// ErrDiskFull says that a write failed for want of space. Nothing of it is
	// visible; reads go on.
	ErrDiskFull = errors.New("engine: disk is full")
	// ErrNewerFormat says that the folder was written by a newer version.
	ErrNewerFormat = errors.New("engine: folder was written by a newer version")
	// ErrEtcdData says that the folder is that of an etcd, and not ours.
	ErrEtcdData = errors.New("engine: folder holds data of etcd, which is not read here: name another folder, and copy the keys from an etcd that runs")
	// ErrClosed says that the engine was closed.
	ErrClosed = errors.New("engine: closed")

	errChecksum     = errors.New("checksum mismatch")
	errNoTable      = errors.New("no such table")
	errTableOrder   = errors.New("table is not in order")
	errPrevInPrefix = errors.New("engine: no way back after SeekPrefixGE")
)

// CorruptionError says that bytes on disk are not what was written, or cannot be read
// any more. The engine refuses to serve them.
type CorruptionError struct {
	Path string // file, if known
	Err  error
}

func (e *CorruptionError) Error() string {
	return fmt.Sprintf("engine: corrupt data in %s: %v", e.Path, e.Err)
}

func (e *CorruptionError) Unwrap() error { return e.Err }

// wrap says what the engine was doing.
func wrap(op string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("engine: %s: %w", op, err)
}
