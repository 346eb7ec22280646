package proc

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// Disk is a file system of its own that can be filled. Used by one goroutine at a
// time.
type Disk struct{ Dir string }

// SmallDisks mounts so many, which end with the test, or skips it.
func SmallDisks(t testing.TB, count, megabytes int) (disks []*Disk) {
	t.Helper()
	for range count {
		dir := t.TempDir()
		if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%dm", megabytes)); err != nil {
			t.Skipf("cannot mount a small disk: %v", err)
		}
		t.Cleanup(func() { _ = syscall.Unmount(dir, 0) })
		disks = append(disks, &Disk{dir})
	}
	return disks
}

func (d *Disk) filler() string { return filepath.Join(d.Dir, "filler") }

// Fill takes all the space that is left, to the last byte.
func (d *Disk) Fill() error {
	file, err := os.OpenFile(d.filler(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	for block := make([]byte, 1<<20); len(block) > 0; {
		switch n, err := file.Write(block); {
		case errors.Is(err, syscall.ENOSPC) && n == 0:
			block = block[:len(block)/2]
		case err != nil && !errors.Is(err, syscall.ENOSPC):
			return errors.Join(err, file.Close())
		}
	}
	return file.Close()
}

// Empty gives back what Fill took.
func (d *Disk) Empty() error {
	if err := os.Remove(d.filler()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
