package keys

import (
	"encoding/binary"
	"math"

	"github.com/flotilladb/flotilla/proto/metapb"
)

const (
	// suffixLen is the length of a version suffix with its length byte.
	suffixLen = 8 + 4 + 1
	// shortSuffixLen is the same without the sub-revision, which is left out
	// when it is zero.
	shortSuffixLen = 8 + 1
)

// SubMax is the highest sub-revision. To seek the newest version at or below a
// revision, seek Version(key, revision, SubMax).
const SubMax uint32 = math.MaxUint32

// VersionLen returns the length of the engine key of a version.
func VersionLen(userKey []byte, sub uint32) int {
	if sub == 0 {
		return 1 + len(userKey) + 1 + shortSuffixLen
	}
	return 1 + len(userKey) + 1 + suffixLen
}

// Version is the engine key of one version of a client's key.
// REQUIRES: rev > 0 (zero would read back as no version).
func Version(userKey []byte, rev metapb.Revision, sub uint32) []byte {
	return AppendVersion(make([]byte, 0, VersionLen(userKey, sub)), userKey, rev, sub)
}

// AppendVersion appends the engine key of one version of a client's key.
// REQUIRES: rev > 0.
func AppendVersion(dst, userKey []byte, rev metapb.Revision, sub uint32) []byte {
	return AppendSuffix(AppendUserPrefix(dst, userKey), rev, sub)
}

// AppendSuffix appends a version suffix to a key that AppendUserPrefix wrote.
// REQUIRES: rev > 0.
func AppendSuffix(dst []byte, rev metapb.Revision, sub uint32) []byte {
	dst = binary.BigEndian.AppendUint64(dst, uint64(rev))
	if sub == 0 {
		return append(dst, shortSuffixLen)
	}
	dst = binary.BigEndian.AppendUint32(dst, sub)
	return append(dst, suffixLen)
}

// UserPrefix is the bare key of a client's key: it sorts before all versions of
// the key and after all versions of smaller keys.
func UserPrefix(userKey []byte) []byte {
	return AppendUserPrefix(make([]byte, 0, 1+len(userKey)+1), userKey)
}

// AppendUserPrefix appends the bare key of a client's key.
func AppendUserPrefix(dst, userKey []byte) []byte {
	return append(append(append(dst, tableVersion), userKey...), sentinel)
}

// VersionSpan returns the engine keys of all versions of the client keys in
// [start, end). An empty end is the end of the client keys.
func VersionSpan(start, end []byte) Span {
	s := Span{Start: UserPrefix(start), End: []byte{tableVersion + 1, sentinel}}
	if len(end) != 0 {
		s.End = UserPrefix(end)
	}
	return s
}

// DecodeVersion takes the engine key of a version apart. It takes a suffix of
// either length.
func DecodeVersion(key []byte) (userKey []byte, rev metapb.Revision, sub uint32, err error) {
	n := len(key)
	if n == 0 || key[0] != tableVersion {
		return nil, 0, 0, badKey("version", key)
	}
	size := int(key[n-1])
	at := n - size // where the suffix begins
	if (size != suffixLen && size != shortSuffixLen) || at < 2 || key[at-1] != sentinel {
		return nil, 0, 0, badKey("version", key)
	}
	rev = metapb.Revision(binary.BigEndian.Uint64(key[at:]))
	if size == suffixLen {
		sub = binary.BigEndian.Uint32(key[at+8:])
	}
	if rev <= 0 {
		return nil, 0, 0, badKey("version", key)
	}
	return key[1 : at-1], rev, sub, nil
}

// IsVersion reports whether an engine key is in the table of versions.
func IsVersion(key []byte) bool { return len(key) > 0 && key[0] == tableVersion }
