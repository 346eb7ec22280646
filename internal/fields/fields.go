// Package fields writes and reads small messages of numbered fields, in protobuf's
// wire form: a newer version may add fields, which an older one passes over.
package fields

import "google.golang.org/protobuf/encoding/protowire"

// Number identifies a field.
type Number = protowire.Number

// AppendNumber appends a number; 0 is what a field is that is not there.
func AppendNumber(b []byte, num Number, v uint64) []byte {
	if v == 0 {
		return b
	}
	return protowire.AppendVarint(protowire.AppendTag(b, num, protowire.VarintType), v)
}

// AppendText appends a text, an empty one too.
func AppendText(b []byte, num Number, s string) []byte {
	return protowire.AppendString(protowire.AppendTag(b, num, protowire.BytesType), s)
}

// Walk calls number and text for the fields of a message, in their order. What it is
// given before an error is as the message has it.
func Walk(b []byte, number func(Number, uint64), text func(Number, string)) error {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return protowire.ParseError(n)
		}
		b = b[n:]
		switch typ {
		case protowire.VarintType:
			var v uint64
			if v, n = protowire.ConsumeVarint(b); n >= 0 {
				number(num, v)
			}
		case protowire.BytesType:
			var s string
			if s, n = protowire.ConsumeString(b); n >= 0 {
				text(num, s)
			}
		default:
			n = protowire.ConsumeFieldValue(num, typ, b)
		}
		if n < 0 {
			return protowire.ParseError(n)
		}
		b = b[n:]
	}
	return nil
}
