package engine

import (
	"bytes"
	"encoding/binary"

	"github.com/cockroachdb/pebble/v2/cockroachkvs"
	"github.com/google/btree"
)

// Rows are fetched from the tree in chunks that grow, so that a point read costs
// one descent and a scan few.
const (
	memChunkMin = 4
	memChunkMax = 128
)

// memIter walks a tree that nobody writes. buf holds neighbouring rows in the
// order of the walk; at is the current one.
type memIter struct {
	tree   *btree.BTreeG[memRow]
	opts   IterOptions
	buf    []memRow
	at     int
	back   bool   // buf is in descending order
	last   []byte // the key behind which to go on when buf is used up
	done   bool   // the walk has seen its end: nothing follows buf
	edge   int8   // -1 before the first row, +1 behind the last, 0 on a row or nowhere
	prefix []byte // set by SeekPrefixGE
	chunk  int
	err    error
}

func newMemIter(tree *btree.BTreeG[memRow], opts IterOptions) *memIter {
	opts.Lower, opts.Upper = bytes.Clone(opts.Lower), bytes.Clone(opts.Upper)
	return &memIter{tree: tree, opts: opts}
}

func (it *memIter) First() bool {
	it.restart(false)
	return it.fill(it.opts.Lower, true)
}

func (it *memIter) Last() bool {
	it.restart(true)
	return it.fill(it.opts.Upper, false)
}

func (it *memIter) SeekGE(key []byte) bool {
	it.restart(false)
	if it.opts.Lower != nil && cockroachkvs.Compare(key, it.opts.Lower) < 0 {
		key = it.opts.Lower
	}
	return it.fill(bytes.Clone(key), true)
}

func (it *memIter) SeekLT(key []byte) bool {
	it.restart(true)
	if it.opts.Upper != nil && cockroachkvs.Compare(key, it.opts.Upper) > 0 {
		key = it.opts.Upper
	}
	return it.fill(bytes.Clone(key), false)
}

func (it *memIter) SeekPrefixGE(key []byte) bool {
	it.restart(false)
	it.prefix = bytes.Clone(key[:cockroachkvs.Split(key)])
	if it.opts.Lower != nil && cockroachkvs.Compare(key, it.opts.Lower) < 0 {
		key = it.opts.Lower
	}
	return it.fill(bytes.Clone(key), true)
}

func (it *memIter) Next() bool {
	switch {
	case it.edge > 0:
		return false
	case it.edge < 0:
		return it.First()
	case it.back:
		return it.turn(false)
	}
	if it.at++; it.at < len(it.buf) {
		return true
	}
	return it.more()
}

func (it *memIter) Prev() bool {
	if it.prefix != nil {
		it.buf, it.err = nil, errPrevInPrefix
		return false
	}
	switch {
	case it.edge < 0:
		return false
	case it.edge > 0:
		return it.Last()
	case !it.back:
		return it.turn(true)
	}
	if it.at++; it.at < len(it.buf) {
		return true
	}
	return it.more()
}

func (it *memIter) NextPrefix() bool {
	if !it.Valid() {
		return it.Next()
	}
	prefix := bytes.Clone(it.Key()[:cockroachkvs.Split(it.Key())])
	for it.Next() {
		if key := it.Key(); !bytes.Equal(key[:cockroachkvs.Split(key)], prefix) {
			return true
		}
	}
	return false
}

func (it *memIter) Valid() bool { return it.err == nil && it.at < len(it.buf) }

func (it *memIter) Key() []byte { return it.buf[it.at].key }

func (it *memIter) Value() ([]byte, error) { return it.buf[it.at].value, nil }

func (it *memIter) Error() error { return it.err }

func (it *memIter) Close() error { return it.err }

func (it *memIter) restart(back bool) {
	it.buf, it.at, it.last, it.done, it.edge = it.buf[:0], 0, nil, false, 0
	it.prefix, it.back, it.chunk, it.err = nil, back, memChunkMin, nil
}

// turn steps from the current row against the direction of buf.
func (it *memIter) turn(back bool) bool {
	if !it.Valid() {
		return false
	}
	from := it.Key()
	it.restart(back)
	return it.fill(from, false)
}

// more fetches the rows behind the last chunk.
func (it *memIter) more() bool {
	if it.done {
		return it.finish()
	}
	return it.fill(it.last, false)
}

// finish leaves the iterator beside the first or the last row.
func (it *memIter) finish() bool {
	it.buf, it.at = it.buf[:0], 0
	if it.edge = 1; it.back {
		it.edge = -1
	}
	return false
}

// fill fetches the next chunk: rows from key on, key itself only if inclusive.
// A nil key is the end of the tree that the walk begins at. It steps onto the
// first row.
func (it *memIter) fill(key []byte, inclusive bool) bool {
	it.buf, it.at = it.buf[:0], 0
	visit := func(r memRow) bool {
		if !inclusive && key != nil && cockroachkvs.Compare(r.key, key) == 0 {
			return true
		}
		if !it.within(r.key) {
			it.done = true
			return false
		}
		it.last = r.key
		if !it.hidden(r.key) {
			it.buf = append(it.buf, r)
		}
		it.done = len(it.buf) < it.chunk
		return it.done
	}
	it.done = true
	switch {
	case it.back && key == nil:
		it.tree.Descend(visit)
	case it.back:
		it.tree.DescendLessOrEqual(memRow{key: key}, visit)
	case key == nil:
		it.tree.Ascend(visit)
	default:
		it.tree.AscendGreaterOrEqual(memRow{key: key}, visit)
	}
	it.chunk = min(2*it.chunk, memChunkMax)
	if len(it.buf) > 0 {
		return true
	}
	return it.finish()
}

// within reports whether the walk may reach a key: it lies inside the bounds and
// inside the prefix.
func (it *memIter) within(key []byte) bool {
	if it.back {
		return it.opts.Lower == nil || cockroachkvs.Compare(key, it.opts.Lower) >= 0
	}
	if it.prefix != nil && !bytes.Equal(key[:cockroachkvs.Split(key)], it.prefix) {
		return false
	}
	return it.opts.Upper == nil || cockroachkvs.Compare(key, it.opts.Upper) < 0
}

// hidden drops about half of the rows outside of the revision window, always the
// same ones: callers must live with their presence and with their absence.
func (it *memIter) hidden(key []byte) bool {
	lo, hi := it.opts.MinRevision, it.opts.MaxRevision
	if lo == 0 && hi == 0 {
		return false
	}
	suffix := key[cockroachkvs.Split(key):]
	if len(suffix) >= 8 {
		rev := int64(binary.BigEndian.Uint64(suffix))
		if rev >= lo && (hi == 0 || rev <= hi) {
			return false
		}
	}
	var sum byte
	for _, c := range key {
		sum = sum*31 + c
	}
	return sum&1 == 0
}
