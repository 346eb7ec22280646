package ranges

import (
	"bytes"
	"maps"
	"slices"

	"github.com/flotilladb/flotilla/proto/metapb"
)

func replicaLess(a, b *Replica) bool { return string(a.desc.Start) < string(b.desc.Start) }

// enter adds a replica to those of the store.
func (s *Store) enter(r *Replica) {
	id := r.desc.ID()
	if n := len(s.ids); s.replicas[id] == nil && n > 0 && s.ids[n-1] < id {
		s.ids = append(s.ids, id) // as that of a new range is
	} else {
		s.ids = nil
	}
	s.replicas[id] = r
	s.byStart.ReplaceOrInsert(r)
}

// IDs returns the ranges of the store in order of id. The slice is not to be changed, and
// stays as it is when replicas come and go.
func (s *Store) IDs() []metapb.RangeID {
	if s.ids == nil {
		s.ids = slices.AppendSeq(make([]metapb.RangeID, 0, len(s.replicas)), maps.Keys(s.replicas))
		slices.Sort(s.ids)
	}
	return s.ids
}

// Replica returns the store's replica of a range, or nil.
func (s *Store) Replica(id metapb.RangeID) *Replica { return s.replicas[id] }

// Within calls fn for the replicas over a span of addresses, in order. There may be
// gaps between them.
func (s *Store) Within(span metapb.Span, fn func(*Replica)) {
	at := span.Start
	if r := s.Before(span.Start); r != nil {
		at = r.desc.Start
	}
	s.byStart.AscendGreaterOrEqual(&Replica{desc: &metapb.Descriptor{Start: at}}, func(r *Replica) bool {
		if len(span.End) != 0 && bytes.Compare(r.desc.Start, span.End) >= 0 {
			return false
		}
		if r.desc.Span().Overlaps(span) {
			fn(r)
		}
		return true
	})
}

// Before returns the replica with the last start at or before an address, nil if
// there is none.
func (s *Store) Before(addr []byte) (found *Replica) {
	s.byStart.DescendLessOrEqual(&Replica{desc: &metapb.Descriptor{Start: addr}}, func(r *Replica) bool {
		found = r
		return false
	})
	return found
}
