package keys

import (
	"fmt"

	"github.com/flotilladb/flotilla/proto/txnpb"
)

// Format shows an engine key to a human. Bytes that are no key of ours are shown
// in hexadecimal.
func Format(key []byte) string {
	if len(key) == 0 {
		return "?"
	}
	switch key[0] {
	case tableLocal:
		return formatLocal(key)
	case tableStore:
		if name, err := DecodeStore(key); err == nil {
			return fmt.Sprintf("store/%s", name)
		}
	case tableRow:
		if addr, err := DecodeRow(key); err == nil {
			return "row/" + FormatAddress(addr)
		}
	case tableIntent:
		if addr, id, err := DecodeIntent(key); err == nil {
			return "intent/" + FormatAddress(addr) + "/" + formatTxn(id)
		}
	case tableRecord:
		if addr, id, err := DecodeRecord(key); err == nil {
			return "record/" + FormatAddress(addr) + "/" + formatTxn(id)
		}
	case tableLeased:
		if userKey, err := DecodeLeased(key); err == nil {
			return fmt.Sprintf("leased/%q", userKey)
		}
	case tableVersion:
		return formatVersion(key)
	}
	return fmt.Sprintf("?%x", key)
}

// FormatAddress shows an address to a human.
func FormatAddress(addr []byte) string {
	a, err := DecodeAddress(addr)
	switch {
	case err != nil:
		return fmt.Sprintf("?%x", addr)
	case a.Kind == KindSystem:
		return fmt.Sprintf("system:%q", a.Name)
	case a.Kind == KindLease:
		return fmt.Sprintf("lease:%016x", uint64(a.Lease))
	}
	return fmt.Sprintf("user:%q", a.UserKey)
}

func formatLocal(key []byte) string {
	id, kind, index, err := DecodeLocal(key)
	if err != nil {
		return fmt.Sprintf("?%x", key)
	}
	if kind == LocalLog {
		return fmt.Sprintf("range/%d/log/%d", id, index)
	}
	return fmt.Sprintf("range/%d/%s", id, kind)
}

// String names the kind of row.
func (k LocalKind) String() string {
	switch k {
	case LocalHardState:
		return "hardstate"
	case LocalTruncated:
		return "truncated"
	case LocalApplied:
		return "applied"
	case LocalDescriptor:
		return "descriptor"
	case LocalTombstone:
		return "tombstone"
	case LocalRemovalMark:
		return "removalmark"
	case LocalConfState:
		return "confstate"
	case LocalCondemned:
		return "condemned"
	case LocalLog:
		return "log"
	}
	return fmt.Sprintf("kind%#02x", byte(k))
}

func formatVersion(key []byte) string {
	if userKey, rev, sub, err := DecodeVersion(key); err == nil {
		return fmt.Sprintf("%q@%d.%d", userKey, rev, sub)
	}
	if n := len(key); n >= 2 && key[n-1] == sentinel {
		return fmt.Sprintf("%q", key[1:n-1])
	}
	return fmt.Sprintf("?%x", key)
}

func formatTxn(id *txnpb.TxnID) string {
	return fmt.Sprintf("txn:%d.%d.%d.%d", id.StoreId, id.StoreStart, id.Number, id.Attempt)
}
