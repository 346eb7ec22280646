package raftgroup

import (
	"errors"
	"fmt"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/internal/invariant"
	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/proto/metapb"
)

// log is a group's log on the engine, and raft.Storage for it. Raft asks it
// only for entries that it was told are durable; the younger ones raft holds
// itself. Owned by its Group.
type log struct {
	reader    engine.Reader
	rangeID   metapb.RangeID
	cacheMax  uint64
	hard      hardState
	conf      *raftpb.ConfState
	truncated position // the log begins behind it. Invariant: truncated.index <= last.index
	last      position // of the last entry written into a batch
	applied   uint64   // as the group was told. Invariant: truncated.index <= applied
	synced    uint64   // entries up to it can be read from reader. Invariant: <= last.index
	cache     entryCache
	// failed is the first error of a read. Raft panics over errors of its
	// storage; Group turns that back into this error.
	failed error
}

// entryOverhead is what an entry counts beside its data where raft limits
// messages: more than its index, term and type ever need.
const entryOverhead = 32

// loadLog reads a group's state. The log itself is not read but for its last
// row. applied is a lower bound for what was committed.
func loadLog(reader engine.Reader, rangeID metapb.RangeID, applied, cacheMax uint64) (*log, error) {
	st, err := ReadState(reader, rangeID)
	if err != nil {
		return nil, err
	}
	l := &log{
		reader:    reader,
		rangeID:   rangeID,
		cacheMax:  cacheMax,
		hard:      hardState{term: st.Term, vote: uint64(st.Vote), commit: st.Committed},
		conf:      st.conf,
		truncated: st.truncated,
		last:      st.last,
		applied:   applied,
		synced:    st.last.index,
	}
	// The commit index is written only now and then (DESIGN.md): what was
	// applied or cut off is committed, whatever the row says.
	l.hard.commit = max(l.hard.commit, applied, l.truncated.index)
	switch {
	case l.last.index < l.truncated.index:
		return nil, l.corrupt(0, "log ends at %d, below its cut at %d", l.last.index, l.truncated.index)
	case l.last.index < l.hard.commit:
		return nil, l.corrupt(0, "log ends at %d, below what was committed, %d", l.last.index, l.hard.commit)
	case applied < l.truncated.index:
		return nil, l.corrupt(0, "applied to %d, but the log was cut at %d", applied, l.truncated.index)
	}
	return l, nil
}

func (l *log) corrupt(index uint64, format string, args ...any) error {
	return &CorruptionError{RangeID: l.rangeID, Index: index, Reason: fmt.Sprintf(format, args...)}
}

// fail notes an error of a read, so that the group stops.
func (l *log) fail(err error) error {
	if l.failed == nil {
		l.failed = err
	}
	return err
}

// append writes entries, and the removal of what they replace, into b.
// REQUIRES: ents follow each other; the first is above truncated and at most
// one above last.
func (l *log) append(b engine.Batch, ents []*raftpb.Entry) error {
	first := ents[0].GetIndex()
	if first <= l.truncated.index || first > l.last.index+1 { // Must alone would box its arguments
		invariant.Must(false, "range %d: append at %d to a log (%d, %d]", l.rangeID, first, l.truncated.index, l.last.index)
	}
	oldLast := l.last.index
	if first <= oldLast {
		before, err := l.at(first - 1)
		if err != nil {
			return err
		}
		l.last = before
		l.synced = min(l.synced, before.index)
		l.cache.dropFrom(first)
	}
	var scratch [32]byte
	for _, e := range ents {
		key := keys.AppendRaftLog(scratch[:0], l.rangeID, e.GetIndex())
		n, end := entryRowLen(len(key), e.GetTerm(), l.last.end, e.GetData())
		k, row := b.SetDeferred(len(key), n)
		copy(k, key)
		putEntryRow(k, row, e.GetType(), e.GetTerm(), end, e.GetData())
		l.last = position{index: e.GetIndex(), term: e.GetTerm(), end: end}
		l.cache.add(cachedEntry{entry: e, end: end, size: uint64(len(key) + n)})
	}
	if l.last.index < oldLast {
		// The old tail is of a dead term. Left in place it would come back as
		// the end of the log after a restart.
		span := keys.RaftLogSpan(l.rangeID, l.last.index+1, oldLast+1)
		b.DeleteRange(span.Start, span.End)
	}
	return nil
}

// setHard writes the hard state into b if term or vote changed.
func (l *log) setHard(b engine.Batch, hs hardState) (written bool) {
	if hs.term == l.hard.term && hs.vote == l.hard.vote {
		return false
	}
	l.hard = hs
	b.Set(encodeHardState(l.rangeID, hs))
	return true
}

// setCommitted writes into b up to where the log is committed.
// REQUIRES: the log is written up to there.
func (l *log) setCommitted(b engine.Batch, index uint64) {
	l.hard.commit = max(l.hard.commit, index)
	b.Set(encodeHardState(l.rangeID, l.hard))
}

// setSynced says that the entries up to index can be read from the engine.
func (l *log) setSynced(index uint64) {
	l.synced = max(l.synced, min(index, l.last.index))
	l.cache.limit(l.cacheMax, l.synced)
}

// truncate cuts the log up to and including index.
// REQUIRES: index is applied.
func (l *log) truncate(b engine.Batch, index uint64) error {
	if index <= l.truncated.index {
		return nil
	}
	p, err := l.at(index)
	if err != nil {
		return err
	}
	span := keys.RaftLogSpan(l.rangeID, l.truncated.index+1, index+1)
	b.DeleteRange(span.Start, span.End)
	b.Set(encodeTruncated(l.rangeID, p))
	l.truncated = p
	l.cache.dropTo(index)
	return nil
}

// bytes is the size of the log's rows.
func (l *log) bytes() uint64 { return l.last.end - l.truncated.end }

// cutIndex returns the lowest index such that cutting the log there leaves at
// most keep bytes, by binary search over the rows' ends.
func (l *log) cutIndex(keep uint64) (uint64, error) {
	if l.bytes() <= keep {
		return l.truncated.index, nil // mostly; the search reads rows
	}
	lo, hi := l.truncated.index, l.last.index // the answer is in [lo, hi]
	for lo < hi {
		mid := lo + (hi-lo)/2
		p, err := l.at(mid)
		if err != nil {
			return 0, err
		}
		if l.last.end-p.end <= keep {
			hi = mid
		} else {
			lo = mid + 1
		}
	}
	return lo, nil
}

// at returns the position of an entry.
// REQUIRES: truncated.index <= index <= last.index.
func (l *log) at(index uint64) (position, error) {
	switch index {
	case l.truncated.index:
		return l.truncated, nil
	case l.last.index:
		return l.last, nil
	}
	if c, ok := l.cache.get(index); ok {
		return position{index: index, term: c.entry.GetTerm(), end: c.end}, nil
	}
	key := keys.RaftLog(l.rangeID, index)
	row, closer, err := l.reader.Get(key)
	if errors.Is(err, engine.ErrNotFound) {
		return position{}, l.fail(l.corrupt(index, "missing"))
	} else if err != nil {
		return position{}, l.fail(wrapRead(l.rangeID, index, err))
	}
	defer closer.Close()
	e, end, err := decodeEntryRow(key, row)
	if err != nil {
		return position{}, l.fail(l.corrupt(index, "%v", err))
	}
	return position{index: index, term: e.GetTerm(), end: end}, nil
}

// InitialState implements raft.Storage.
func (l *log) InitialState() (*raftpb.HardState, *raftpb.ConfState, error) {
	hs := l.hard
	return &raftpb.HardState{Term: &hs.term, Vote: &hs.vote, Commit: &hs.commit}, l.conf, nil
}

// FirstIndex implements raft.Storage.
func (l *log) FirstIndex() (uint64, error) { return l.truncated.index + 1, nil }

// LastIndex implements raft.Storage.
func (l *log) LastIndex() (uint64, error) { return l.last.index, nil }

// Term implements raft.Storage.
func (l *log) Term(index uint64) (uint64, error) {
	if index < l.truncated.index {
		return 0, raft.ErrCompacted
	}
	if index > l.last.index {
		return 0, raft.ErrUnavailable
	}
	p, err := l.at(index)
	return p.term, err
}

// Entries implements raft.Storage.
func (l *log) Entries(lo, hi, bytesMax uint64) ([]*raftpb.Entry, error) {
	if lo <= l.truncated.index {
		return nil, raft.ErrCompacted
	}
	if hi > l.last.index+1 {
		return nil, raft.ErrUnavailable
	}
	out := make([]*raftpb.Entry, 0, min(hi-lo, 1024))
	size := uint64(0)
	take := func(e *raftpb.Entry) (more bool) {
		size += uint64(len(e.GetData())) + entryOverhead
		if len(out) > 0 && size > bytesMax {
			return false
		}
		out = append(out, e)
		return true
	}
	if cut := min(hi, l.cacheFirst()); lo < cut {
		if err := l.scan(lo, cut, take); err != nil {
			return nil, err
		}
		if uint64(len(out)) < cut-lo {
			return out, nil
		}
	}
	for i := lo + uint64(len(out)); i < hi; i++ {
		c, ok := l.cache.get(i)
		if !ok {
			invariant.Must(false, "range %d: entry %d is not in the cache", l.rangeID, i)
		}
		if !take(c.entry) {
			break
		}
	}
	return out, nil
}

// cacheFirst is the index from which on all entries are in the cache.
func (l *log) cacheFirst() uint64 { return l.last.index + 1 - uint64(l.cache.len()) }

// Snapshot implements raft.Storage. The data of a range moves beside the log: what
// raft gets is only a sign, which Ready turns into a wish for its owner.
func (l *log) Snapshot() (*raftpb.Snapshot, error) {
	p, err := l.at(l.applied)
	if err != nil {
		return nil, err
	}
	return &raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{Index: &p.index, Term: &p.term, ConfState: l.conf}}, nil
}

// scan reads the entries in [lo, hi) from the engine until take says no.
func (l *log) scan(lo, hi uint64, take func(*raftpb.Entry) bool) error {
	next := lo
	err := scanRows(l.reader, l.rangeID, lo, hi, func(key, row []byte) (bool, error) {
		e, _, err := decodeEntryRow(key, append([]byte(nil), row...))
		if err != nil {
			return false, l.corrupt(next, "%v", err)
		}
		if e.GetIndex() != next {
			return false, l.corrupt(next, "missing")
		}
		next++
		if !take(e) {
			hi = next
			return false, nil
		}
		return true, nil
	})
	if err == nil && next < hi {
		err = l.corrupt(next, "missing")
	}
	if err != nil {
		return l.fail(err)
	}
	return nil
}

// scanRows calls fn for the rows of the log in [lo, hi), a zero hi being the
// end, until it returns false or an error.
func scanRows(r engine.Reader, rangeID metapb.RangeID, lo, hi uint64, fn func(key, row []byte) (bool, error)) (err error) {
	span := keys.RaftLogSpan(rangeID, lo, hi)
	it, err := r.NewIter(engine.IterOptions{Lower: span.Start, Upper: span.End})
	if err != nil {
		return wrapRead(rangeID, lo, err)
	}
	defer func() {
		if e := it.Close(); err == nil && e != nil {
			err = wrapRead(rangeID, lo, e)
		}
	}()
	more := it.First()
	for more {
		row, err := it.Value()
		if err != nil {
			return wrapRead(rangeID, lo, err)
		}
		if more, err = fn(it.Key(), row); err != nil {
			return err
		}
		more = more && it.Next()
	}
	if err := it.Error(); err != nil {
		return wrapRead(rangeID, lo, err)
	}
	return nil
}
