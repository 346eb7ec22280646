package engine

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/flotilladb/flotilla/internal/keys"
)

// A commit does not change the length of the log, and what a kill leaves, a log
// with zeros behind its last record, is read to its end.
func TestLogHasItsLength(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the log grows as it is written")
	}
	dir, killed := t.TempDir(), t.TempDir()
	e, err := OpenPebble(Config{Dir: dir, BallastBytes: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	before := int64(0)
	for i := range uint64(100) {
		b := e.NewBatch()
		b.Set(keys.RaftLog(1, i), make([]byte, 300))
		if err := e.Commit(b, true); err != nil {
			t.Fatal(err)
		}
		if i == 1 {
			before = logBytes(t, dir)
		}
	}
	if after := logBytes(t, dir); after != before {
		t.Errorf("the log has %d bytes, after its second commit %d", after, before)
	}
	if err := os.CopyFS(killed, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	again, err := OpenPebble(Config{Dir: killed, BallastBytes: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	for i := range uint64(100) {
		_, c, err := again.Get(keys.RaftLog(1, i))
		if err != nil {
			t.Fatalf("entry %d: %v", i, err)
		}
		c.Close()
	}
}

func logBytes(t *testing.T, dir string) (n int64) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.log"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		st, err := os.Stat(f)
		if err != nil {
			t.Fatal(err)
		}
		n += st.Size()
	}
	return n
}
