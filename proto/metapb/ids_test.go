package metapb

import "testing"

func TestContainsSpan(t *testing.T) {
	span := func(start, end string) Span { return Span{Start: []byte(start), End: []byte(end)} }
	for _, c := range []struct {
		outer, inner Span
		want         bool
	}{
		{span("b", "d"), span("b", "d"), true},
		{span("b", "d"), span("a", "c"), false},
		{span("b", "d"), span("c", "e"), false},
		{span("b", "d"), span("c", ""), false},
		{span("b", ""), span("c", ""), true},
		{span("", ""), span("", ""), true},
		// A client may ask for a span that ends before it begins: it holds nothing.
		{span("b", "d"), span("z", "e"), true},
		{span("b", "d"), span("a", "a"), true},
	} {
		if got := c.outer.ContainsSpan(c.inner); got != c.want {
			t.Errorf("[%s, %s) in [%s, %s): %t", c.inner.Start, c.inner.End, c.outer.Start, c.outer.End, got)
		}
	}
}
