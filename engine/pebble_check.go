package engine

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"strings"
	"syscall"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// checkedFile is a table whose blocks are checked before Pebble checks them.
//
// Pebble, when a checksum is wrong, flips one bit after the other to tell what
// broke, with the checksum of the whole block each time: for a block of 1 MiB
// that is half a minute of a processor, for each read that meets it. Whoever
// reads wants to know at once.
//
// What the disk does not give back is damage as well.
//
// A block is read in one piece with its trailer: a byte for the compression and
// four of checksum. The one read that is no block is the footer's, which ends
// where the file ends.
type checkedFile struct {
	vfs.File
}

const (
	tableEnding  = ".sst"
	trailerBytes = 5
	// crcDelta is what Pebble's tables, as LevelDB's, add to a rotated CRC.
	crcDelta = 0xa282ead8
)

// ReadAt implements vfs.File.
func (f *checkedFile) ReadAt(p []byte, at int64) (int, error) {
	n, err := f.File.ReadAt(p, at)
	if errors.Is(err, syscall.EIO) || errors.Is(err, syscall.EBADMSG) {
		// A bad sector, or a block whose checksum the file system itself finds wrong.
		return n, fmt.Errorf("block at %d: %w: %w", at, err, pebble.ErrCorruption)
	}
	if err != nil || n < len(p) || n <= trailerBytes {
		return n, err
	}
	want := binary.LittleEndian.Uint32(p[n-4:])
	if blockChecksum(p[:n-4]) == want {
		return n, nil
	}
	info, err := f.Stat()
	if err != nil || at+int64(n) >= info.Size() {
		return n, err
	}
	return 0, fmt.Errorf("block %d/%d: %w: %w", at, n-trailerBytes, errChecksum, pebble.ErrCorruption)
}

func blockChecksum(p []byte) uint32 {
	// MakeTable knows its own tables.
	c := crc32.Checksum(p, crc32.MakeTable(crc32.Castagnoli))
	return (c>>15 | c<<17) + crcDelta
}

// Open implements vfs.FS.
func (fs *fullFS) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	f, err := fs.FS.Open(name, opts...)
	if err != nil || !strings.HasSuffix(name, tableEnding) {
		return f, err
	}
	return &checkedFile{File: f}, nil
}
