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

// Field is one field of a message.
type Field struct {
	Number Number
	Type   protowire.Type
	Value  uint64 // of a number
	Body   []byte // of what has a length
}

// Next takes a field off the front of b. The value of one that is neither a number nor
// has a length is passed over.
func Next(b []byte) (f Field, rest []byte, err error) {
	var n int
	if f.Number, f.Type, n = protowire.ConsumeTag(b); n < 0 {
		return f, nil, protowire.ParseError(n)
	}
	switch b = b[n:]; f.Type {
	case protowire.VarintType:
		f.Value, n = protowire.ConsumeVarint(b)
	case protowire.BytesType:
		f.Body, n = protowire.ConsumeBytes(b)
	default:
		n = protowire.ConsumeFieldValue(f.Number, f.Type, b)
	}
	if n < 0 {
		return f, nil, protowire.ParseError(n)
	}
	return f, b[n:], nil
}

// Walk calls number and text for the fields of a message, in their order. What it is
// given before an error is as the message has it.
func Walk(b []byte, number func(Number, uint64), text func(Number, string)) error {
	for len(b) > 0 {
		f, rest, err := Next(b)
		if err != nil {
			return err
		}
		switch f.Type {
		case protowire.VarintType:
			number(f.Number, f.Value)
		case protowire.BytesType:
			text(f.Number, string(f.Body))
		}
		b = rest
	}
	return nil
}
