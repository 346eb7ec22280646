package mvcc

import (
	"bytes"
	"cmp"
	"container/heap"
	"slices"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/internal/keys"
)

// Version is one version of one key, a tombstone too.
type Version struct {
	Key      []byte
	Revision Revision
	Sub      uint32
	Value    // Raw is a copy
}

func (v *Version) bytes() int { return len(v.Key) + len(v.Raw) + 96 }

func compareVersions(a, b *Version) int {
	if c := cmp.Compare(a.Revision, b.Revision); c != 0 {
		return c
	}
	if c := cmp.Compare(a.Sub, b.Sub); c != 0 {
		return c
	}
	return bytes.Compare(a.Key, b.Key)
}

// Window is all versions with a revision in (from, Through], in order of
// revision and sub-revision.
type Window struct {
	Versions []Version
	// Through is where the next window begins. It is the revision asked for when
	// nothing was left out.
	Through Revision
}

// History reads the versions of the user keys of [start, end) with a revision
// in (from, to]. If they take more than about bytesMax, the window ends with an
// earlier revision, but never inside one, and always holds at least the first
// revision that has a version: a caller goes on from Through until it is to.
//
// A window costs a scan of all blocks that hold a revision of (from, to], so to
// is best kept near from when there is much.
// REQUIRES: the span is closed at to; from is not below the removal mark - 1.
func History(r engine.Reader, start, end []byte, from, to Revision, bytesMax int) (Window, error) {
	w := Window{Through: to}
	if from >= to || emptySpan(start, end) {
		return w, nil
	}
	span := keys.VersionSpan(start, end)
	it, err := r.NewIter(engine.IterOptions{
		Lower: span.Start, Upper: span.End, MinRevision: int64(from) + 1, MaxRevision: int64(to),
	})
	if err != nil {
		return Window{}, err
	}
	c := historyCollector{max: bytesMax, through: to, low: to}
	err = c.run(it, from)
	if e := it.Close(); err == nil {
		err = e
	}
	if err != nil {
		return Window{}, err
	}
	w.Versions, w.Through = c.rows, c.through
	slices.SortFunc(w.Versions, func(a, b Version) int { return compareVersions(&a, &b) })
	return w, nil
}

// historyCollector keeps the lowest revisions that fit: a heap with the highest
// on top, from which whole revisions are thrown out.
type historyCollector struct {
	rows    []Version
	bytes   int
	max     int
	through Revision // nothing above is wanted any more
	low     Revision // the lowest revision held; it is never thrown out
}

func (c *historyCollector) run(it engine.Iterator, from Revision) error {
	for ok := it.First(); ok; ok = it.Next() {
		user, rev, sub, err := keys.DecodeVersion(it.Key())
		if err != nil {
			return err
		}
		if rev <= from || rev > c.through {
			continue // the iterator's filter is a hint
		}
		v, err := valueAt(it)
		if err != nil {
			return err
		}
		row := Version{Key: bytes.Clone(user), Revision: rev, Sub: sub, Value: v}
		row.Raw = bytes.Clone(v.Raw)
		c.bytes += row.bytes()
		c.low = min(c.low, rev)
		heap.Push(c, row)
		c.shrink()
	}
	return it.Error()
}

// shrink throws the highest revisions out until the rest fits or is one.
func (c *historyCollector) shrink() {
	for c.bytes > c.max && c.low < c.rows[0].Revision {
		top := c.rows[0].Revision
		for len(c.rows) != 0 && c.rows[0].Revision == top {
			row := heap.Pop(c).(Version)
			c.bytes -= row.bytes()
		}
		c.through = top - 1
	}
}

// Len, Less, Swap, Push and Pop implement heap.Interface.
func (c *historyCollector) Len() int           { return len(c.rows) }
func (c *historyCollector) Less(i, j int) bool { return compareVersions(&c.rows[i], &c.rows[j]) > 0 }
func (c *historyCollector) Swap(i, j int)      { c.rows[i], c.rows[j] = c.rows[j], c.rows[i] }
func (c *historyCollector) Push(v any)         { c.rows = append(c.rows, v.(Version)) }

// Pop implements heap.Interface.
func (c *historyCollector) Pop() any {
	n := len(c.rows) - 1
	v := c.rows[n]
	c.rows[n] = Version{}
	c.rows = c.rows[:n]
	return v
}
