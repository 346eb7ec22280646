package keys

import (
	"github.com/flotilladb/flotilla/proto/metapb"
)

// Tables returns the engine spans of a range that holds span: one per table, in
// order. A range without client keys has none in the table of versions. The
// spans of ranges that tile the addresses tile the tables.
func Tables(span metapb.Span) []Span {
	out := []Span{
		RowSpan(span),
		IntentSpan(span),
		RecordSpan(span),
		LeasedSpan(span),
	}
	if start, end, ok := UserBounds(span); ok {
		out = append(out, VersionSpan(start, end))
	}
	return out
}

// RowSpan returns the keys of all rows without versions at a span of addresses.
func RowSpan(span metapb.Span) Span { return tableSpan(tableRow, span) }

func tableSpan(table byte, span metapb.Span) Span {
	s := Span{Start: tableBound(table, span.Start), End: []byte{table + 1, sentinel}}
	if len(span.End) != 0 {
		s.End = tableBound(table, span.End)
	}
	return s
}

// tableBound returns the bare key below everything at addr or above.
func tableBound(table byte, addr []byte) []byte {
	key := append(make([]byte, 0, len(addr)+4), table)
	switch {
	case len(addr) == 0:
	case table == tableRow:
		key = append(key, addr...)
	default:
		key = appendEscaped(key, addr)
	}
	return append(key, sentinel)
}
