package watchfeed

import (
	"math/bits"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/flotilladb/flotilla/proto/txnpb"
)

// Event is one change of one key. It is made once and shared by all watchers;
// nobody changes it.
type Event struct {
	Revision                       int64 // mod revision
	CreateRevision, Version, Lease int64 // zero for a tombstone
	Key, Value                     []byte
	// PrevKV is the key before the event, if it was there and is not compacted.
	// Only who asked for it may look: it is read when somebody does.
	PrevKV    *mvccpb.KeyValue
	update    *update // whose ring pays for PrevKV; may be nil
	Sub       uint32  // the place in its revision
	Tombstone bool    // the key was deleted
	// prevRead says that PrevKV is what it will ever be.
	prevRead bool
}

func (ev *Event) set(rev Revision, m *txnpb.Mutation) {
	ev.Revision, ev.Sub, ev.Tombstone = int64(rev), m.Sub, m.Tombstone
	ev.Key, ev.Value = m.Key, m.Value
	ev.CreateRevision, ev.Version, ev.Lease = m.CreateRevision, m.Version, m.Lease
}

// eventOverhead is what an event costs in memory besides its bytes.
const eventOverhead = 160

func (ev *Event) bytes() int { return len(ev.Key) + len(ev.Value) + eventOverhead }

// bytesFor is what the event takes for a watch that wants what was before it, or not.
func (ev *Event) bytesFor(prev bool) int {
	n := ev.bytes()
	if prev && ev.PrevKV != nil {
		n += len(ev.PrevKV.Key) + len(ev.PrevKV.Value) + eventOverhead
	}
	return n
}

// An event on the wire is mvccpb.Event. Encoding it costs little more than
// copying an encoded form would, so none is kept.
const (
	eventType = 1<<3 | 0
	eventKV   = 2<<3 | 2
	eventPrev = 3<<3 | 2

	kvKey     = 1<<3 | 2
	kvCreate  = 2<<3 | 0
	kvMod     = 3<<3 | 0
	kvVersion = 4<<3 | 0
	kvValue   = 5<<3 | 2
	kvLease   = 6<<3 | 0
)

// EncodedLen is the length of the event as an mvccpb.Event, with the value
// before it if asked for.
func (ev *Event) EncodedLen(prev bool) int {
	n := ev.kvLen()
	n += 1 + varintLen(uint64(n))
	if ev.Tombstone {
		n += 2
	}
	if prev && ev.PrevKV != nil {
		p := prevLen(ev.PrevKV)
		n += 1 + varintLen(uint64(p)) + p
	}
	return n
}

// AppendEncoded appends the event as an mvccpb.Event.
func (ev *Event) AppendEncoded(dst []byte, prev bool) []byte {
	if ev.Tombstone {
		dst = append(dst, eventType, byte(mvccpb.Event_DELETE))
	}
	dst = appendVarint(append(dst, eventKV), uint64(ev.kvLen()))
	dst = appendKV(dst, ev.Key, ev.Value, ev.CreateRevision, ev.Revision, ev.Version, ev.Lease)
	if prev && ev.PrevKV != nil {
		kv := ev.PrevKV
		dst = appendVarint(append(dst, eventPrev), uint64(prevLen(kv)))
		dst = appendKV(dst, kv.Key, kv.Value, kv.CreateRevision, kv.ModRevision, kv.Version, kv.Lease)
	}
	return dst
}

func (ev *Event) kvLen() int {
	return kvLen(ev.Key, ev.Value, ev.CreateRevision, ev.Revision, ev.Version, ev.Lease)
}

func prevLen(kv *mvccpb.KeyValue) int {
	return kvLen(kv.Key, kv.Value, kv.CreateRevision, kv.ModRevision, kv.Version, kv.Lease)
}

func kvLen(key, value []byte, create, mod, version, lease int64) int {
	return bytesLen(key) + bytesLen(value) + intLen(create) + intLen(mod) + intLen(version) + intLen(lease)
}

func appendKV(dst, key, value []byte, create, mod, version, lease int64) []byte {
	dst = appendBytes(dst, kvKey, key)
	dst = appendInt(dst, kvCreate, create)
	dst = appendInt(dst, kvMod, mod)
	dst = appendInt(dst, kvVersion, version)
	dst = appendBytes(dst, kvValue, value)
	return appendInt(dst, kvLease, lease)
}

func bytesLen(b []byte) int {
	if len(b) == 0 {
		return 0
	}
	return 1 + varintLen(uint64(len(b))) + len(b)
}

func intLen(v int64) int {
	if v == 0 {
		return 0
	}
	return 1 + varintLen(uint64(v))
}

func appendBytes(dst []byte, tag byte, b []byte) []byte {
	if len(b) == 0 {
		return dst
	}
	return append(appendVarint(append(dst, tag), uint64(len(b))), b...)
}

func appendInt(dst []byte, tag byte, v int64) []byte {
	if v == 0 {
		return dst
	}
	return appendVarint(append(dst, tag), uint64(v))
}

func varintLen(v uint64) int { return (bits.Len64(v|1) + 6) / 7 }

func appendVarint(dst []byte, v uint64) []byte {
	for v >= 0x80 {
		dst = append(dst, byte(v)|0x80)
		v >>= 7
	}
	return append(dst, byte(v))
}
