package engine

import (
	"bytes"
	"errors"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/proto/metapb"
)

// readFS counts the bytes that are read of tables.
type readFS struct {
	vfs.FS
	bytes *atomic.Int64
}

func (fs readFS) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	f, err := fs.FS.Open(name, opts...)
	if err != nil || filepath.Ext(name) != tableEnding {
		return f, err
	}
	return readFile{f, fs.bytes}, nil
}

type readFile struct {
	vfs.File
	bytes *atomic.Int64
}

func (f readFile) ReadAt(p []byte, at int64) (int, error) {
	f.bytes.Add(int64(len(p)))
	return f.File.ReadAt(p, at)
}

// A start reads the small rows of all replicas, and not the entries of their logs that lie
// beside them.
func TestSmallRowsBesideLargeOnes(t *testing.T) {
	const replicas, large = 200, 64 << 10
	read := &atomic.Int64{}
	cfg := Config{Dir: "/db", FS: readFS{vfs.NewMem(), read}, BallastBytes: -1}
	e := openTest(t, cfg)
	for id := range metapb.RangeID(replicas) {
		b := e.NewBatch()
		for _, key := range [][]byte{keys.RaftHardState(id), keys.RaftTruncated(id), keys.AppliedState(id), keys.Descriptor(id)} {
			b.Set(key, make([]byte, 40))
		}
		b.Set(keys.RaftLog(id, 7), make([]byte, large))
		if err := errors.Join(e.Commit(b, false), b.Close()); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(e.Flush(), e.Close()); err != nil {
		t.Fatal(err)
	}
	e = openTest(t, cfg)
	read.Store(0)
	it, err := e.NewIter(IterOptions{})
	if err != nil {
		t.Fatal(err)
	}
	rows := 0
	for id := range metapb.RangeID(replicas) {
		for ok := it.SeekGE(keys.RaftHardState(id)); ok; ok = it.Next() {
			if rows++; bytes.Equal(it.Key(), keys.Descriptor(id)) {
				break
			}
		}
	}
	if err := errors.Join(it.Error(), it.Close(), e.Close()); err != nil {
		t.Fatal(err)
	}
	if n := read.Load(); rows != 4*replicas || n == 0 || n > replicas*large/10 {
		t.Errorf("%d rows, %d bytes read for them, of %d that are written beside", rows, n, replicas*large)
	}
}
