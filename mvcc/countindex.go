package mvcc

import (
	"bytes"
	"slices"
	"sort"

	"github.com/flotilladb/flotilla/internal/invariant"
	"github.com/flotilladb/flotilla/proto/txnpb"
)

// CountIndex knows how many live keys a span has at a revision without a scan
// of the span: etcd answers every limited list with the count of the whole.
//
// It cuts the user keys of a range into buckets of some thousand keys and keeps
// for each the number of live keys now and the last few changes of that number.
// The count of a bucket at an older revision is the number now less the changes
// since; if the bucket changed too often for that, it is scanned at the
// revision, and so are the two buckets at the edges of the span.
//
// A new index knows nothing and every count is a scan; CountTasks (countbuild.go)
// fill it in, bucket by bucket, while writes go on.
//
// It is a plain value. Its shell serialises all its methods with each other,
// and Apply with the commit to the engine: between an engine commit and the
// Apply of it no CountTask may begin, nor may a Plan be made for a revision
// that the commit holds. CountTask.Run and CountScan need no lock.
type CountIndex struct {
	start, end []byte    // user keys of the range; an empty end is the end
	buckets    []*bucket // in key order. Invariant: they tile [start, end)
	task       *CountTask
	check      int // where the search for work goes on
}

const (
	// A bucket costs some 100 bytes plus its changes, so that two million keys
	// cost some 400 KB.
	bucketKeysNew = 1024 // as built
	bucketKeysMax = 3072 // above: cut by a task
	bucketKeysMin = 256  // below: joined with a neighbour
	// changesMax bounds the remembered changes of a bucket, 16 bytes each.
	changesMax = 16
)

// bucket is the live keys of [start, start of the next bucket).
type bucket struct {
	start []byte
	known bool // else the fields below mean nothing
	live  int64
	// changes are those of the number of live keys above floor, in any order,
	// one per revision at most.
	changes []countChange
	// floor is the lowest revision at which the bucket knows its count.
	floor Revision
}

type countChange struct {
	rev   Revision
	delta int64
}

// UserSpan is the user keys [Start, End); an empty End is the end.
type UserSpan struct{ Start, End []byte }

// NewCountIndex returns an index of the user keys [start, end) that knows
// nothing yet.
func NewCountIndex(start, end []byte) *CountIndex {
	return &CountIndex{start: bytes.Clone(start), end: bytes.Clone(end), buckets: []*bucket{{start: bytes.Clone(start)}}}
}

// find returns the bucket that holds key.
// REQUIRES: key >= x.start.
func (x *CountIndex) find(key []byte) int {
	return sort.Search(len(x.buckets), func(i int) bool { return bytes.Compare(x.buckets[i].start, key) > 0 }) - 1
}

// endOf returns where a bucket ends.
func (x *CountIndex) endOf(i int) []byte {
	if i+1 < len(x.buckets) {
		return x.buckets[i+1].start
	}
	return x.end
}

// Apply takes in what was committed to the engine at a revision. Revisions may
// come in any order; the changes of one key come in theirs.
func (x *CountIndex) Apply(rev Revision, muts []*txnpb.Mutation) {
	for _, m := range muts {
		var delta int64
		switch {
		case m.Tombstone && m.Existed:
			delta = -1
		case !m.Tombstone && !m.Existed:
			delta = 1
		default:
			continue
		}
		i := x.find(m.Key)
		if i < 0 {
			invariant.Check(false, "count index: key %q below %q", m.Key, x.start)
			continue
		}
		if x.task != nil {
			x.task.note(m.Key, countChange{rev, delta})
		}
		if b := x.buckets[i]; b.known {
			b.add(countChange{rev, delta})
			if b.live < bucketKeysMin && delta < 0 {
				x.join(i)
			}
		}
	}
}

// add changes the number of live keys.
func (b *bucket) add(c countChange) {
	b.live += c.delta
	if c.rev <= b.floor {
		return // nobody can ask for a count without it
	}
	for i := range b.changes {
		if b.changes[i].rev == c.rev {
			b.changes[i].delta += c.delta
			return
		}
	}
	if len(b.changes) < changesMax {
		b.changes = append(b.changes, c)
		return
	}
	// Forget the oldest change, which may be this one.
	oldest := -1
	for i := range b.changes {
		if b.changes[i].rev < c.rev && (oldest < 0 || b.changes[i].rev < b.changes[oldest].rev) {
			oldest = i
		}
	}
	if oldest < 0 {
		b.floor = c.rev
		return
	}
	b.floor = b.changes[oldest].rev
	b.changes[oldest] = c
}

// at returns the number of live keys at a revision, if the bucket knows it.
func (b *bucket) at(rev Revision) (int64, bool) {
	if !b.known || rev < b.floor {
		return 0, false
	}
	n := b.live
	for _, c := range b.changes {
		if c.rev > rev {
			n -= c.delta
		}
	}
	return n, true
}

// join joins a bucket that became small with a neighbour, unless the two would
// be large. While a task runs the borders stay.
func (x *CountIndex) join(i int) {
	if x.task != nil {
		return
	}
	for _, left := range []int{i - 1, i} {
		if left < 0 || left+1 >= len(x.buckets) {
			continue
		}
		a, b := x.buckets[left], x.buckets[left+1]
		if !a.known || !b.known || a.live+b.live > bucketKeysNew {
			continue
		}
		a.live += b.live
		a.floor = max(a.floor, b.floor)
		changes := append(a.changes, b.changes...)
		a.changes = nil
		// The count now has all changes; add counts them a second time.
		for _, c := range changes {
			a.live -= c.delta
		}
		for _, c := range changes {
			a.add(c)
		}
		x.buckets = slices.Delete(x.buckets, left+1, left+2)
		return
	}
}

// Forget says that the rows of [start, end) were replaced: what was known of them
// counts no more, and a task that runs is void.
func (x *CountIndex) Forget(start, end []byte) {
	if x.task != nil {
		x.task.void = true
	}
	for i, b := range x.buckets {
		if next := x.endOf(i); len(next) != 0 && bytes.Compare(next, start) <= 0 || len(end) != 0 && bytes.Compare(b.start, end) >= 0 {
			continue
		}
		*b = bucket{start: b.start}
	}
}

// CountPlan is how a count is made: Known keys, and spans to be scanned.
type CountPlan struct {
	Known int64
	Scans []UserSpan
	// Complete says that the index knows all of the span: what is to be scanned
	// is a few buckets. If not, tasks should be run.
	Complete bool
}

// Plan says how the live keys of [start, end) at a revision are counted. The
// scans may be made later, at the same revision: CountScan.
// REQUIRES: every write at or below the revision was applied.
func (x *CountIndex) Plan(start, end []byte, at Revision) CountPlan {
	p := CountPlan{Complete: true}
	if bytes.Compare(start, x.start) < 0 {
		start = x.start
	}
	if len(x.end) != 0 && (len(end) == 0 || bytes.Compare(end, x.end) > 0) {
		end = x.end
	}
	if emptySpan(start, end) {
		return p
	}
	for i := x.find(start); i < len(x.buckets); i++ {
		b := x.buckets[i]
		if len(end) != 0 && bytes.Compare(b.start, end) >= 0 {
			break
		}
		span := UserSpan{Start: b.start, End: x.endOf(i)}
		whole := true
		if bytes.Compare(b.start, start) < 0 {
			span.Start, whole = start, false
		}
		if len(end) != 0 && (len(span.End) == 0 || bytes.Compare(span.End, end) > 0) {
			span.End, whole = end, false
		}
		p.Complete = p.Complete && b.known
		if n, ok := b.at(at); ok && whole {
			p.Known += n
			continue
		}
		p.scan(span)
	}
	return p
}

// scan adds a span, joined with the last one where they meet.
func (p *CountPlan) scan(span UserSpan) {
	if n := len(p.Scans); n != 0 && bytes.Equal(p.Scans[n-1].End, span.Start) {
		p.Scans[n-1].End = span.End
		return
	}
	p.Scans = append(p.Scans, span)
}

// Live returns the number of live keys now; ok is false while the index does
// not know all of its span.
func (x *CountIndex) Live() (n int64, ok bool) {
	for _, b := range x.buckets {
		if !b.known {
			return 0, false
		}
		n += b.live
	}
	return n, true
}

// SplitAt cuts the index at a user key and returns the index of the right side.
// What the cut bucket knew is forgotten, and so is a task that runs.
// REQUIRES: key is inside the index's span.
func (x *CountIndex) SplitAt(key []byte) *CountIndex {
	if x.task != nil {
		x.task.void, x.task = true, nil
	}
	right := &CountIndex{start: bytes.Clone(key), end: x.end}
	i := x.find(key)
	if bytes.Equal(x.buckets[i].start, key) && i > 0 {
		right.buckets = slices.Clone(x.buckets[i:])
		x.buckets = slices.Clone(x.buckets[:i])
	} else {
		right.buckets = append([]*bucket{{start: right.start}}, x.buckets[i+1:]...)
		x.buckets = append(slices.Clone(x.buckets[:i]), &bucket{start: x.buckets[i].start})
	}
	x.end, x.check = right.start, 0
	return right
}
