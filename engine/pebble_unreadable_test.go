package engine

import (
	"errors"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/flotilladb/flotilla/internal/keys"
)

// What the disk cannot give back of a table is lost, as what is not what was written: so a
// bad sector is told of, and so is what a file system finds with checksums of its own.
func TestUnreadableBlock(t *testing.T) {
	for _, errno := range []syscall.Errno{syscall.EIO, syscall.EBADMSG} {
		var broken atomic.Bool
		fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
			if broken.Load() && op.Kind == errorfs.OpFileReadAt && filepath.Ext(op.Path) == tableEnding {
				return errno
			}
			return nil
		}))
		told := 0
		cfg := Config{Dir: "/db", FS: fs, BallastBytes: -1, Damaged: func(first, last []byte) { told++ }}
		e := openTest(t, cfg)
		put(t, e, true, 0, 5000)
		if err := errors.Join(e.Flush(), e.Close()); err != nil {
			t.Fatal(err)
		}
		e = openTest(t, cfg)
		if _, closer, err := e.Get(keys.Version([]byte("key004000"), 4001, 0)); err != nil {
			t.Fatal(err)
		} else if err := closer.Close(); err != nil {
			t.Fatal(err)
		}
		broken.Store(true)
		for range 2 {
			_, _, err := e.Get(keys.Version([]byte("key000007"), 8, 0))
			var c *CorruptionError
			if !errors.As(err, &c) || filepath.Ext(c.Path) != tableEnding || !errors.Is(err, errno) {
				t.Errorf("%v: %v", errno, err)
			}
		}
		if told != 1 {
			t.Errorf("%v: told %d times", errno, told)
		}
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
