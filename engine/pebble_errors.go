package engine

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// unknownFile stands for a file that Pebble did not name.
const unknownFile = "unknown file"

// readErr turns Pebble's errors into ours.
func readErr(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, pebble.ErrNotFound):
		return ErrNotFound
	case errors.Is(err, pebble.ErrClosed):
		return ErrClosed
	case pebble.IsCorruptionError(err):
		c := &CorruptionError{Path: unknownFile, Err: err}
		if info := pebble.ExtractDataCorruptionInfo(err); info != nil {
			c.Path = info.Path
		}
		return c
	}
	return diskErr(err)
}

// diskErr marks an error that says that the disk is full.
func diskErr(err error) error {
	if err != nil && isNoSpace(err) {
		return fmt.Errorf("%w: %w", ErrDiskFull, err)
	}
	return err
}

func commitErr(err error) error { return wrap("commit", diskErr(err)) }

func isNoSpace(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// openErr is readErr for Open, which meets logs and manifests as well as tables.
// By then the folder is locked and its format is known, so what the operating
// system does not refuse is damage, a file that should be there included.
func openErr(dir string, err error) error {
	var c *CorruptionError
	if err = readErr(err); errors.As(err, &c) {
		if c.Path == unknownFile {
			c.Path = dir // the error itself names the file
		}
		return err
	}
	var refused syscall.Errno
	if errors.As(err, &refused) && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return &CorruptionError{Path: dir, Err: err}
}

// lockFolder takes the lock of a folder.
func lockFolder(fs vfs.FS, dir string) (*pebble.Lock, error) {
	lock, err := pebble.LockDirectory(dir, fs)
	switch {
	case err == nil:
		return lock, nil
	case errors.Is(err, syscall.EACCES) || errors.Is(err, syscall.EROFS) || isNoSpace(err):
		return nil, wrap("lock "+dir, diskErr(err))
	}
	// What is left is the lock itself. Pebble's file systems have an error
	// without a type for a lock that this very process holds.
	return nil, fmt.Errorf("%w: %s: %w", ErrLocked, dir, err)
}

// checkFormat refuses a folder whose format Pebble does not know yet. The marker
// is a file name that ends with the number.
func checkFormat(fs vfs.FS, dir string) error {
	names, err := fs.List(dir)
	if err != nil {
		return wrap("open", err)
	}
	ours := false
	for _, name := range names {
		rest, ok := strings.CutPrefix(name, "marker.format-version.")
		if !ok {
			continue
		}
		ours = true
		_, number, _ := strings.Cut(rest, ".")
		if v, err := strconv.ParseUint(number, 10, 64); err == nil && v > uint64(pebble.FormatNewest) {
			return fmt.Errorf("%w: format %d, this version knows %d", ErrNewerFormat, v, pebble.FormatNewest)
		}
	}
	if ours {
		return nil
	}
	if wal, err := fs.Stat(fs.PathJoin(dir, "member", "wal")); err == nil && wal.IsDir() {
		return ErrEtcdData // an empty store in its place would look as if all keys were lost
	}
	return nil
}
