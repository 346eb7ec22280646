package mvcc

import (
	"bytes"
	"slices"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/internal/keys"
)

// CountScan counts the live keys of some spans at a revision: what a CountPlan
// left to be scanned.
func CountScan(r engine.Reader, scans []UserSpan, at Revision) (int64, error) {
	if len(scans) == 0 {
		return 0, nil
	}
	bounds := keys.VersionSpan(scans[0].Start, scans[len(scans)-1].End)
	it, err := r.NewIter(engine.IterOptions{Lower: bounds.Start, Upper: bounds.End})
	if err != nil {
		return 0, err
	}
	live := liveIter{it: it, at: at, bare: true}
	var n int64
	for _, s := range scans {
		live.end = s.End
		for ok := live.seek(s.Start); ok; ok = live.next() {
			n++
		}
		if live.err != nil {
			break
		}
	}
	if err := it.Close(); live.err == nil {
		live.err = err
	}
	return n, live.err
}

// Count is Plan and CountScan in one, for whoever may scan where it stands.
func (x *CountIndex) Count(r engine.Reader, start, end []byte, at Revision) (int64, error) {
	p := x.Plan(start, end, at)
	n, err := CountScan(r, p.Scans, at)
	return p.Known + n, err
}

// CountTask is one step of building a CountIndex: a bounded scan of a part that
// the index does not know, or of a bucket that grew too large.
type CountTask struct {
	it       engine.Iterator
	from     []byte
	end      []byte // of the bucket
	rowsMax  int
	found    []*bucket
	until    []byte // where the scan stopped; nil: at end
	noted    []notedChange
	void     bool // the index changed under it
	finished bool
}

type notedChange struct {
	key []byte
	c   countChange
}

// notedMax bounds what a task remembers of the writes during its scan; a task
// that meets more is void and is begun again.
const notedMax = 8192

// Begin begins a task that looks at about rowsMax versions, or returns nil if
// there is nothing to do or a task runs. The reader must show exactly what
// Apply was told of. After Run, or instead of it, the task is given to Finish.
func (x *CountIndex) Begin(r engine.Reader, rowsMax int) (*CountTask, error) {
	if x.task != nil {
		return nil, nil
	}
	i, ok := x.work()
	if !ok {
		return nil, nil
	}
	t := &CountTask{from: x.buckets[i].start, end: x.endOf(i), rowsMax: max(rowsMax, 1)}
	span := keys.VersionSpan(t.from, t.end)
	it, err := r.NewIter(engine.IterOptions{Lower: span.Start, Upper: span.End})
	if err != nil {
		return nil, err
	}
	t.it, x.task = it, t
	return t, nil
}

// work finds a bucket that needs a task.
func (x *CountIndex) work() (i int, ok bool) {
	for range x.buckets {
		if x.check >= len(x.buckets) {
			x.check = 0
		}
		if b := x.buckets[x.check]; !b.known || b.live > bucketKeysMax {
			return x.check, true
		}
		x.check++
	}
	return 0, false
}

// note remembers a change during the scan: the iterator does not show it.
func (t *CountTask) note(key []byte, c countChange) {
	if bytes.Compare(key, t.from) < 0 || (len(t.end) != 0 && bytes.Compare(key, t.end) >= 0) {
		return
	}
	if len(t.noted) == notedMax {
		t.void = true
		return
	}
	t.noted = append(t.noted, notedChange{key, c})
}

// Run scans. It needs no lock and is called once.
func (t *CountTask) Run() error {
	b := &bucket{start: t.from, known: true}
	t.found = []*bucket{b}
	ok := t.it.First()
	for ; ok; ok = t.it.NextPrefix() {
		user, rev, _, err := keys.DecodeVersion(t.it.Key())
		if err != nil {
			return err
		}
		raw, err := t.it.Value()
		if err != nil {
			return err
		}
		if t.rowsMax--; t.rowsMax < 0 {
			t.until = bytes.Clone(user)
			break
		}
		if b.live == bucketKeysNew {
			b = &bucket{start: bytes.Clone(user), known: true}
			t.found = append(t.found, b)
		}
		// Below the newest change that the scan saw nothing is known.
		b.floor = max(b.floor, rev)
		if !IsTombstone(raw) {
			b.live++
		}
	}
	t.finished = true
	return t.it.Error()
}

// Finish takes the result of a task into the index, and the task's iterator
// back. A task that was not run, failed or is void leaves the index as it was.
func (x *CountIndex) Finish(t *CountTask) error {
	err := t.it.Close()
	if x.task != t {
		return err // cut off by SplitAt
	}
	x.task = nil
	if t.void || !t.finished || err != nil {
		return err
	}
	if t.until != nil {
		t.found = append(t.found, &bucket{start: t.until})
	}
	i := x.find(t.from)
	x.buckets = slices.Replace(x.buckets, i, i+1, t.found...)
	for _, n := range t.noted {
		if b := x.buckets[x.find(n.key)]; b.known {
			b.add(n.c)
		}
	}
	return nil
}
