package ranges

import (
	"bytes"
	"slices"

	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/peerpb"
)

// spanSet is a set of keys as sorted spans that neither overlap nor touch. An
// empty End is the end of the keyspace.
type spanSet []metapb.Span

// endBefore reports whether a span that ends at end has nothing at or above key.
func endBefore(end, key []byte) bool { return len(end) != 0 && bytes.Compare(end, key) <= 0 }

// startsBelow reports whether key is below the end of a span.
func startsBelow(key, end []byte) bool { return len(end) == 0 || bytes.Compare(key, end) < 0 }

// laterEnd returns the later of two ends.
func laterEnd(a, b []byte) []byte {
	if len(a) == 0 || (len(b) != 0 && bytes.Compare(a, b) >= 0) {
		return a
	}
	return b
}

// isEmptySpan reports whether a span holds no key.
func isEmptySpan(s metapb.Span) bool {
	return len(s.End) != 0 && bytes.Compare(s.Start, s.End) >= 0
}

// after returns the place of the first span that ends above key.
func (s spanSet) after(key []byte) int {
	lo, hi := 0, len(s)
	for lo < hi {
		if mid := (lo + hi) / 2; endBefore(s[mid].End, key) {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo
}

// overlaps reports whether the set shares a key with [start, end).
func (s spanSet) overlaps(start, end []byte) bool {
	i := s.after(start)
	return i < len(s) && startsBelow(s[i].Start, end)
}

// contains reports whether the key is in the set.
func (s spanSet) contains(key []byte) bool {
	i := s.after(key)
	return i < len(s) && bytes.Compare(s[i].Start, key) <= 0
}

// covers reports whether all of [start, end) is in the set.
func (s spanSet) covers(start, end []byte) bool {
	i := s.after(start)
	return i < len(s) && bytes.Compare(s[i].Start, start) <= 0 && bytes.Equal(laterEnd(s[i].End, end), s[i].End)
}

// add puts a span in. It does nothing for a span that holds no key.
func (s *spanSet) add(span metapb.Span) {
	if isEmptySpan(span) {
		return
	}
	set := *s
	i := set.after(span.Start)
	if i > 0 && bytes.Equal(set[i-1].End, span.Start) {
		i--
	}
	j := i
	for j < len(set) && (len(span.End) == 0 || bytes.Compare(set[j].Start, span.End) <= 0) {
		if bytes.Compare(set[j].Start, span.Start) < 0 {
			span.Start = set[j].Start
		}
		span.End = laterEnd(set[j].End, span.End)
		j++
	}
	*s = slices.Replace(set, i, j, span)
}

// cut returns the parts below and at or above key. Both are new.
func (s spanSet) cut(key []byte) (left, right spanSet) {
	if len(key) == 0 {
		return nil, slices.Clone(s)
	}
	for _, span := range s {
		if startsBelow(span.Start, key) {
			l := span
			if !endBefore(span.End, key) {
				l.End = key
			}
			left = append(left, l)
		}
		if !endBefore(span.End, key) {
			r := span
			if bytes.Compare(r.Start, key) < 0 {
				r.Start = key
			}
			right = append(right, r)
		}
	}
	return left, right
}

// writeSpansOf returns the keys of the accesses that may change them.
func writeSpansOf(accesses []peerpb.Access) (set spanSet) {
	for i := range accesses {
		if accesses[i].Write {
			set.add(metapb.Span{Start: accesses[i].Start, End: accesses[i].End})
		}
	}
	return set
}

// spansOf returns the keys of accesses.
func spansOf(accesses []peerpb.Access) spanSet {
	set := make(spanSet, 0, len(accesses))
	for i := range accesses {
		set.add(metapb.Span{Start: accesses[i].Start, End: accesses[i].End})
	}
	return set
}
