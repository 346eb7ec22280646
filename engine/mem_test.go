package engine

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/flotilladb/flotilla/internal/keys"
)

// The scripts in testdata/mem tell what is visible, what is durable and what a
// crash leaves. Rows are entries of one log.
func TestMemScript(t *testing.T) {
	datadriven.Walk(t, "testdata/mem", func(t *testing.T, path string) {
		s := &memScript{m: NewMem()}
		s.m.DriveSyncs()
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			return s.run(t, d)
		})
	})
}

type memScript struct {
	m    *Mem
	view View
	done []string
}

func (s *memScript) run(t *testing.T, d *datadriven.TestData) string {
	var n int
	d.MaybeScanArgs(t, "n", &n)
	switch d.Cmd {
	case "commit", "async":
		b := s.m.NewBatch()
		var index uint64
		d.ScanArgs(t, "set", &index)
		b.Set(keys.RaftLog(1, index), nil)
		if d.Cmd == "commit" {
			if err := s.m.Commit(b, d.HasArg("sync")); err != nil {
				return err.Error() + "\n"
			}
		} else if err := s.m.CommitAsync(b, func(error) { s.done = append(s.done, fmt.Sprint(index)) }); err != nil {
			return err.Error() + "\n"
		}
	case "complete":
		s.m.CompleteSync(n)
	case "crash":
		s.m = s.m.Crash(func(unsynced int) int { return min(n, unsynced) })
	case "restart":
		if err := s.m.Close(); err != nil {
			return err.Error() + "\n"
		}
		s.m = s.m.Reopen()
	case "view":
		s.view = s.m.NewView(nil)
	case "show-view":
		return memRows(t, s.view) + "\n"
	}
	out := fmt.Sprintf("rows=%s unsynced=%d pending=%d done=%s\n",
		memRows(t, s.m), s.m.Unsynced(), s.m.PendingSyncs(), strings.Join(s.done, ","))
	s.done = nil
	return out
}

func memRows(t *testing.T, r Reader) string {
	it, err := r.NewIter(IterOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for ok := it.First(); ok; ok = it.Next() {
		_, _, index, err := keys.DecodeLocal(it.Key())
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, fmt.Sprint(index))
	}
	if err := it.Close(); err != nil {
		t.Fatal(err)
	}
	return strings.Join(out, ",")
}

// Outside of its window the filter leaves some rows out and some in, so that
// neither can be relied upon.
func TestMemFilterIsAHint(t *testing.T) {
	m := NewMem()
	put(t, m, false, 0, 100)
	it, err := m.NewIter(IterOptions{MinRevision: 90})
	if err != nil {
		t.Fatal(err)
	}
	var outside []int64
	for ok := it.First(); ok; ok = it.Next() {
		_, rev, _, err := keys.DecodeVersion(it.Key())
		if err != nil {
			t.Fatal(err)
		}
		if rev < 90 {
			outside = append(outside, int64(rev))
		}
	}
	if n := len(outside); n < 10 || n > 80 || slices.Max(outside) >= 90 {
		t.Fatalf("%d of 89 rows outside of the window were shown", n)
	}
}

// A batch that was committed shares its bytes with the tree, so it must not be
// committed again without a Reset.
func TestMemBatchTwice(t *testing.T) {
	m := NewMem()
	b := m.NewBatch()
	b.Set(keys.RaftLog(1, 1), nil)
	if err := m.Commit(b, false); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if recover() == nil {
			t.Fatal("a batch was committed twice")
		}
	}()
	_ = m.Commit(b, false)
}

// A crash takes away table files that were not finished.
func TestMemTablesAndCrash(t *testing.T) {
	m := NewMem()
	for _, name := range []string{"whole", "half"} {
		w, err := m.NewTableWriter(name)
		if err != nil {
			t.Fatal(err)
		}
		err = w.Set(keys.RaftLog(1, 1), nil)
		if name == "whole" {
			err = errors.Join(err, w.Finish())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	m = m.Crash(func(int) int { return 0 })
	if err := m.IngestAndExcise(t.Context(), []string{"whole"}, keys.RaftLogSpan(1, 0, 0)); err != nil {
		t.Fatal(err)
	}
	var c *CorruptionError
	if err := m.IngestAndExcise(t.Context(), []string{"half"}, keys.RaftLogSpan(1, 0, 0)); !errors.As(err, &c) || c.Path != "half" {
		t.Fatal(err)
	}
	if got := memRows(t, m); got != "1" {
		t.Fatalf("rows %s", got)
	}
}
