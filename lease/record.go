package lease

import (
	"bytes"
	"encoding/binary"
	"slices"

	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/proto/cmdpb"
	"github.com/flotilladb/flotilla/proto/metapb"
)

// ID names a lease. Any but zero may be chosen by a client, negative ones too.
// Leases are in the order of their addresses, negative ids behind positive ones.
type ID int64

// TTLMax is the largest TTL that a grant may ask for, in seconds; etcd's.
const TTLMax = 9_000_000_000

// Record is what is durable about a lease.
type Record struct {
	ID        ID
	TTL       int64  // as granted, in seconds
	Number    uint64 // of the grant: an id that is granted again has another
	Remaining int64  // the checkpoint, in seconds; 0: none
	// Spans are the addresses where keys of the lease may be, in normal form: in
	// order, not empty, apart from each other. Register keeps that.
	Spans []metapb.Span
}

// Covers reports whether the whole of a span is registered.
func (r *Record) Covers(span metapb.Span) bool {
	for _, s := range r.Spans {
		if s.ContainsSpan(span) {
			return true
		}
	}
	return false
}

// Register adds a span to those where keys may be and reports whether that
// changed the record. Spans that touch become one, so that a record stays small
// when neighbours register one after the other. The old slice is not changed.
func (r *Record) Register(span metapb.Span) bool {
	if r.Covers(span) || len(span.End) != 0 && bytes.Compare(span.Start, span.End) >= 0 {
		return false
	}
	apart := make([]metapb.Span, 0, len(r.Spans)+1)
	for _, s := range r.Spans {
		if !touch(s, span) {
			apart = append(apart, s)
			continue
		}
		if bytes.Compare(s.Start, span.Start) < 0 {
			span.Start = s.Start
		}
		if len(s.End) == 0 || len(span.End) != 0 && bytes.Compare(s.End, span.End) > 0 {
			span.End = s.End
		}
	}
	i, _ := slices.BinarySearchFunc(apart, span.Start, func(s metapb.Span, at []byte) int { return bytes.Compare(s.Start, at) })
	r.Spans = slices.Insert(apart, i, span)
	return true
}

// touch reports whether two spans overlap or one begins where the other ends.
func touch(a, b metapb.Span) bool {
	return (len(a.End) == 0 || bytes.Compare(b.Start, a.End) <= 0) && (len(b.End) == 0 || bytes.Compare(a.Start, b.End) <= 0)
}

// Row returns the row of the record.
func (r *Record) Row() *cmdpb.Row {
	return &cmdpb.Row{Address: keys.Lease(int64(r.ID)), Value: EncodeRecord(r)}
}

// DeleteRow returns the deletion of a lease's record.
func DeleteRow(id ID) *cmdpb.Row { return &cmdpb.Row{Address: keys.Lease(int64(id)), Deleted: true} }

// The value of a lease's row:
//
//	byte 0     version of the format
//	uvarint    TTL
//	uvarint    number of the grant
//	uvarint    remaining
//	uvarint    how many spans, then for each
//	  uvarint, bytes   start
//	  uvarint, bytes   end
//
// The id is in the address. Every record has exactly one encoding.
const recordVersion = 1

// EncodeRecord returns the value of a record's row.
// REQUIRES: TTL > 0, Remaining >= 0, spans in normal form.
func EncodeRecord(r *Record) []byte {
	n := 1 + 4*binary.MaxVarintLen64
	for _, s := range r.Spans {
		n += len(s.Start) + len(s.End) + 2*binary.MaxVarintLen32
	}
	b := append(make([]byte, 0, n), recordVersion)
	b = binary.AppendUvarint(b, uint64(r.TTL))
	b = binary.AppendUvarint(b, r.Number)
	b = binary.AppendUvarint(b, uint64(r.Remaining))
	b = binary.AppendUvarint(b, uint64(len(r.Spans)))
	for _, s := range r.Spans {
		b = append(binary.AppendUvarint(b, uint64(len(s.Start))), s.Start...)
		b = append(binary.AppendUvarint(b, uint64(len(s.End))), s.End...)
	}
	return b
}

// DecodeRecord takes the value of a lease's row apart. The spans point into b.
// Bytes that EncodeRecord would not write are a *CorruptError.
func DecodeRecord(id ID, b []byte) (Record, error) {
	d := decoder{rest: b}
	if len(b) == 0 || b[0] != recordVersion {
		return Record{}, corruptRecord(id, "unknown version")
	}
	d.rest = b[1:]
	r := Record{ID: id, TTL: int64(d.number()), Number: d.number(), Remaining: int64(d.number())}
	n := d.number()
	if n > uint64(len(d.rest))/2 { // each has two lengths, so b cannot make us allocate much
		d.fail("more spans than bytes")
	} else if n > 0 {
		r.Spans = make([]metapb.Span, 0, n)
	}
	for i := uint64(0); i < n && d.why == ""; i++ {
		s := metapb.Span{Start: d.bytes(), End: d.bytes()}
		if d.why == "" && !follows(r.Spans, s) {
			d.why = "spans out of order"
		}
		r.Spans = append(r.Spans, s)
	}
	switch {
	case d.why != "":
	case len(d.rest) != 0:
		d.why = "bytes behind the end"
	case r.TTL <= 0 || r.Remaining < 0 || id == 0:
		d.why = "number out of bounds"
	}
	if d.why != "" {
		return Record{}, corruptRecord(id, d.why)
	}
	return r, nil
}

// follows reports whether s keeps the normal form behind spans.
func follows(spans []metapb.Span, s metapb.Span) bool {
	if len(s.End) != 0 && bytes.Compare(s.Start, s.End) >= 0 {
		return false
	}
	if len(spans) == 0 {
		return true
	}
	last := spans[len(spans)-1]
	return len(last.End) != 0 && bytes.Compare(last.End, s.Start) < 0
}

func corruptRecord(id ID, why string) error {
	return &CorruptError{Key: keys.Lease(int64(id)), Why: why}
}

// decoder reads numbers and bytes until something is wrong.
type decoder struct {
	rest []byte
	why  string
}

func (d *decoder) fail(why string) {
	if d.why == "" {
		d.why = why
	}
	d.rest = nil
}

func (d *decoder) number() uint64 {
	x, n := binary.Uvarint(d.rest)
	if n <= 0 || n > 1 && d.rest[n-1] == 0 { // too short, too large, or not the shortest form
		d.fail("bad number")
		return 0
	}
	d.rest = d.rest[n:]
	return x
}

func (d *decoder) bytes() []byte {
	n := d.number()
	if n > uint64(len(d.rest)) {
		d.fail("short span")
		return nil
	}
	b := d.rest[:n:n]
	d.rest = d.rest[n:]
	return b
}

// AppendLeased appends the value of a leased row: the lease of a client's key.
func AppendLeased(dst []byte, id ID) []byte { return binary.BigEndian.AppendUint64(dst, uint64(id)) }

// DecodeLeased takes the value of a leased row apart.
func DecodeLeased(b []byte) (ID, error) {
	if len(b) != 8 {
		return 0, &CorruptError{Why: "leased row of a bad length"}
	}
	id := ID(binary.BigEndian.Uint64(b))
	if id == 0 {
		return 0, &CorruptError{Why: "leased row of lease 0"}
	}
	return id, nil
}
