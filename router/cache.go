package router

import (
	"bytes"

	"github.com/google/btree"

	"github.com/flotilladb/flotilla/proto/metapb"
)

// Cache is a router's possibly stale picture of the ranges, by address. The
// descriptors in it never overlap: what a newer one covers, even in part, goes.
// So it may have gaps, never two answers. Descriptors are shared and must not be
// changed by anyone.
type Cache struct {
	tree *btree.BTreeG[*metapb.Descriptor]
	// last is the one found last: neighbours are asked for in a row.
	last *metapb.Descriptor
	// pivot, found and visit serve a walk of the tree without an allocation.
	pivot *metapb.Descriptor
	found *metapb.Descriptor
	visit func(*metapb.Descriptor) bool
	// misses counts the addresses of which no range was known.
	misses uint64
	// changes counts what was taken in and forgotten.
	changes uint64
}

func newCache() *Cache {
	c := &Cache{
		tree: btree.NewG(16, func(a, b *metapb.Descriptor) bool {
			return bytes.Compare(a.Start, b.Start) < 0
		}),
		pivot: &metapb.Descriptor{},
	}
	c.visit = func(d *metapb.Descriptor) bool {
		c.found = d
		return false
	}
	return c
}

// Lookup returns the descriptor of the range that holds an address, or nil if
// none is known.
func (c *Cache) Lookup(addr []byte) *metapb.Descriptor {
	if c.last != nil && c.last.Contains(addr) {
		return c.last
	}
	d := c.floor(addr)
	if d == nil || !d.Contains(addr) {
		c.misses++
		return nil
	}
	c.last = d
	return d
}

// find returns the descriptor of a range, or nil: it looks at all.
func (c *Cache) find(id metapb.RangeID) (found *metapb.Descriptor) {
	c.tree.Ascend(func(d *metapb.Descriptor) bool {
		if d.ID() == id {
			found = d
		}
		return found == nil
	})
	return found
}

// floor returns the last descriptor that begins at or before an address.
func (c *Cache) floor(addr []byte) *metapb.Descriptor {
	c.found = nil
	c.pivot.Start = addr
	c.tree.DescendLessOrEqual(c.pivot, c.visit)
	c.pivot.Start = nil
	return c.found
}

// Insert takes in a descriptor and drops those that it overlaps. It does
// nothing and returns false if one of these is newer, or is as new as the
// descriptor: an old picture must not displace a part of a younger one.
//
// Only generations of the same range, or of ranges that were split from one
// another, can be compared; ranges that share an address are such.
func (c *Cache) Insert(d *metapb.Descriptor) bool {
	if d.Validate() != nil {
		return false // it came from the network: not worth more than a miss
	}
	old := c.Overlapping(nil, d.Span())
	for _, o := range old {
		if o.Generation >= d.Generation {
			return false
		}
	}
	for _, o := range old {
		c.tree.Delete(o)
	}
	c.tree.ReplaceOrInsert(d)
	c.last = nil
	c.changes++
	return true
}

// Evict forgets a descriptor, if the cache still has that very generation.
func (c *Cache) Evict(d *metapb.Descriptor) {
	got, ok := c.tree.Get(d)
	if !ok || got.RangeId != d.RangeId || got.Generation != d.Generation {
		return
	}
	c.tree.Delete(got)
	c.last = nil
	c.changes++
}

// Overlapping appends the descriptors that share an address with a span, in
// order.
func (c *Cache) Overlapping(dst []*metapb.Descriptor, span metapb.Span) []*metapb.Descriptor {
	from := span.Start
	if d := c.floor(span.Start); d != nil {
		from = d.Start
	}
	c.tree.AscendGreaterOrEqual(&metapb.Descriptor{Start: from}, func(d *metapb.Descriptor) bool {
		if len(span.End) != 0 && bytes.Compare(d.Start, span.End) >= 0 {
			return false
		}
		if d.Span().Overlaps(span) {
			dst = append(dst, d)
		}
		return true
	})
	return dst
}

// Len is the number of descriptors.
func (c *Cache) Len() int { return c.tree.Len() }
