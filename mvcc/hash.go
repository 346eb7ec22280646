package mvcc

import (
	"bytes"
	"container/heap"
	"encoding/binary"
	"hash/crc32"
	"slices"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/internal/keys"
)

// HashOptions say which history is hashed.
type HashOptions struct {
	// Revision is the last revision that is hashed.
	Revision Revision
	// Compacted is the compacted revision, -1 if there was no compaction. Of
	// what is at or below it only versions that are live at Revision count.
	Compacted Revision
	// NoneLive says that no key of the whole keyspace is live at Revision. etcd
	// then hashes what the compaction left instead.
	NoneLive bool
}

// HashRow stands for one version in the hash: where it comes in the order, and
// the checksum and length of the bytes that etcd would store for it.
type HashRow struct {
	Revision Revision
	Sub      uint32
	CRC, Len uint32
}

func (a HashRow) before(b HashRow) bool {
	return a.Revision < b.Revision || (a.Revision == b.Revision && a.Sub < b.Sub)
}

// HashKeys calls add for the rows of the keys of [start, end), key by key, until it has
// looked at about versionsMax versions (0: at all). It returns where to go on, nil: that
// was the end.
func HashKeys(r engine.Reader, start, end []byte, opts HashOptions, versionsMax int, add func(HashRow)) (next []byte, err error) {
	if emptySpan(start, end) {
		return nil, nil
	}
	span := keys.VersionSpan(start, end)
	it, err := r.NewIter(engine.IterOptions{Lower: span.Start, Upper: span.End})
	if err != nil {
		return nil, err
	}
	p := hashPager{it: it, opts: &opts, table: crc32.MakeTable(crc32.Castagnoli), row: add}
	next, err = p.run(versionsMax)
	if e := it.Close(); err == nil {
		err = e
	}
	return next, err
}

// HashRows collects rows that come in any order into pages in order of revision. A page
// holds 24 bytes of memory per row: rows are ordered by key on disk and by revision in
// the hash.
type HashRows struct {
	after HashRow // rows up to it were handed out
	max   int
	rows  hashHeap // the lowest, with the highest on top
	more  bool     // some did not fit
}

// NewHashRows returns pages of rowsMax rows.
func NewHashRows(rowsMax int) *HashRows { return &HashRows{max: max(rowsMax, 1)} }

// After is the last row of the pages that were taken: those up to it are not needed.
func (h *HashRows) After() HashRow { return h.after }

// Add takes a row.
func (h *HashRows) Add(row HashRow) {
	switch {
	case !h.after.before(row):
	case len(h.rows) < h.max:
		heap.Push(&h.rows, row)
	case h.rows[0].before(row):
		h.more = true
	default:
		h.rows[0] = row
		heap.Fix(&h.rows, 0)
		h.more = true
	}
}

// Page returns the next page, when all rows were added, and whether it is the last. If
// it is not they are to be added again.
func (h *HashRows) Page() (rows []HashRow, done bool) {
	rows, done = h.rows, !h.more
	h.rows, h.more = nil, false
	slices.SortFunc(rows, func(a, b HashRow) int {
		if a.before(b) {
			return -1
		}
		return 1
	})
	if n := len(rows); n > 0 {
		h.after = rows[n-1]
	}
	return rows, done
}

// hashPager walks over versions, by key.
type hashPager struct {
	it    engine.Iterator
	opts  *HashOptions
	table *crc32.Table
	row   func(HashRow)
	seen  int // versions
	kv    mvccpb.KeyValue
	buf   []byte
	user  []byte
}

func (p *hashPager) run(versionsMax int) (next []byte, err error) {
	for ok := p.it.First(); ok; {
		user, _, _, err := keys.DecodeVersion(p.it.Key())
		if err != nil {
			return nil, err
		}
		if versionsMax > 0 && p.seen >= versionsMax {
			return bytes.Clone(user), nil
		}
		p.user = append(p.user[:0], user...)
		if ok, err = p.key(); err != nil {
			return nil, err
		}
	}
	return nil, p.it.Error()
}

// key takes the versions of one key, newest first, and goes to the next key.
func (p *hashPager) key() (more bool, err error) {
	newest := true // the next one is what a read at opts.Revision sees
	for {
		p.seen++
		user, rev, sub, err := keys.DecodeVersion(p.it.Key())
		if err != nil {
			return false, err
		}
		if !bytes.Equal(user, p.user) {
			return true, nil
		}
		if rev <= p.opts.Revision {
			v, err := valueAt(p.it)
			if err != nil {
				return false, err
			}
			if rev > p.opts.Compacted {
				err = p.add(rev, sub, &v)
			} else {
				if !v.Tombstone && (newest || p.opts.NoneLive) {
					err = p.add(rev, sub, &v)
				}
				if err == nil {
					return p.it.NextPrefix(), nil
				}
			}
			if err != nil {
				return false, err
			}
			newest = false
		}
		if !p.it.Next() {
			return false, nil
		}
	}
}

// add takes one version: the bytes are a revision key of 17 bytes (18 with the
// mark of a tombstone) and the marshalled KeyValue.
func (p *hashPager) add(rev Revision, sub uint32, v *Value) error {
	row := HashRow{Revision: rev, Sub: sub}
	b := binary.BigEndian.AppendUint64(p.buf[:0], uint64(rev))
	b = append(b, '_')
	b = binary.BigEndian.AppendUint64(b, uint64(sub))
	p.kv.Reset()
	p.kv.Key = p.user
	if v.Tombstone {
		b = append(b, 't')
	} else {
		p.kv.CreateRevision, p.kv.ModRevision = int64(v.Create), int64(rev)
		p.kv.Version, p.kv.Lease, p.kv.Value = v.Version, v.Lease, v.Raw
	}
	b, err := proto.MarshalOptions{}.MarshalAppend(b, &p.kv)
	if err != nil {
		return err
	}
	p.buf = b
	row.CRC, row.Len = crc32.Checksum(b, p.table), uint32(len(b))
	p.row(row)
	return nil
}

type hashHeap []HashRow

func (h hashHeap) Len() int           { return len(h) }
func (h hashHeap) Less(i, j int) bool { return h[j].before(h[i]) }
func (h hashHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *hashHeap) Push(v any)        { *h = append(*h, v.(HashRow)) }

// Pop implements heap.Interface.
func (h *hashHeap) Pop() any {
	old := *h
	n := len(old) - 1
	*h = old[:n]
	return old[n]
}

// KVHash is etcd's HashKV over rows: CRC-32C of the bucket's name and of all
// rows in order. It never sees the rows' bytes but joins their checksums.
type KVHash struct {
	sum    uint32
	powers [3 + 32]uint32 // x^(2^i) modulo the polynomial
}

// NewKVHash returns the hash of no rows.
func NewKVHash() *KVHash {
	h := &KVHash{sum: crc32.Checksum([]byte("key"), crc32.MakeTable(crc32.Castagnoli))}
	h.powers[0] = 1 << 30 // x
	for i := 1; i < len(h.powers); i++ {
		h.powers[i] = mulMod(h.powers[i-1], h.powers[i-1])
	}
	return h
}

// Add takes the next row.
func (h *KVHash) Add(row HashRow) {
	// The checksum of two strings is that of the first, moved by the length of
	// the second (multiplied by x^bits), plus that of the second. A length in
	// bytes is a length in bits three powers of two further on.
	for n, i := row.Len, 3; n != 0; n, i = n>>1, i+1 {
		if n&1 != 0 {
			h.sum = mulMod(h.sum, h.powers[i])
		}
	}
	h.sum ^= row.CRC
}

// Sum returns the hash.
func (h *KVHash) Sum() uint32 { return h.sum }

// mulMod multiplies two polynomials over GF(2) modulo that of CRC-32C. The
// highest bit is the coefficient of x^0, as CRCs are written.
func mulMod(a, b uint32) uint32 {
	var product uint32
	for bit := uint32(1) << 31; bit != 0; bit >>= 1 {
		if a&bit != 0 {
			product ^= b
		}
		carry := b & 1 // the coefficient of x^31, about to become x^32
		b = b>>1 ^ crc32.Castagnoli*carry
	}
	return product
}
