package keys

import (
	"bytes"
	"encoding/binary"

	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/txnpb"
)

// In the tables where something follows an address, the address is escaped so
// that its end is seen: a zero byte becomes 0x00 0xff, and 0x00 0x01 ends it.
// The end sorts below an escaped zero and below every other byte, so the order
// of addresses is kept.
const (
	escape     byte = 0x00
	escapedNul byte = 0xff
	terminator byte = 0x01
)

const txnIDLen = 4 * 8

// Row is the key of a row without versions.
func Row(addr []byte) []byte {
	key := make([]byte, 0, len(addr)+2)
	return append(append(append(key, tableRow), addr...), sentinel)
}

// DecodeRow returns the address in the key of a row without versions.
func DecodeRow(key []byte) (addr []byte, err error) {
	n := len(key)
	if n < 2 || key[0] != tableRow || key[n-1] != sentinel {
		return nil, badKey("row", key)
	}
	return key[1 : n-1], nil
}

// Intent is the key of a transaction's intent at an address.
func Intent(addr []byte, id *txnpb.TxnID) []byte { return withTxn(tableIntent, addr, id) }

// DecodeIntent returns the address and the transaction in the key of an intent.
// The address is a copy.
func DecodeIntent(key []byte) (addr []byte, id *txnpb.TxnID, err error) {
	return decodeWithTxn(tableIntent, "intent", key)
}

// IntentSpan returns the keys of all intents at a span of addresses.
func IntentSpan(span metapb.Span) Span { return tableSpan(tableIntent, span) }

// Record is the key of a transaction's record on the range that holds anchor.
func Record(anchor []byte, id *txnpb.TxnID) []byte { return withTxn(tableRecord, anchor, id) }

// DecodeRecord returns the anchor and the transaction in the key of a record.
// The anchor is a copy.
func DecodeRecord(key []byte) (anchor []byte, id *txnpb.TxnID, err error) {
	return decodeWithTxn(tableRecord, "record", key)
}

// RecordSpan returns the keys of all transaction records at a span of anchors.
func RecordSpan(span metapb.Span) Span { return tableSpan(tableRecord, span) }

// Leased is the key of the row that says which lease a client's key is attached
// to.
func Leased(userKey []byte) []byte {
	dst := make([]byte, 0, len(userKey)+5)
	return append(appendEscaped(append(dst, tableLeased), User(userKey)), sentinel)
}

// DecodeLeased returns the client's key in a leased row's key, as a copy.
func DecodeLeased(key []byte) (userKey []byte, err error) {
	addr, rest, ok := decodeEscaped(tableLeased, key)
	if !ok || len(rest) != 0 || len(addr) == 0 || addr[0] != byte(KindUser) {
		return nil, badKey("leased", key)
	}
	return addr[1:], nil
}

// LeasedSpan returns the keys of all leased rows at a span of addresses.
func LeasedSpan(span metapb.Span) Span { return tableSpan(tableLeased, span) }

func withTxn(table byte, addr []byte, id *txnpb.TxnID) []byte {
	dst := make([]byte, 0, len(addr)+txnIDLen+4)
	dst = appendEscaped(append(dst, table), addr)
	for _, n := range [4]uint64{id.StoreId, id.StoreStart, id.Number, id.Attempt} {
		dst = binary.BigEndian.AppendUint64(dst, n)
	}
	return append(dst, sentinel)
}

func decodeWithTxn(table byte, want string, key []byte) ([]byte, *txnpb.TxnID, error) {
	addr, rest, ok := decodeEscaped(table, key)
	if !ok || len(rest) != txnIDLen {
		return nil, nil, badKey(want, key)
	}
	return addr, &txnpb.TxnID{
		StoreId:    binary.BigEndian.Uint64(rest),
		StoreStart: binary.BigEndian.Uint64(rest[8:]),
		Number:     binary.BigEndian.Uint64(rest[16:]),
		Attempt:    binary.BigEndian.Uint64(rest[24:]),
	}, nil
}

func appendEscaped(dst, addr []byte) []byte {
	for {
		i := bytes.IndexByte(addr, escape)
		if i < 0 {
			dst = append(dst, addr...)
			return append(dst, escape, terminator)
		}
		dst = append(dst, addr[:i]...)
		dst = append(dst, escape, escapedNul)
		addr = addr[i+1:]
	}
}

// decodeEscaped returns the address of a key and what follows it, without the
// sentinel.
func decodeEscaped(table byte, key []byte) (addr, rest []byte, ok bool) {
	n := len(key)
	if n < 4 || key[0] != table || key[n-1] != sentinel {
		return nil, nil, false
	}
	in := key[1 : n-1]
	addr = make([]byte, 0, len(in))
	for {
		i := bytes.IndexByte(in, escape)
		if i < 0 || i+1 >= len(in) {
			return nil, nil, false
		}
		addr = append(addr, in[:i]...)
		switch in[i+1] {
		case terminator:
			return addr, in[i+2:], true
		case escapedNul:
			addr = append(addr, escape)
		default:
			return nil, nil, false
		}
		in = in[i+2:]
	}
}
