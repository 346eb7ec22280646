package metapb

import (
	"bytes"
	"errors"
	"fmt"
)

// NodeID names a process of the cluster. Zero is no node.
type NodeID uint64

// StoreID names an engine on a disk. Zero is no store.
type StoreID uint64

// RangeID names a range, for ever: a merged or removed range's id is not given
// out again. Zero is no range.
type RangeID uint64

// ReplicaID names a replica inside its range and is its raft id. Zero is no
// replica.
type ReplicaID uint64

// Revision is the logical time of a write: one sequence for the whole cluster.
// A fresh cluster is at 1 and its first write gets 2.
type Revision int64

// SystemRange is the range that holds what is global and small.
const SystemRange RangeID = 1

// Span is the half-open set of addresses [Start, End). An empty End is the end
// of the keyspace; so the zero Span is everything.
type Span struct {
	Start, End []byte
}

// Contains reports whether key lies in the span.
func (s Span) Contains(key []byte) bool {
	return bytes.Compare(key, s.Start) >= 0 && (len(s.End) == 0 || bytes.Compare(key, s.End) < 0)
}

// ContainsSpan reports whether o lies wholly in the span. A span that holds
// nothing, its end at or before its start, lies in every other.
func (s Span) ContainsSpan(o Span) bool {
	if len(o.End) != 0 && bytes.Compare(o.End, o.Start) <= 0 {
		return true
	}
	if bytes.Compare(o.Start, s.Start) < 0 {
		return false
	}
	return len(s.End) == 0 || (len(o.End) != 0 && bytes.Compare(o.End, s.End) <= 0)
}

// Overlaps reports whether the two spans share an address.
func (s Span) Overlaps(o Span) bool {
	return (len(s.End) == 0 || bytes.Compare(o.Start, s.End) < 0) &&
		(len(o.End) == 0 || bytes.Compare(s.Start, o.End) < 0)
}

// Intersect returns the part that both spans share; ok is false if none.
func (s Span) Intersect(o Span) (_ Span, ok bool) {
	if bytes.Compare(o.Start, s.Start) > 0 {
		s.Start = o.Start
	}
	if len(s.End) == 0 || (len(o.End) != 0 && bytes.Compare(o.End, s.End) < 0) {
		s.End = o.End
	}
	return s, len(s.End) == 0 || bytes.Compare(s.Start, s.End) < 0
}

// Span returns the addresses that the range holds.
func (d *Descriptor) Span() Span { return Span{Start: d.Start, End: d.End} }

// ID returns the range's id as its type.
func (d *Descriptor) ID() RangeID { return RangeID(d.RangeId) }

// Contains reports whether the address lies in the range.
func (d *Descriptor) Contains(addr []byte) bool { return d.Span().Contains(addr) }

// ReplicaOn returns the range's replica on a store, or nil.
func (d *Descriptor) ReplicaOn(store StoreID) *Replica {
	for _, r := range d.Replicas {
		if StoreID(r.StoreId) == store {
			return r
		}
	}
	return nil
}

// Validate reports what is wrong with a descriptor that came from outside.
func (d *Descriptor) Validate() error {
	switch {
	case d == nil:
		return errors.New("descriptor: missing")
	case d.RangeId == 0:
		return errors.New("descriptor: no range id")
	case d.Generation == 0:
		return fmt.Errorf("descriptor of range %d: no generation", d.RangeId)
	case len(d.End) != 0 && bytes.Compare(d.Start, d.End) >= 0:
		return fmt.Errorf("descriptor of range %d: empty span [%q, %q)", d.RangeId, d.Start, d.End)
	}
	seen := make(map[uint64]bool, len(d.Replicas))
	for _, r := range d.Replicas {
		if r.ReplicaId == 0 || r.ReplicaId >= d.NextReplicaId || seen[r.StoreId] {
			return fmt.Errorf("descriptor of range %d: bad replica %v", d.RangeId, r)
		}
		seen[r.StoreId] = true
	}
	return nil
}
