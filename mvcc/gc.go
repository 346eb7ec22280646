package mvcc

import (
	"bytes"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/internal/keys"
)

// Collector removes from a span of user keys what a compaction at To no longer
// needs. Of the versions at or below To it keeps, for each key, the newest,
// unless that is a tombstone below To. What is at To itself is kept, a tombstone as in
// etcd, and what the same revision covered after it wrote it: a watch from To still
// wants them.
//
// From is the To of the last collection that was finished. A key with garbage
// has a version in [From, To]: what was left below From is one version per key, and what
// is at From itself. So only blocks with such versions are read, and the
// cost is that of the garbage.
//
// A collection is a row of steps, each of bounded work, each leaving a batch to
// be committed before the next. It can be begun again at any point, and what it
// removed in between is right by itself: the kept version of a key goes last.
type Collector struct {
	from, to   Revision
	start, end []byte
	cursor     []byte // the user key to go on at
	inKey      []byte // if not nil: the last engine key removed, of cursor's key
	freed      int64  // bytes of keys and values that were removed
	done       bool
}

// CollectBudget bounds one step.
type CollectBudget struct {
	// RowsMax is about how many versions a step looks at or removes. Default 4096.
	RowsMax int
	// BytesMax is about how large the step's batch may grow. Default 256 KiB.
	BytesMax int
}

func (b *CollectBudget) fillDefaults() {
	if b.RowsMax <= 0 {
		b.RowsMax = 4096
	}
	if b.BytesMax <= 0 {
		b.BytesMax = 256 << 10
	}
}

// NewCollector returns a collection of the user keys [start, end), an empty end
// being the end of the keyspace, from the To of the last finished collection (0
// if there was none) to a compacted revision.
// REQUIRES: the span is closed at to, and the removal mark is raised.
func NewCollector(start, end []byte, from, to Revision) *Collector {
	return &Collector{
		from: max(from, 1), to: to, end: bytes.Clone(end), start: start, cursor: bytes.Clone(start),
		done: to < 1 || emptySpan(start, end),
	}
}

// Cursor is the user key up to which all garbage is in the batches of the steps
// so far; ok is false when that is the whole span.
func (c *Collector) Cursor() (key []byte, ok bool) { return c.cursor, !c.done }

// FreedBytes is the size of the keys and values that the steps so far removed.
func (c *Collector) FreedBytes() int64 { return c.freed }

// Step adds deletes to a batch and returns how many. done says that nothing is
// left to do; the reader must show the batches of earlier steps.
func (c *Collector) Step(r engine.Reader, batch engine.Batch, budget CollectBudget) (deleted int, done bool, err error) {
	if c.done {
		return 0, true, nil
	}
	budget.fillDefaults()
	span := keys.VersionSpan(c.cursor, c.end)
	s := collectStep{c: c, batch: batch, rows: budget.RowsMax, bytes: budget.BytesMax}
	opts := engine.IterOptions{Lower: span.Start, Upper: span.End}
	if s.all, err = r.NewIter(opts); err != nil {
		return 0, false, err
	}
	opts.MinRevision, opts.MaxRevision = int64(c.from), int64(c.to)
	if s.recent, err = r.NewIter(opts); err == nil {
		err = s.run()
		if e := s.recent.Close(); err == nil {
			err = e
		}
	}
	if e := s.all.Close(); err == nil {
		err = e
	}
	return s.deleted, c.done, err
}

// collectStep is one step under way.
type collectStep struct {
	c       *Collector
	batch   engine.Batch
	recent  engine.Iterator // shows at least what has a revision in [from, to]
	all     engine.Iterator
	rows    int // left of the budget
	bytes   int
	deleted int
	key     []byte // the user key that the step is at
	seek    []byte
}

func (s *collectStep) spent() bool { return s.rows <= 0 || s.batch.Len() >= s.bytes }

func (s *collectStep) run() error {
	s.seek = keys.AppendUserPrefix(s.seek[:0], s.c.cursor)
	ok := s.recent.SeekGE(s.seek)
	for ok {
		if s.spent() {
			user, _, _, err := keys.DecodeVersion(s.recent.Key())
			s.c.cursor = bytes.Clone(user)
			return err
		}
		garbage, more, err := s.inspect()
		if err != nil {
			return err
		}
		ok = more
		if !garbage {
			continue
		}
		if more, err := s.collect(); err != nil || more {
			return err
		}
	}
	if err := s.recent.Error(); err != nil {
		return err
	}
	s.c.done = true
	return nil
}

// inspect reads the recent versions of the key under the iterator, goes to the
// next key and says whether the key may have garbage. The one case that needs
// no look at older versions is a key made by its only version in the window:
// what came before it ended with a tombstone, which would be in the window or
// is gone.
func (s *collectStep) inspect() (garbage, more bool, err error) {
	user, rev, _, err := keys.DecodeVersion(s.recent.Key())
	if err != nil {
		return false, false, err
	}
	s.key = append(s.key[:0], user...)
	fresh := 0
	for {
		s.rows--
		if rev < s.c.from {
			return false, s.recent.NextPrefix(), nil
		}
		if rev <= s.c.to {
			v, err := valueAt(s.recent)
			if err != nil {
				return false, false, err
			}
			if fresh++; fresh > 1 || v.Tombstone || v.Version != 1 {
				return true, s.recent.NextPrefix(), nil
			}
		}
		if !s.recent.Next() {
			return false, false, nil
		}
		if user, rev, _, err = keys.DecodeVersion(s.recent.Key()); err != nil {
			return false, false, err
		}
		if !bytes.Equal(user, s.key) {
			return false, true, nil
		}
	}
}

// collect removes the garbage of s.key; more says that the budget ended first,
// and that the key's turn is not over.
//
// The oldest version goes first: what a crash leaves of a removal then looks
// like a removal that did not get as far. Were a tombstone to go before what it
// covers, nothing recent would tell that there is something under the next
// version.
func (s *collectStep) collect() (more bool, err error) {
	s.seek = keys.AppendVersion(s.seek[:0], s.key, s.c.to, keys.SubMax)
	if !s.at(s.all.SeekGE(s.seek)) {
		return false, s.all.Error()
	}
	// The newest version that a read at To sees is kept, or goes last.
	_, kept, keptSub, err := keys.DecodeVersion(s.all.Key())
	if err != nil {
		return false, err
	}
	s.seek = keys.AppendUserPrefix(s.seek[:0], append(s.key, 0))
	if last := s.c.inKey; last != nil { // what earlier steps removed is not walked over again
		s.c.inKey = nil
		if user, _, _, err := keys.DecodeVersion(last); err == nil && bytes.Equal(user, s.key) {
			s.seek = append(s.seek[:0], last...)
		}
	}
	for ok := s.at(s.all.SeekLT(s.seek)); ok; ok = s.at(s.all.Prev()) {
		_, rev, sub, err := keys.DecodeVersion(s.all.Key())
		if err != nil {
			return false, err
		}
		if rev == kept && (sub == keptSub || rev == s.c.to) {
			return false, s.finishKey()
		}
		if s.spent() && s.deleted > 0 {
			s.c.cursor, s.c.inKey = bytes.Clone(s.key), bytes.Clone(s.seek)
			return true, nil
		}
		s.delete()
		s.seek = append(s.seek[:0], s.all.Key()...)
	}
	return false, s.all.Error()
}

// finishKey removes the newest version of s.key at or below To if it is a
// tombstone below To: nothing is left under it.
func (s *collectStep) finishKey() error {
	if err := s.all.Error(); err != nil {
		return err
	}
	s.seek = keys.AppendVersion(s.seek[:0], s.key, s.c.to, keys.SubMax)
	if !s.at(s.all.SeekGE(s.seek)) {
		return s.all.Error()
	}
	_, rev, _, err := keys.DecodeVersion(s.all.Key())
	if err != nil {
		return err
	}
	v, err := valueAt(s.all)
	if err == nil && v.Tombstone && rev < s.c.to {
		s.delete()
	}
	return err
}

func (s *collectStep) delete() {
	s.c.freed += int64(len(s.all.Key()))
	if v, err := s.all.Value(); err == nil { // what cannot be read can be removed
		s.c.freed += int64(len(v))
	}
	s.batch.Delete(s.all.Key())
	s.deleted++
	s.rows--
}

// at reports whether the iterator of all versions stands on one of s.key.
func (s *collectStep) at(ok bool) bool {
	if !ok {
		return false
	}
	user, _, _, err := keys.DecodeVersion(s.all.Key())
	return err == nil && bytes.Equal(user, s.key)
}
