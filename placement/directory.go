package placement

import (
	"bytes"

	"github.com/google/btree"

	"github.com/flotilladb/flotilla/proto/metapb"
)

// Directory is the index of all ranges, by the end of their span. It is built
// from what ranges report, so it may be late, or have a gap where only one side
// of a split has reported yet. Its descriptors never overlap and must not be
// changed.
type Directory struct {
	byEnd   *btree.BTreeG[*metapb.Descriptor]
	changes uint64
}

// Changes counts what was done to the directory: while it is the same, so are the
// descriptors.
func (d *Directory) Changes() uint64 { return d.changes }

// NewDirectory returns an empty directory.
func NewDirectory() *Directory {
	return &Directory{byEnd: btree.NewG(16, func(a, b *metapb.Descriptor) bool {
		return endBefore(a.End, b.End)
	})}
}

// endBefore orders ends of spans: an empty one is the end of the keyspace.
func endBefore(a, b []byte) bool {
	if len(a) == 0 || len(b) == 0 {
		return len(a) != 0
	}
	return bytes.Compare(a, b) < 0
}

// Lookup appends the descriptors that share an address with a span, in order.
func (d *Directory) Lookup(dst []*metapb.Descriptor, span metapb.Span) []*metapb.Descriptor {
	d.Visit(span, func(r *metapb.Descriptor) bool {
		dst = append(dst, r)
		return true
	})
	return dst
}

// Visit calls fn for the descriptors that share an address with a span, in order,
// until it returns false.
func (d *Directory) Visit(span metapb.Span, fn func(*metapb.Descriptor) bool) {
	// A range that ends at span.Start does not reach into the span.
	visit := func(r *metapb.Descriptor) bool {
		if len(span.End) != 0 && bytes.Compare(r.Start, span.End) >= 0 {
			return false
		}
		return !r.Span().Overlaps(span) || fn(r)
	}
	if len(span.Start) == 0 {
		d.byEnd.Ascend(visit)
	} else {
		d.byEnd.AscendGreaterOrEqual(&metapb.Descriptor{End: span.Start}, visit)
	}
}

// Insert takes in a descriptor and returns those that it displaced. It does
// nothing, and ok is false, if one that it overlaps is as new or newer: only
// generations of ranges that share an address can be compared, and there the
// newer wins.
func (d *Directory) Insert(r *metapb.Descriptor) (displaced []*metapb.Descriptor, ok bool) {
	old := d.Lookup(nil, r.Span())
	for _, o := range old {
		if o.Generation >= r.Generation {
			return nil, false
		}
	}
	for _, o := range old {
		d.byEnd.Delete(o)
	}
	d.put(r)
	return old, true
}

// put sets the descriptor of an end, and remove drops it, without a look at
// others: rows say what is.
func (d *Directory) put(r *metapb.Descriptor) {
	d.byEnd.ReplaceOrInsert(r)
	d.changes++
}

func (d *Directory) remove(end []byte) {
	d.byEnd.Delete(&metapb.Descriptor{End: end})
	d.changes++
}

// Clone returns a directory with the same contents. It costs nothing until one
// of the two changes.
func (d *Directory) Clone() *Directory { return &Directory{byEnd: d.byEnd.Clone(), changes: d.changes} }

// Len is the number of ranges.
func (d *Directory) Len() int { return d.byEnd.Len() }
