package engine

import (
	"errors"

	"golang.org/x/sys/unix"
)

// extend allocates n bytes of a file and makes it so long. A log that has its
// length from the start is synced without a change of the file's size, which on
// a journaling file system is a second write: 0.16 ms against 0.26 ms for a sync
// of 400 B, measured on ext4. The zeros behind the last record end the log, as
// they do in one that is used again.
func extend(fd uintptr, at, n int64) error {
	err := unix.Fallocate(int(fd), 0, at, n)
	if errors.Is(err, unix.EOPNOTSUPP) {
		return nil // it grows as it is written
	}
	return err
}
