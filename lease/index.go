package lease

import (
	"cmp"
	"strings"

	"github.com/google/btree"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/proto/metapb"
)

// Index has the client keys of a range that hang on leases, as the leased rows
// have them. It changes only with entries that are applied. Owned by the range's
// replica; not safe for concurrent use.
//
// It is one tree in order of lease and key, not a map of sets: most leases have
// one key, and a set for it would cost more than the key.
type Index struct {
	tree *btree.BTreeG[attached]
	// Only keys in the span are there. Others may still be in the tree after a
	// split, until Sweep has come by.
	span metapb.Span
	// dirty: Sweep is at swept, or at the beginning.
	dirty bool
	swept attached
}

type attached struct {
	id  ID
	key string
}

func (a attached) less(b attached) bool {
	return cmp.Or(cmp.Compare(uint64(a.id), uint64(b.id)), strings.Compare(a.key, b.key)) < 0
}

// NewIndex returns the empty index of a range with these addresses.
func NewIndex(span metapb.Span) *Index {
	return &Index{tree: btree.NewG(treeDegree, attached.less), span: span}
}

// Load replaces what is in the index by the rows of the engine.
func (x *Index) Load(r engine.Reader, span metapb.Span) error {
	*x = *NewIndex(span)
	part, ok := span.Intersect(keys.UserSpan(nil, nil))
	if !ok {
		return nil
	}
	return scan(r, keys.LeasedSpan(part), func(key, value []byte) error {
		user, err := keys.DecodeLeased(key)
		if err != nil {
			return err
		}
		id, err := DecodeLeased(value)
		if err != nil {
			return err
		}
		x.Attach(user, id)
		return nil
	})
}

// Attach notes that a key hangs on a lease. Who moves a key from one lease to
// another detaches it first.
func (x *Index) Attach(key []byte, id ID) { x.tree.ReplaceOrInsert(attached{id, string(key)}) }

// Detach notes that a key no longer hangs on a lease.
func (x *Index) Detach(key []byte, id ID) { x.tree.Delete(attached{id, string(key)}) }

// Len is the number of keys. What a split took away counts until it is swept.
func (x *Index) Len() int { return x.tree.Len() }

// Keys returns the keys of a lease in order. They are the caller's.
func (x *Index) Keys(id ID) [][]byte {
	var out [][]byte
	x.From(id, nil, func(key []byte) bool {
		out = append(out, key)
		return true
	})
	return out
}

// From calls fn for the keys of a lease from one on, in order, until it returns false.
// They are the caller's.
func (x *Index) From(id ID, start []byte, fn func(key []byte) bool) {
	x.tree.AscendGreaterOrEqual(attached{id, string(start)}, func(a attached) bool {
		if a.id != id {
			return false
		}
		key := []byte(a.key)
		return !keys.HoldsUser(x.span, key) || fn(key)
	})
}

// Split returns the index of the right side of a split, which has the addresses
// of span, and leaves the left side. Both share what they hold until they are
// changed: it costs nothing until Sweep.
func (x *Index) Split(right metapb.Span) *Index {
	r := &Index{tree: x.tree.Clone(), span: right, dirty: true}
	x.DropOutside(metapb.Span{Start: x.span.Start, End: right.Start})
	return r
}

// DropOutside forgets the keys outside of a span.
func (x *Index) DropOutside(span metapb.Span) {
	x.span, x.dirty, x.swept = span, true, attached{}
}

// Sweep looks at max keys, frees the memory of those that a split took away, and
// reports whether there may be more.
func (x *Index) Sweep(max int) bool {
	if !x.dirty {
		return false
	}
	var gone []attached
	looked := 0
	x.tree.AscendGreaterOrEqual(x.swept, func(a attached) bool {
		if looked++; looked > max {
			x.swept = a
			return false
		}
		if !keys.HoldsUser(x.span, []byte(a.key)) {
			gone = append(gone, a)
		}
		return true
	})
	for _, a := range gone {
		x.tree.Delete(a)
	}
	x.dirty = looked > max
	return x.dirty
}
