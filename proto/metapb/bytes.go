package metapb

// ItemBytes is what an item of a list takes beside its own bytes where stores tell each other
// of it, or more.
const ItemBytes = 32

// DescriptorsBytes estimates what descriptors take there.
func DescriptorsBytes(ds []*Descriptor) (n int) {
	for _, d := range ds {
		n += ItemBytes + d.SizeVT()
	}
	return n
}

// SpansBytes estimates what spans take there.
func SpansBytes(spans []Span) (n int) {
	for i := range spans {
		n += ItemBytes + len(spans[i].Start) + len(spans[i].End)
	}
	return n
}

// TextsBytes estimates what texts take there.
func TextsBytes(texts []string) (n int) {
	for _, s := range texts {
		n += ItemBytes + len(s)
	}
	return n
}
