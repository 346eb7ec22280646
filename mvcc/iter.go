package mvcc

import (
	"bytes"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/internal/keys"
)

// nextBeforeSeek is how many newer versions of a key are stepped over before
// the iterator seeks to the version wanted. A step costs about a tenth of a
// seek.
const nextBeforeSeek = 4

// liveIter walks the live keys of a span at a revision, in key order. It stands
// on row while valid; row's bytes are valid until the next positioning.
type liveIter struct {
	it   engine.Iterator
	at   Revision
	end  []byte // user key; empty: the iterator's own bound
	bare bool   // only the key of row is wanted
	// deadMax is how many dead keys may be stepped over until err is a PauseError;
	// 0: any number. dead counts them.
	deadMax, dead int
	row           Row
	buf           []byte // for seeks
	err           error
}

// seek goes to the first live key at or after a user key.
func (l *liveIter) seek(user []byte) bool {
	l.buf = keys.AppendUserPrefix(l.buf[:0], user)
	return l.settle(l.it.SeekGE(l.buf))
}

// next goes to the next live key.
func (l *liveIter) next() bool { return l.settle(l.it.NextPrefix()) }

// settle goes from where the iterator stands to the next version that is the
// newest of its key at l.at and not a tombstone.
func (l *liveIter) settle(ok bool) bool {
	steps := 0
	for ok {
		user, rev, _, err := keys.DecodeVersion(l.it.Key())
		if err != nil {
			return l.fail(err)
		}
		if len(l.end) != 0 && bytes.Compare(user, l.end) >= 0 {
			return false
		}
		if rev > l.at {
			// Counted over keys as well: after a run of new keys a seek finds
			// the same key's older version or, at once, the next key.
			if steps++; steps%nextBeforeSeek == 0 {
				l.buf = keys.AppendVersion(l.buf[:0], user, l.at, keys.SubMax)
				ok = l.it.SeekGE(l.buf)
			} else {
				ok = l.it.Next()
			}
			continue
		}
		if l.bare {
			raw, err := l.it.Value()
			if err != nil {
				return l.fail(err)
			}
			if l.row.Key = user; !IsTombstone(raw) {
				return true
			}
			ok = l.it.NextPrefix()
			continue
		}
		v, err := valueAt(l.it)
		if err != nil {
			return l.fail(err)
		}
		if !v.Tombstone {
			l.row = rowOf(user, rev, &v)
			return true
		}
		ok = l.it.NextPrefix()
		if l.dead++; ok && l.deadMax > 0 && l.dead%l.deadMax == 0 {
			return l.pause()
		}
	}
	if err := l.it.Error(); err != nil {
		return l.fail(err)
	}
	return false
}

// pause stops at the key at which the iterator stands.
func (l *liveIter) pause() bool {
	user, _, _, err := keys.DecodeVersion(l.it.Key())
	if err != nil {
		return l.fail(err)
	}
	if len(l.end) != 0 && bytes.Compare(user, l.end) >= 0 {
		return false
	}
	return l.fail(&PauseError{Key: bytes.Clone(user)})
}

func (l *liveIter) fail(err error) bool {
	l.err = err
	return false
}
