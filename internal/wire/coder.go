package wire

import (
	"encoding/binary"
	"slices"
)

// coder walks over fields in one of two directions: it appends them to buf, or
// takes them off its front. The first error ends the walk; what was filled in
// till then is thrown away.
type coder struct {
	enc   bool
	buf   []byte // encoding: what is written; decoding: what is left
	frame int    // decoding: length of the whole frame
	depth int    // of transactions inside of transactions
	err   error
}

func (c *coder) fail(err error) {
	if c.err == nil {
		c.err = err
	}
	if !c.enc {
		c.buf = nil
	}
}

func (c *coder) noForm(what string, value any) { c.fail(&NoFormError{What: what, Value: value}) }

func (c *coder) unknown(what string, kind uint64) { c.fail(&UnknownError{What: what, Kind: kind}) }

// uvarint takes a number, which must be in its shortest form.
func (c *coder) uvarint() uint64 {
	if len(c.buf) > 0 && c.buf[0] < 0x80 {
		x := uint64(c.buf[0])
		c.buf = c.buf[1:]
		return x
	}
	x, n := binary.Uvarint(c.buf)
	if n <= 0 || c.buf[n-1] == 0 {
		c.fail(badFrame("bad number"))
		return 0
	}
	c.buf = c.buf[n:]
	return x
}

type number interface {
	~uint64 | ~int64 | ~uint32 | ~int32 | ~int
}

func num[T number](c *coder, p *T) {
	if c.enc {
		c.buf = binary.AppendUvarint(c.buf, uint64(*p))
		return
	}
	x := c.uvarint()
	if *p = T(x); uint64(*p) != x {
		c.fail(badFrame("number out of bounds"))
	}
}

// kind walks over what an item is, of a type that both sides switch on.
func (c *coder) kind(k *byte) {
	if c.enc {
		c.buf = append(c.buf, *k)
		return
	}
	if len(c.buf) == 0 {
		c.fail(badFrame("ends early"))
		return
	}
	*k, c.buf = c.buf[0], c.buf[1:]
}

// bool and flags leave alone what they encode: others may be reading it.
func (c *coder) bool(p *bool) { c.flags(p) }

// flags walks over up to eight bools in one byte, the first in its lowest bit.
func (c *coder) flags(bools ...*bool) {
	var b byte
	if c.enc {
		for i, p := range bools {
			if *p {
				b |= 1 << i
			}
		}
		c.buf = append(c.buf, b)
		return
	}
	if c.kind(&b); int(b)>>len(bools) != 0 {
		c.fail(badFrame("unknown flag"))
	}
	for i, p := range bools {
		*p = b&(1<<i) != 0
	}
}

// bytes walks over bytes. None are nil.
func (c *coder) bytes(p *[]byte) {
	if c.enc {
		c.buf = append(binary.AppendUvarint(c.buf, uint64(len(*p))), *p...)
		return
	}
	n := c.uvarint()
	switch {
	case n > uint64(len(c.buf)):
		c.fail(badFrame("bytes end early"))
	case n > 0:
		*p = c.buf[:n:n]
		c.buf = c.buf[n:]
	}
}

func (c *coder) string(p *string) {
	if c.enc {
		c.buf = append(binary.AppendUvarint(c.buf, uint64(len(*p))), *p...)
		return
	}
	var b []byte
	c.bytes(&b)
	*p = string(b)
}

// count walks over the length of a list. Every item takes at least a byte, so a
// claimed length that what is left cannot hold is refused.
func (c *coder) count(n int) int {
	if c.enc {
		c.buf = binary.AppendUvarint(c.buf, uint64(n))
		return n
	}
	x := c.uvarint()
	if x > uint64(len(c.buf)) {
		c.fail(badFrame("more items than bytes"))
		return 0
	}
	return int(x)
}

// firstItems is how many items of a list are made room for before the first of
// them was seen.
const firstItems = 64

// list walks over a slice. Without items it is nil.
func list[T any](c *coder, p *[]T, item func(*coder, *T)) {
	n := c.count(len(*p))
	if c.enc {
		for i := range *p {
			item(c, &(*p)[i])
		}
		return
	}
	if n == 0 || c.err != nil {
		return
	}
	s := make([]T, 0, min(n, firstItems))
	for i := 0; i < n && c.err == nil; i++ {
		if len(s) == cap(s) {
			s = slices.Grow(s, min(n-i, len(s)))
		}
		s = s[:i+1]
		item(c, &s[i])
	}
	*p = s
}

// pointers walks over a slice of pointers, none of them nil. Those of a small
// list share an allocation.
func pointers[T any](c *coder, p *[]*T, item func(*coder, *T)) {
	n := c.count(len(*p))
	if c.enc {
		for _, x := range *p {
			if x == nil {
				c.noForm("item of a list", x)
				return
			}
			item(c, x)
		}
		return
	}
	if n == 0 || c.err != nil {
		return
	}
	var room []T
	s := make([]*T, 0, min(n, firstItems))
	for i := 0; i < n && c.err == nil; i++ {
		if len(room) == 0 {
			room = make([]T, min(n-i, firstItems))
		}
		item(c, &room[0])
		s, room = append(s, &room[0]), room[1:]
	}
	*p = s
}

// maybe walks over a pointer that may be nil.
func maybe[T any](c *coder, p **T, item func(*coder, *T)) {
	has := *p != nil
	if c.bool(&has); !has || c.err != nil {
		return
	}
	if !c.enc {
		*p = new(T)
	}
	item(c, *p)
}

// message is what the generated code of our contracts can do.
type message interface {
	SizeVT() int
	MarshalToSizedBufferVT([]byte) (int, error)
	UnmarshalVTUnsafe([]byte) error
}

// contract walks over a message of one of our contracts that is also stored; its
// own encoding is what grows with versions.
func (c *coder) contract(m message) {
	if !c.enc {
		var b []byte
		c.bytes(&b)
		if c.err != nil {
			return
		}
		if err := m.UnmarshalVTUnsafe(b); err != nil {
			c.fail(badFrame(err.Error()))
		}
		return
	}
	n := m.SizeVT()
	c.buf = binary.AppendUvarint(c.buf, uint64(n))
	c.buf = slices.Grow(c.buf, n)
	end := len(c.buf) + n
	if _, err := m.MarshalToSizedBufferVT(c.buf[len(c.buf):end]); err != nil {
		c.fail(err)
		return
	}
	c.buf = c.buf[:end]
}

func contract[T any, P interface {
	*T
	message
}](c *coder, p *T) {
	c.contract(P(p))
}
