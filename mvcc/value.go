package mvcc

import (
	"encoding/binary"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/proto/txnpb"
)

// The engine value of a version:
//
//	byte 0     flags
//	8 bytes    create revision, big endian
//	1-9 bytes  version, uvarint
//	[8 bytes   lease id, big endian, if flagLease]
//	the rest   the client's value
//
// A tombstone is its flag byte alone. The create revision has a fixed width and
// place so that it can be filled in. Every value has exactly one encoding.
const (
	flagTombstone = 1 << 0
	flagLease     = 1 << 1

	valueHeaderMax = 1 + 8 + binary.MaxVarintLen64 + 8
)

// Value is the decoded engine value of a version.
type Value struct {
	Tombstone bool // then all else is zero
	Create    Revision
	Version   int64
	Lease     int64
	Raw       []byte // the client's bytes; DecodeValue does not copy them
}

// ValueLen is the length of v's encoding.
func ValueLen(v *Value) int {
	if v.Tombstone {
		return 1
	}
	n := 1 + 8 + uvarintLen(uint64(v.Version)) + len(v.Raw)
	if v.Lease != 0 {
		n += 8
	}
	return n
}

// AppendValue appends the encoding of v to dst.
// REQUIRES: v is a tombstone, or its create revision and version are above 0.
func AppendValue(dst []byte, v *Value) []byte {
	if v.Tombstone {
		return append(dst, flagTombstone)
	}
	flags := byte(0)
	if v.Lease != 0 {
		flags |= flagLease
	}
	dst = append(dst, flags)
	dst = binary.BigEndian.AppendUint64(dst, uint64(v.Create))
	dst = binary.AppendUvarint(dst, uint64(v.Version))
	if v.Lease != 0 {
		dst = binary.BigEndian.AppendUint64(dst, uint64(v.Lease))
	}
	return append(dst, v.Raw...)
}

// DecodeValue takes the engine value of a version apart. Raw aliases b. Bytes
// that AppendValue would not write are a *CorruptError.
func DecodeValue(b []byte) (v Value, err error) {
	if len(b) == 0 {
		return Value{}, &CorruptError{Why: "empty value"}
	}
	flags := b[0]
	if flags&flagTombstone != 0 {
		if flags != flagTombstone || len(b) != 1 {
			return Value{}, &CorruptError{Why: "tombstone with contents"}
		}
		return Value{Tombstone: true}, nil
	}
	if flags&^flagLease != 0 {
		return Value{}, &CorruptError{Why: "unknown flags"}
	}
	if len(b) < 10 {
		return Value{}, &CorruptError{Why: "short value"}
	}
	v.Create = Revision(binary.BigEndian.Uint64(b[1:]))
	version, n := binary.Uvarint(b[9:])
	if n <= 0 || n != uvarintLen(version) {
		return Value{}, &CorruptError{Why: "bad version"}
	}
	v.Version = int64(version)
	if v.Create <= 0 || v.Version <= 0 {
		return Value{}, &CorruptError{Why: "revision or version not above 0"}
	}
	rest := b[9+n:]
	if flags&flagLease != 0 {
		if len(rest) < 8 {
			return Value{}, &CorruptError{Why: "short lease"}
		}
		v.Lease = int64(binary.BigEndian.Uint64(rest))
		if v.Lease == 0 {
			return Value{}, &CorruptError{Why: "lease 0"}
		}
		rest = rest[8:]
	}
	v.Raw = rest
	return v, nil
}

// IsTombstone reports whether the engine value of a version is a tombstone,
// without decoding it.
func IsTombstone(b []byte) bool { return len(b) == 1 && b[0] == flagTombstone }

// AppendMutation adds the rows of a mutation at a known revision to a batch: the
// version, and what changes of the key's leased row.
func AppendMutation(b engine.Batch, rev Revision, m *txnpb.Mutation) {
	v := Value{Tombstone: m.Tombstone}
	if !m.Tombstone {
		v = Value{Create: Revision(m.CreateRevision), Version: m.Version, Lease: m.Lease, Raw: m.Value}
	}
	key, value := b.SetDeferred(keys.VersionLen(m.Key, m.Sub), ValueLen(&v))
	keys.AppendVersion(key[:0], m.Key, rev, m.Sub)
	AppendValue(value[:0], &v)
	if m.Lease != m.PrevLease {
		appendLeased(b, m)
	}
}

// appendLeased mends the leased row of a key, which says what lease it is
// attached to. REQUIRES: the mutation changes it.
func appendLeased(b engine.Batch, m *txnpb.Mutation) {
	if m.Lease == 0 {
		b.Delete(keys.Leased(m.Key))
		return
	}
	b.Set(keys.Leased(m.Key), binary.BigEndian.AppendUint64(nil, uint64(m.Lease)))
}

func uvarintLen(x uint64) int {
	n := 1
	for x >= 0x80 {
		x >>= 7
		n++
	}
	return n
}
