package mvcc

import (
	"bytes"
	"cmp"
	"slices"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/internal/keys"
)

// Version is one version of one key, a tombstone too.
type Version struct {
	Key      []byte
	Revision Revision
	Sub      uint32
	Value    // Raw is a copy
	// Prev is the key before this revision, if it was asked for and was there.
	Prev *mvccpb.KeyValue
}

// versionOverhead is what a version costs in memory besides its bytes.
const versionOverhead = 96

func (v *Version) bytes() int { return len(v.Key) + len(v.Raw) + versionOverhead }

func compareVersions(a, b *Version) int {
	return cmp.Or(cmp.Compare(a.Revision, b.Revision), cmp.Compare(a.Sub, b.Sub), bytes.Compare(a.Key, b.Key))
}

// Window is all versions with a revision in (from, Through], in order of
// revision and sub-revision.
type Window struct {
	Versions []Version
	// Through is where the next window begins. It is the revision asked for when
	// nothing was left out.
	Through Revision
	// Next is the first key that was not read, nil: all were. See HistoryOptions.KeysBytesMax.
	Next []byte
}

// HistoryOptions say what History reads: the versions of the user keys of
// [Start, End), an empty End being the end of the keyspace, with a revision in
// (From, To].
type HistoryOptions struct {
	Start, End []byte
	From, To   Revision
	// BytesMax is about how much a window may take.
	BytesMax int
	// Prev wants what each key was before.
	Prev bool
	// KeysBytesMax, if it is not 0, has the window end before a key when one revision takes
	// more than that. It is not below BytesMax.
	KeysBytesMax int
	// Scratch, if it is set, is the memory of the window's versions: they are good
	// until it is used again.
	Scratch *HistoryScratch
}

// HistoryScratch is memory that one window leaves to the next: a reader of many spends a
// sixth of its time on memory that was never touched. It is for one History at a time.
type HistoryScratch struct {
	rows, sorted []Version
	order        []rowOrder
	arena        arena
}

// History reads the versions of a span. If they take more than about BytesMax,
// the window ends with an earlier revision, but never inside one, and always
// holds at least the first revision that has a version: a caller goes on from
// Through until it is To.
//
// A window costs a scan of all blocks that hold a revision of (From, To], so To
// is best kept near From when there is much.
// REQUIRES: the span is closed at To; From is not below the removal mark - 1.
func History(r engine.Reader, opts HistoryOptions) (Window, error) {
	if opts.From >= opts.To || emptySpan(opts.Start, opts.End) {
		return Window{Through: opts.To}, nil
	}
	span := keys.VersionSpan(opts.Start, opts.End)
	it, err := r.NewIter(engine.IterOptions{
		Lower: span.Start, Upper: span.End, MinRevision: int64(opts.From) + 1, MaxRevision: int64(opts.To),
	})
	if err != nil {
		return Window{}, err
	}
	if opts.Scratch == nil {
		opts.Scratch = new(HistoryScratch)
	}
	c := historyCollector{HistoryScratch: opts.Scratch, opts: opts, through: opts.To, low: opts.To, newer: -1}
	c.begin()
	if opts.Prev {
		c.prevs = &prevReader{r: r, span: span}
	}
	err = c.run(it)
	if e := it.Close(); err == nil {
		err = e
	}
	if e := c.prevs.close(); err == nil {
		err = e
	}
	if err != nil {
		return Window{}, err
	}
	return Window{Versions: c.inOrder(), Through: c.through, Next: c.next}, nil
}

// historyCollector keeps the lowest revisions that fit. It takes twice as much
// as that before it throws the highest out, so that a version costs the same
// however many there are.
type historyCollector struct {
	*HistoryScratch // rows are in order of key, newest first
	opts            HistoryOptions
	bytes           int
	most            int      // with more bytes it is time to throw some out
	through         Revision // nothing above is wanted any more
	low             Revision // the lowest revision held; it is never thrown out
	prevs           *prevReader
	next            []byte // the first key that was not read, nil: all were
	// newer is the first of the rows, the last ones, of which it is not known yet
	// what their key was before; -1: there is none. All are of one key and
	// revision: a transaction may delete a key and put it again.
	newer int
}

// begin forgets the last window.
func (s *HistoryScratch) begin() {
	clear(s.rows)
	clear(s.sorted)
	s.rows, s.sorted = s.rows[:0], s.sorted[:0]
	s.arena.reset()
}

func (c *historyCollector) run(it engine.Iterator) error {
	for ok := it.First(); ok; ok = it.Next() {
		user, rev, sub, err := keys.DecodeVersion(it.Key())
		if err != nil {
			return err
		}
		if c.newer >= 0 && !bytes.Equal(user, c.rows[c.newer].Key) {
			if err := c.settle(nil); err != nil {
				return err
			}
		}
		if c.opts.KeysBytesMax > 0 && c.isFull(user) {
			c.next = bytes.Clone(user)
			return it.Error()
		}
		// The iterator's filter is a hint.
		wanted := rev > c.opts.From && rev <= c.through
		if !wanted && c.newer < 0 {
			continue
		}
		v, err := valueAt(it)
		if err != nil {
			return err
		}
		row := Version{Key: user, Revision: rev, Sub: sub, Value: v}
		if c.newer >= 0 && rev < c.rows[c.newer].Revision {
			if err := c.settle(&row); err != nil {
				return err
			}
		}
		if wanted {
			c.add(row)
		}
	}
	if err := it.Error(); err != nil {
		return err
	}
	return c.settle(nil)
}

// isFull reports whether what was read before a key is all of one revision, and too much.
func (c *historyCollector) isFull(user []byte) bool {
	n := len(c.rows)
	if n == 0 || c.bytes <= c.opts.KeysBytesMax || bytes.Equal(c.rows[n-1].Key, user) {
		return false
	}
	c.shrink()
	return c.bytes > c.opts.KeysBytesMax
}

func (c *historyCollector) add(row Version) {
	if n := len(c.rows); n > 0 && bytes.Equal(c.rows[n-1].Key, row.Key) {
		row.Key = c.rows[n-1].Key
	} else {
		row.Key = c.arena.copy(row.Key)
	}
	row.Raw = c.arena.copy(row.Raw)
	c.bytes += row.bytes()
	c.low = min(c.low, row.Revision)
	c.rows = append(c.rows, row)
	if c.opts.Prev && c.newer < 0 && row.hadPrev() {
		c.newer = len(c.rows) - 1
	}
	if c.bytes > max(c.most, 2*c.opts.BytesMax) {
		c.shrink()
		c.most = 2 * c.bytes // one revision may take more than a window
	}
}

// hadPrev reports whether the key was there before, as far as the version tells.
func (v *Version) hadPrev() bool { return v.Tombstone || v.Value.Version > 1 }

// settle finds out what the key of the rows from newer on was before. next is the
// next row of the key that the iterator showed, nil if there was none. Below the
// window it may have left some out.
func (c *historyCollector) settle(next *Version) error {
	if c.newer < 0 {
		return nil
	}
	rows := c.rows[c.newer:]
	c.newer = -1
	first := &rows[0]
	sure := next != nil && (next.Revision > c.opts.From ||
		len(rows) == 1 && !next.Tombstone && next.Create == first.Create && next.Value.Version == first.Value.Version-1)
	var prev *mvccpb.KeyValue
	if !sure {
		kv, err := c.prevs.read(first.Key, first.Revision-1)
		if err != nil {
			return err
		}
		prev = kv
	} else if !next.Tombstone {
		r := rowOf(first.Key, next.Revision, &next.Value)
		prev = rowKV(&r)
	}
	for i := range rows {
		if prev != nil && rows[i].hadPrev() {
			rows[i].Prev = prev
			c.bytes += c.cost(&rows[i]) - rows[i].bytes()
		}
	}
	return nil
}

// rowOrder is a row's place in the order of revisions.
type rowOrder struct {
	rev Revision
	sub uint32
	row int32
}

// ordered returns the rows' places in the order of revisions.
func (c *historyCollector) ordered() []rowOrder {
	c.order = c.order[:0]
	for i := range c.rows {
		c.order = append(c.order, rowOrder{c.rows[i].Revision, c.rows[i].Sub, int32(i)})
	}
	slices.SortFunc(c.order, func(a, b rowOrder) int { return cmp.Or(cmp.Compare(a.rev, b.rev), cmp.Compare(a.sub, b.sub)) })
	return c.order
}

// shrink throws the highest revisions out until the rest fits or is one.
func (c *historyCollector) shrink() {
	bytes := 0
	order := c.ordered()
	for i := 0; i < len(order); {
		rev := order[i].rev
		for ; i < len(order) && order[i].rev == rev; i++ {
			bytes += c.cost(&c.rows[order[i].row])
		}
		if bytes > c.opts.BytesMax && rev > c.low {
			c.through = rev - 1
			break
		}
	}
	kept, newer := c.rows[:0], -1
	c.bytes = 0
	for i := range c.rows {
		if row := c.rows[i]; row.Revision <= c.through {
			if i == c.newer {
				newer = len(kept)
			}
			kept = append(kept, row)
			c.bytes += c.cost(&row)
		}
	}
	clear(c.rows[len(kept):])
	c.rows, c.newer = kept, newer
}

// cost is what a row takes with what is before it.
func (c *historyCollector) cost(row *Version) int {
	n := row.bytes()
	if row.Prev != nil {
		n += len(row.Key) + len(row.Prev.Value) + versionOverhead
	}
	return n
}

// inOrder returns the rows that fit, in order.
func (c *historyCollector) inOrder() []Version {
	if c.bytes > c.opts.BytesMax {
		c.shrink()
	}
	c.sorted = slices.Grow(c.sorted, len(c.rows))
	for _, o := range c.ordered() {
		c.sorted = append(c.sorted, c.rows[o.row])
	}
	return c.sorted
}

// prevReader looks keys up where an iterator leaves rows out.
type prevReader struct {
	r    engine.Reader
	span keys.Span
	it   engine.Iterator
	seek []byte
}

// read returns a key at a revision. Keys come in order.
func (p *prevReader) read(key []byte, at Revision) (*mvccpb.KeyValue, error) {
	if at < 1 {
		return nil, nil
	}
	if p.it == nil {
		it, err := p.r.NewIter(engine.IterOptions{Lower: p.span.Start, Upper: p.span.End})
		if err != nil {
			return nil, err
		}
		p.it = it
	}
	p.seek = keys.AppendVersion(p.seek[:0], key, at, keys.SubMax)
	if !p.it.SeekGE(p.seek) {
		return nil, p.it.Error()
	}
	user, rev, _, err := keys.DecodeVersion(p.it.Key())
	if err != nil || !bytes.Equal(user, key) {
		return nil, err
	}
	v, err := valueAt(p.it)
	if err != nil || v.Tombstone {
		return nil, err
	}
	row := rowOf(key, rev, &v)
	return rowKV(&row), nil
}

func (p *prevReader) close() error {
	if p == nil || p.it == nil {
		return nil
	}
	return p.it.Close()
}

// arena copies bytes into pieces of memory that grow.
type arena struct {
	piece []byte
	// full and free are pieces of the largest size: in use, and to be used.
	full, free [][]byte
}

// reset frees what was copied.
func (a *arena) reset() {
	if cap(a.piece) == arenaPieceMax {
		a.full = append(a.full, a.piece)
	}
	a.free = append(a.free, a.full...)
	clear(a.full)
	a.piece, a.full = nil, a.full[:0]
}

const arenaPieceMax = 256 << 10

func (a *arena) copy(b []byte) []byte {
	if len(b) == 0 {
		return nil
	}
	if len(b) > arenaPieceMax/8 {
		return bytes.Clone(b)
	}
	if cap(a.piece)-len(a.piece) < len(b) {
		a.next(len(b))
	}
	n := len(a.piece)
	a.piece = append(a.piece, b...)
	return a.piece[n:len(a.piece):len(a.piece)]
}

// next begins a piece with room for size bytes.
func (a *arena) next(size int) {
	if cap(a.piece) == arenaPieceMax {
		a.full = append(a.full, a.piece)
	}
	if n := len(a.free); n > 0 {
		a.piece, a.free = a.free[n-1][:0], a.free[:n-1]
		return
	}
	a.piece = make([]byte, 0, max(size, min(arenaPieceMax, max(512, 2*cap(a.piece)))))
}
