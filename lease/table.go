package lease

import (
	"encoding/binary"
	"math"

	"github.com/google/btree"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/proto/cmdpb"
	"github.com/flotilladb/flotilla/proto/metapb"
)

// Table has the records at the lease addresses of a range. It changes only with
// entries that are applied, the same on every replica. Owned by the range's
// replica; not safe for concurrent use.
type Table struct {
	tree *btree.BTreeG[entry]
	// Only ids in bounds are there. Others may still be in the tree after a
	// split, until Sweep has come by.
	bounds idBounds
}

// entry is a record as its row has it, or packed: the encoding is a third of the
// size of a Record, and most are never looked at but for their TTL.
type entry struct {
	id  ID
	row string
}

// packedVersion is the first byte of a packed row. It is never written to disk.
// Most leases have one key, and one registered span that is just that: a packed
// row has its address once.
const packedVersion = 0xff

// pack returns a row as the table keeps it.
func pack(row []byte, r *Record) string {
	if len(r.Spans) != 1 || !isPoint(r.Spans[0]) {
		return string(row)
	}
	rest := row[1:]
	for range 4 { // TTL, number, remaining, how many spans: in fewer bytes than both addresses
		_, n := binary.Uvarint(rest)
		rest = rest[n:]
	}
	b := make([]byte, 0, len(row))
	b = append(b, row[:len(row)-len(rest)-1]...)
	b = append(b, r.Spans[0].Start...)
	b[0] = packedVersion
	return string(b)
}

func isPoint(s metapb.Span) bool {
	n := len(s.Start)
	return len(s.End) == n+1 && s.End[n] == 0 && string(s.End[:n]) == string(s.Start)
}

// unpack takes apart what pack made of a row.
func unpack(id ID, b []byte) Record {
	d := decoder{rest: b[1:]}
	r := Record{ID: id, TTL: int64(d.number()), Number: d.number(), Remaining: int64(d.number())}
	end := append(d.rest, 0)
	r.Spans = []metapb.Span{{Start: end[: len(end)-1 : len(end)-1], End: end}}
	return r
}

const treeDegree = 32

// NewTable returns the empty table of a range with these addresses.
func NewTable(span metapb.Span) *Table {
	less := func(a, b entry) bool { return uint64(a.id) < uint64(b.id) }
	return &Table{tree: btree.NewG(treeDegree, less), bounds: boundsOf(span)}
}

// Load replaces what is in the table by the rows of the engine.
func (t *Table) Load(r engine.Reader, span metapb.Span) error {
	*t = *NewTable(span)
	part, ok := span.Intersect(keys.LeaseSpan())
	if !ok {
		return nil
	}
	return scan(r, keys.RowSpan(part), func(key, value []byte) error {
		addr, err := keys.DecodeRow(key)
		if err != nil {
			return err
		}
		return t.set(addr, value)
	})
}

// scan calls fn for each row of a span.
func scan(r engine.Reader, span keys.Span, fn func(key, value []byte) error) error {
	it, err := r.NewIter(engine.IterOptions{Lower: span.Start, Upper: span.End})
	if err != nil {
		return err
	}
	for ok := it.First(); ok && err == nil; ok = it.Next() {
		var value []byte
		if value, err = it.Value(); err == nil {
			err = fn(it.Key(), value)
		}
	}
	if err == nil {
		err = it.Error()
	}
	if closed := it.Close(); err == nil {
		err = closed
	}
	return err
}

// Apply takes in rows that an applied entry wrote. Rows at other addresses than
// those of leases are passed over.
func (t *Table) Apply(rows []*cmdpb.Row) error {
	for _, row := range rows {
		if len(row.Address) == 0 || keys.Kind(row.Address[0]) != keys.KindLease {
			continue
		}
		if row.Deleted {
			addr, err := keys.DecodeAddress(row.Address)
			if err != nil {
				return err
			}
			t.tree.Delete(entry{id: ID(addr.Lease)})
		} else if err := t.set(row.Address, row.Value); err != nil {
			return err
		}
	}
	return nil
}

func (t *Table) set(address, value []byte) error {
	addr, err := keys.DecodeAddress(address)
	if err != nil {
		return err
	}
	r, err := DecodeRecord(ID(addr.Lease), value)
	if err != nil {
		return err
	}
	t.tree.ReplaceOrInsert(entry{ID(addr.Lease), pack(value, &r)})
	return nil
}

// Get returns the record of a lease. Its bytes are the caller's.
func (t *Table) Get(id ID) (Record, bool) {
	e, ok := t.tree.Get(entry{id: id})
	if !ok || !t.bounds.contains(id) {
		return Record{}, false
	}
	return e.record(), true
}

// Has reports whether there is a lease.
func (t *Table) Has(id ID) bool { return t.bounds.contains(id) && t.tree.Has(entry{id: id}) }

func (e entry) record() Record {
	if e.row[0] == packedVersion {
		return unpack(e.id, []byte(e.row))
	}
	r, err := DecodeRecord(e.id, []byte(e.row))
	if err != nil {
		panic(err) // it was decoded before it was taken in
	}
	return r
}

// Len is the number of leases. What a split took away counts until it is swept.
func (t *Table) Len() int { return t.tree.Len() }

// Ascend calls fn for each lease from an id on, in the order of addresses, until
// it returns false. The first is Ascend(0, fn).
func (t *Table) Ascend(from ID, fn func(Record) bool) {
	if t.bounds.empty || uint64(from) > t.bounds.last {
		return
	}
	from = ID(max(uint64(from), t.bounds.first))
	t.tree.AscendGreaterOrEqual(entry{id: from}, func(e entry) bool {
		return uint64(e.id) <= t.bounds.last && fn(e.record())
	})
}

// Split returns the table of the right side of a split, which has the addresses
// of span, and leaves the left side. Both share what they hold until they are
// changed: it costs nothing until Sweep.
func (t *Table) Split(right metapb.Span) *Table {
	r := &Table{tree: t.tree.Clone(), bounds: boundsOf(right)}
	t.bounds = t.bounds.before(right.Start)
	return r
}

// DropOutside forgets the leases outside of a span.
func (t *Table) DropOutside(span metapb.Span) { t.bounds = boundsOf(span) }

// Sweep frees the memory of at most max leases that a split took away, and
// reports whether there may be more.
func (t *Table) Sweep(max int) bool {
	for ; max > 0; max-- {
		if e, ok := t.tree.Min(); ok && !t.bounds.contains(e.id) {
			t.tree.DeleteMin()
		} else if e, ok := t.tree.Max(); ok && !t.bounds.contains(e.id) {
			t.tree.DeleteMax()
		} else {
			return false
		}
	}
	return true
}

// idBounds are the ids whose addresses lie in a span: first to last, both
// included, or none.
type idBounds struct {
	first, last uint64
	empty       bool
}

func (b idBounds) contains(id ID) bool {
	return !b.empty && uint64(id) >= b.first && uint64(id) <= b.last
}

func boundsOf(span metapb.Span) idBounds {
	b := idBounds{last: math.MaxUint64}
	if len(span.Start) != 0 {
		first, ok := firstID(span.Start)
		b.first, b.empty = first, !ok
	}
	if len(span.End) == 0 {
		return b
	}
	return b.before(span.End)
}

// before returns the part of the bounds below an address.
func (b idBounds) before(addr []byte) idBounds {
	end, ok := firstID(addr)
	if !ok {
		return b
	}
	if end <= b.first {
		return idBounds{empty: true}
	}
	b.last = min(b.last, end-1)
	return b
}

// firstID returns the lowest id whose address is addr or above; ok is false if
// there is none.
func firstID(addr []byte) (first uint64, ok bool) {
	switch kind := keys.Kind(addr[0]); {
	case kind < keys.KindLease:
		return 0, true
	case kind > keys.KindLease:
		return 0, false
	}
	var id [8]byte
	body := addr[1:]
	copy(id[:], body)
	first = binary.BigEndian.Uint64(id[:])
	if len(body) > len(id) { // behind the address of first
		return first + 1, first != math.MaxUint64
	}
	return first, true
}
