package placement

import (
	"math/rand"
	"slices"
	"strings"
	"testing"

	"github.com/flotilladb/flotilla/proto/metapb"
)

// slowDirectory is the directory's twin: a list, and the rule as it is said.
type slowDirectory []*metapb.Descriptor

func (s *slowDirectory) insert(d *metapb.Descriptor) bool {
	var keep slowDirectory
	for _, o := range *s {
		switch {
		case !o.Span().Overlaps(d.Span()):
			keep = append(keep, o)
		case o.Generation >= d.Generation:
			return false
		}
	}
	*s = append(keep, d)
	return true
}

func (s slowDirectory) lookup(span metapb.Span) (out []*metapb.Descriptor) {
	for _, d := range s {
		if d.Span().Overlaps(span) {
			out = append(out, d)
		}
	}
	slices.SortFunc(out, func(a, b *metapb.Descriptor) int { return strings.Compare(string(a.Start), string(b.Start)) })
	return out
}

// randomSpan is a span between "a" and "p"; its ends may be open.
func randomSpan(rng *rand.Rand) (start, end string) {
	a, b := rng.Intn(17), rng.Intn(17)
	if a > b {
		a, b = b, a
	}
	if a == b {
		b++
	}
	if a > 0 {
		start = string(rune('a' + a - 1))
	}
	if b < 17 {
		end = string(rune('a' + b - 1))
	}
	return start, end
}

func TestDirectoryAgainstTwin(t *testing.T) {
	rng := rand.New(rand.NewSource(1))
	for round := range 100 {
		dir, slow := NewDirectory(), slowDirectory{}
		before := dir.Clone()
		for step := range 60 {
			start, end := randomSpan(rng)
			d := testDesc(uint64(step+1), uint64(rng.Intn(10+step)+1), start, end)
			was := slow.lookup(d.Span())
			displaced, ok := dir.Insert(d)
			if want := slow.insert(d); ok != want || (ok && !slices.Equal(displaced, was)) {
				t.Fatalf("round %d: Insert(%v) = %v %v, want %v %v", round, d, displaced, ok, was, want)
			}
			s, e := randomSpan(rng)
			span := metapb.Span{Start: []byte(s), End: []byte(e)}
			if got, want := dir.Lookup(nil, span), slow.lookup(span); !slices.Equal(got, want) {
				t.Fatalf("round %d: Lookup(%q, %q) = %v, want %v", round, s, e, got, want)
			}
		}
		if before.Len() != 0 || dir.Len() != len(slow) {
			t.Fatalf("round %d: a clone changed, or %d ranges, want %d", round, dir.Len(), len(slow))
		}
	}
}
