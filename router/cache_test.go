package router

import (
	"fmt"
	"math/rand"
	"slices"
	"strings"
	"testing"

	"github.com/flotilladb/flotilla/proto/metapb"
)

// slowCache is the cache's twin: a list, and the rule as it is said.
type slowCache []*metapb.Descriptor

func (c *slowCache) insert(d *metapb.Descriptor) bool {
	var keep slowCache
	for _, o := range *c {
		switch {
		case !o.Span().Overlaps(d.Span()):
			keep = append(keep, o)
		case o.Generation >= d.Generation:
			return false
		}
	}
	*c = append(keep, d)
	return true
}

func (c slowCache) lookup(addr []byte) *metapb.Descriptor {
	for _, d := range c {
		if d.Contains(addr) {
			return d
		}
	}
	return nil
}

func (c slowCache) overlapping(span metapb.Span) []*metapb.Descriptor {
	var out []*metapb.Descriptor
	for _, d := range c {
		if d.Span().Overlaps(span) {
			out = append(out, d)
		}
	}
	slices.SortFunc(out, func(a, b *metapb.Descriptor) int { return strings.Compare(string(a.Start), string(b.Start)) })
	return out
}

// randomSpan is a span between the addresses "a" to "p"; its ends may be open.
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

func TestCacheAgainstTwin(t *testing.T) {
	rng := rand.New(rand.NewSource(1))
	for round := range 100 {
		c, slow := newCache(), slowCache{}
		for step := range 80 {
			start, end := randomSpan(rng)
			if start != "" || end != "" || step%20 == 0 {
				d := desc(uint64(rng.Intn(5)+1), uint64(rng.Intn(10+step)+1), start, end)
				if got, want := c.Insert(d), slow.insert(d); got != want {
					t.Fatalf("round %d step %d: Insert(%v) = %v, want %v", round, step, d, got, want)
				}
			}
			addr := []byte{byte('a' + rng.Intn(18) - 1)}
			if got, want := c.Lookup(addr), slow.lookup(addr); got != want {
				t.Fatalf("round %d step %d: Lookup(%q) = %v, want %v", round, step, addr, got, want)
			}
			s, e := randomSpan(rng)
			span := metapb.Span{Start: []byte(s), End: []byte(e)}
			if got, want := c.Overlapping(nil, span), slow.overlapping(span); !slices.Equal(got, want) {
				t.Fatalf("round %d step %d: Overlapping(%q, %q) = %v, want %v", round, step, s, e, got, want)
			}
			if c.Len() != len(slow) {
				t.Fatalf("round %d step %d: %d descriptors, want %d", round, step, c.Len(), len(slow))
			}
		}
	}
}

func showCache(c *Cache) string {
	var b strings.Builder
	for _, d := range c.Overlapping(nil, metapb.Span{}) {
		fmt.Fprintf(&b, "%d.%d[%s,%s) ", d.RangeId, d.Generation, d.Start, d.End)
	}
	return strings.TrimSpace(b.String())
}

func TestCacheStories(t *testing.T) {
	for _, tc := range []struct {
		name  string
		descs []*metapb.Descriptor
		want  string
	}{
		{"both sides of a split displace the whole",
			[]*metapb.Descriptor{desc(2, 1, "", ""), desc(2, 2, "", "m"), desc(3, 2, "m", "")},
			"2.2[,m) 3.2[m,)"},
		{"one side alone leaves a gap rather than a lie",
			[]*metapb.Descriptor{desc(2, 1, "", ""), desc(3, 2, "m", "")},
			"3.2[m,)"},
		{"the whole of before the split does not come back",
			[]*metapb.Descriptor{desc(2, 2, "", "m"), desc(2, 1, "", "")},
			"2.2[,m)"},
		{"a merge displaces both",
			[]*metapb.Descriptor{desc(2, 2, "", "m"), desc(3, 2, "m", ""), desc(2, 3, "", "")},
			"2.3[,)"},
		{"nonsense from outside is not taken",
			[]*metapb.Descriptor{nil, desc(0, 1, "", ""), desc(2, 0, "", ""), desc(2, 1, "b", "a")},
			""},
	} {
		c := newCache()
		for _, d := range tc.descs {
			c.Insert(d)
		}
		if got := showCache(c); got != tc.want {
			t.Errorf("%s: %s, want %s", tc.name, got, tc.want)
		}
	}
}

func TestCacheEvict(t *testing.T) {
	c := newCache()
	old, young := desc(2, 1, "", ""), desc(2, 2, "", "")
	c.Insert(old)
	c.Lookup([]byte("a"))
	c.Insert(young)
	c.Evict(old) // the cache learned meanwhile: nothing to forget
	if c.Lookup([]byte("a")) != young {
		t.Fatal("evicting an old generation dropped a newer one")
	}
	c.Evict(young)
	if c.Lookup([]byte("a")) != nil {
		t.Fatal("an evicted descriptor was found")
	}
}

func TestLookupAllocatesNothing(t *testing.T) {
	c := newCache()
	c.Insert(desc(2, 1, "", "m"))
	c.Insert(desc(3, 1, "m", ""))
	left, right := []byte("a"), []byte("z")
	if n := testing.AllocsPerRun(100, func() {
		c.Lookup(left)
		c.Lookup(right)
	}); n != 0 {
		t.Fatalf("%v allocations", n)
	}
}
