package mvcc

import (
	"bytes"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/internal/keys"
)

// Get returns a key as it is at a revision, nil if it is not there. It is the
// path of a range of one key.
func Get(r engine.Reader, key []byte, at Revision) (*mvccpb.KeyValue, error) {
	// One buffer for the bounds and the seek: [key, key + version 0).
	buf := make([]byte, 0, 3*keys.VersionLen(key, keys.SubMax)+1)
	lower := keys.AppendUserPrefix(buf, key)
	upper := keys.AppendUserPrefix(lower[len(lower):], key)
	upper = append(upper, 0) // the bare key of key+"\x00"
	seek := keys.AppendVersion(upper[len(upper):], key, at, keys.SubMax)
	it, err := r.NewIter(engine.IterOptions{Lower: lower, Upper: upper, Point: true})
	if err != nil {
		return nil, err
	}
	kv, err := getAt(it, seek, key)
	if e := it.Close(); err == nil {
		err = e
	}
	return kv, err
}

func getAt(it engine.Iterator, seek, key []byte) (*mvccpb.KeyValue, error) {
	if !it.SeekPrefixGE(seek) {
		return nil, it.Error()
	}
	user, rev, _, err := keys.DecodeVersion(it.Key())
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(user, key) {
		return nil, nil
	}
	v, err := valueAt(it)
	if err != nil || v.Tombstone {
		return nil, err
	}
	row := rowOf(user, rev, &v)
	return rowKV(&row), nil
}

// PageOptions bound a page of a read.
type PageOptions struct {
	// LimitRows ends the page after so many rows; 0 is no limit.
	LimitRows int64
	// BytesMax ends the page after the row that reaches it (keys and values);
	// 0 is no limit.
	BytesMax int
	// KeysOnly leaves out values and, as etcd does, leases.
	KeysOnly bool
	// Keep, if set, says which rows are wanted; the others count for nothing.
	Keep func(kv *mvccpb.KeyValue) bool
}

// Page is a part of a read, in key order.
type Page struct {
	KVs   []*mvccpb.KeyValue
	Bytes int
	// Next is where the next page begins, nil after the last.
	Next []byte
}

// pageSlab is how many rows are allocated at once, at most.
const pageSlab = 128

// ReadPage reads the live keys of [start, end) as they are at a revision, an
// empty end being the end of the keyspace. It makes an iterator for itself: a
// caller that reads page by page checks after each that nothing at or below the
// revision was removed meanwhile.
func ReadPage(r engine.Reader, start, end []byte, at Revision, opts PageOptions) (Page, error) {
	if emptySpan(start, end) {
		return Page{}, nil
	}
	span := keys.VersionSpan(start, end)
	it, err := r.NewIter(engine.IterOptions{Lower: span.Start, Upper: span.End})
	if err != nil {
		return Page{}, err
	}
	page, err := readPage(&liveIter{it: it, at: at}, start, &opts)
	if e := it.Close(); err == nil {
		err = e
	}
	if err != nil {
		return Page{}, err
	}
	return page, nil
}

func readPage(live *liveIter, start []byte, opts *PageOptions) (Page, error) {
	b := pageBuilder{opts: opts}
	for ok := live.seek(start); ok; ok = live.next() {
		if (opts.LimitRows > 0 && int64(len(b.page.KVs)) >= opts.LimitRows) ||
			(opts.BytesMax > 0 && b.page.Bytes >= opts.BytesMax) {
			b.page.Next = bytes.Clone(live.row.Key)
			break
		}
		b.add(&live.row)
	}
	return b.page, live.err
}

// pageBuilder copies rows into few allocations.
type pageBuilder struct {
	opts  *PageOptions
	page  Page
	slab  []mvccpb.KeyValue
	arena []byte
}

func (b *pageBuilder) add(row *Row) {
	if len(b.slab) == 0 {
		n := pageSlab
		if have := len(b.page.KVs); have < pageSlab {
			n = max(4, have) // a short answer should not cost a long slab
		}
		if left := b.opts.LimitRows - int64(len(b.page.KVs)); b.opts.LimitRows > 0 && left < int64(n) {
			n = int(left)
		}
		b.slab = make([]mvccpb.KeyValue, n)
	}
	kv := &b.slab[0]
	kv.CreateRevision, kv.ModRevision, kv.Version = row.CreateRevision, row.ModRevision, row.Version
	kv.Key = row.Key
	if !b.opts.KeysOnly {
		kv.Value, kv.Lease = row.Value, row.Lease
	}
	if b.opts.Keep != nil && !b.opts.Keep(kv) {
		*kv = mvccpb.KeyValue{}
		return
	}
	kv.Key = b.copy(kv.Key)
	if len(kv.Value) == 0 {
		kv.Value = nil
	} else {
		kv.Value = b.copy(kv.Value)
	}
	b.slab = b.slab[1:]
	b.page.KVs = append(b.page.KVs, kv)
	b.page.Bytes += len(kv.Key) + len(kv.Value)
}

// copy copies bytes into the arena. What is long gets memory of its own, so
// that one row does not hold a whole page in memory.
func (b *pageBuilder) copy(p []byte) []byte {
	const arenaBytes = 8 << 10
	if len(p) > arenaBytes/4 {
		return bytes.Clone(p)
	}
	if cap(b.arena)-len(b.arena) < len(p) {
		b.arena = make([]byte, 0, max(len(p), min(arenaBytes, 64+2*cap(b.arena))))
	}
	at := len(b.arena)
	b.arena = append(b.arena, p...)
	return b.arena[at:len(b.arena):len(b.arena)]
}
