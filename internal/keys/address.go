package keys

import (
	"bytes"
	"encoding/binary"

	"github.com/flotilladb/flotilla/proto/metapb"
)

// Kind is the first byte of an address.
type Kind byte

// The kinds of addresses, in their order: the system range begins the keyspace
// and ends where the leases begin, so all its rows must come before.
const (
	KindSystem Kind = 's'
	KindLease  Kind = 't' // time to live
	KindUser   Kind = 'u'
)

// Address is an address taken apart. Only the field of its kind is set.
type Address struct {
	Kind    Kind
	Name    []byte // of a system row
	Lease   int64  // of a lease record
	UserKey []byte // of a client's key
}

// System returns the address of a system row.
func System(name string) []byte {
	return append([]byte{byte(KindSystem)}, name...)
}

// SystemSpan returns the addresses of all system rows whose name begins with
// prefix, which ends below 0xff.
func SystemSpan(prefix string) metapb.Span {
	return metapb.Span{Start: System(prefix), End: prefixEnd(System(prefix))}
}

// Lease returns the address of a lease's record.
func Lease(id int64) []byte { return AppendLease(make([]byte, 0, 9), id) }

// AppendLease appends the address of a lease's record.
func AppendLease(dst []byte, id int64) []byte {
	return binary.BigEndian.AppendUint64(append(dst, byte(KindLease)), uint64(id))
}

// LeaseSpan returns the addresses of all lease records.
func LeaseSpan() metapb.Span {
	return metapb.Span{Start: []byte{byte(KindLease)}, End: []byte{byte(KindLease) + 1}}
}

// User returns the address of a client's key.
func User(key []byte) []byte { return AppendUser(make([]byte, 0, len(key)+1), key) }

// AppendUser appends the address of a client's key.
func AppendUser(dst, key []byte) []byte {
	return append(append(dst, byte(KindUser)), key...)
}

// UserSpan returns the addresses of the client keys in [start, end). An empty
// end is the end of the client keys. What etcd's range_end means is decided by
// who calls.
func UserSpan(start, end []byte) metapb.Span {
	if len(end) == 0 {
		return metapb.Span{Start: User(start), End: []byte{byte(KindUser) + 1}}
	}
	return metapb.Span{Start: User(start), End: User(end)}
}

// UserKeySpan returns the span that holds the address of one client key and
// nothing else.
func UserKeySpan(key []byte) metapb.Span {
	end := AppendUser(make([]byte, 0, len(key)+2), key)
	return metapb.Span{Start: User(key), End: append(end, 0)}
}

// UserBounds returns the client keys that a span of addresses holds, as
// [start, end) with a nil end for the end of the client keys. ok is false if it
// holds none.
func UserBounds(span metapb.Span) (start, end []byte, ok bool) {
	all := UserSpan(nil, nil)
	s, ok := span.Intersect(all)
	if !ok {
		return nil, nil, false
	}
	start = s.Start[1:]
	if s.End[0] == byte(KindUser) {
		end = s.End[1:]
	}
	return start, end, true
}

// DecodeAddress takes an address apart.
func DecodeAddress(addr []byte) (Address, error) {
	if len(addr) == 0 {
		return Address{}, badKey("address", addr)
	}
	body := addr[1:]
	switch kind := Kind(addr[0]); {
	case kind == KindSystem:
		return Address{Kind: kind, Name: body}, nil
	case kind == KindLease && len(body) == 8:
		return Address{Kind: kind, Lease: int64(binary.BigEndian.Uint64(body))}, nil
	case kind == KindUser:
		return Address{Kind: kind, UserKey: body}, nil
	}
	return Address{}, badKey("address", addr)
}

// prefixEnd returns the first key that does not begin with prefix, whose last
// byte is below 0xff.
func prefixEnd(prefix []byte) []byte {
	end := append([]byte(nil), prefix...)
	end[len(end)-1]++
	return end
}

// HoldsUser reports whether a span of addresses holds a user key. It costs no
// allocation.
func HoldsUser(span metapb.Span, key []byte) bool {
	start, end, ok := UserBounds(span)
	return ok && bytes.Compare(key, start) >= 0 && (len(end) == 0 || bytes.Compare(key, end) < 0)
}
