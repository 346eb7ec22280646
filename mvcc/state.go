package mvcc

import (
	"bytes"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/proto/peerpb"
)

// Row is one live version of one key.
type Row = peerpb.Row

// State is what a request is evaluated against. Spans are user keys; an empty
// end is the end of the keyspace. at is Latest or an older revision; a read at
// an older revision sees what was written at or below it.
type State interface {
	// Get returns the live version of a key. The row's bytes are valid until the
	// next call.
	Get(key []byte, at Revision) (row Row, ok bool, err error)
	// Scan calls fn for every live key of [start, end) in key order until fn
	// returns false. The row is valid until fn returns. fn may call Get but not
	// Scan.
	Scan(start, end []byte, at Revision, fn func(row *Row) bool) error
}

// EngineState is the state that the engine held when the first read was made.
// It opens one iterator for points and one for spans and uses them for all
// reads, so it serves one batch: it must be made after the last apply and
// closed after the batch.
type EngineState struct {
	reader engine.Reader
	bounds keys.Span
	pin    Revision // reads above it read at it
	// DeadMax bounds the dead keys that one scan steps over: then it ends with a
	// PauseError, and may be begun anew at its key. 0: no bound.
	DeadMax int
	dead    int
	point   engine.Iterator
	scan    engine.Iterator
	seek    []byte
}

// NewEngineState returns a state of the user keys of [start, end), an empty end
// being the end of the keyspace. Reads of other keys are errors.
func NewEngineState(r engine.Reader, start, end []byte) *EngineState {
	return NewEngineStateAt(r, start, end, Latest)
}

// NewEngineStateAt returns the state as it was at a revision: for reads, and for
// transactions that change nothing. REQUIRES: the keys are closed at rev.
func NewEngineStateAt(r engine.Reader, start, end []byte, rev Revision) *EngineState {
	return &EngineState{reader: r, bounds: keys.VersionSpan(start, end), pin: rev}
}

// Open opens the iterator for points now, so that the state is that of this
// moment.
func (s *EngineState) Open() (err error) {
	if s.point == nil {
		s.point, err = s.reader.NewIter(engine.IterOptions{Lower: s.bounds.Start, Upper: s.bounds.End, Point: true})
	}
	return err
}

// Close gives the iterators back.
func (s *EngineState) Close() (err error) {
	for _, it := range []engine.Iterator{s.point, s.scan} {
		if it != nil {
			if e := it.Close(); err == nil {
				err = e
			}
		}
	}
	s.point, s.scan = nil, nil
	return err
}

// Dead returns how many dead keys scans stepped over since the last call.
func (s *EngineState) Dead() int {
	n := s.dead
	s.dead = 0
	return n
}

// Get implements State.
func (s *EngineState) Get(key []byte, at Revision) (Row, bool, error) {
	if s.point == nil {
		if err := s.Open(); err != nil {
			return Row{}, false, err
		}
	}
	s.seek = keys.AppendVersion(s.seek[:0], key, min(at, s.pin), keys.SubMax)
	if !s.point.SeekPrefixGE(s.seek) {
		return Row{}, false, s.point.Error()
	}
	user, rev, _, err := keys.DecodeVersion(s.point.Key())
	if err != nil {
		return Row{}, false, err
	}
	if !bytes.Equal(user, key) {
		return Row{}, false, nil
	}
	v, err := valueAt(s.point)
	if err != nil || v.Tombstone {
		return Row{}, false, err
	}
	return rowOf(user, rev, &v), true, nil
}

// Scan implements State.
func (s *EngineState) Scan(start, end []byte, at Revision, fn func(row *Row) bool) error {
	if at <= 0 || emptySpan(start, end) {
		return nil
	}
	if s.scan == nil {
		it, err := s.reader.NewIter(engine.IterOptions{Lower: s.bounds.Start, Upper: s.bounds.End})
		if err != nil {
			return err
		}
		s.scan = it
	}
	live := liveIter{it: s.scan, at: min(at, s.pin), end: end, buf: s.seek, deadMax: s.DeadMax}
	defer func() { s.seek, s.dead = live.buf, s.dead+live.dead }()
	for ok := live.seek(start); ok; ok = live.next() {
		if !fn(&live.row) {
			return nil
		}
	}
	return live.err
}

// emptySpan reports whether [start, end) holds nothing.
func emptySpan(start, end []byte) bool {
	return len(end) != 0 && bytes.Compare(start, end) >= 0
}

func rowOf(user []byte, rev Revision, v *Value) Row {
	return Row{
		Key: user, Value: v.Raw,
		CreateRevision: int64(v.Create), ModRevision: int64(rev), Version: v.Version, Lease: v.Lease,
	}
}

// valueAt decodes the value under an iterator.
func valueAt(it engine.Iterator) (Value, error) {
	raw, err := it.Value()
	if err != nil {
		return Value{}, err
	}
	v, err := DecodeValue(raw)
	if err != nil {
		return Value{}, corruptAt(err, it.Key())
	}
	return v, nil
}

// corruptAt adds the key of the row to an error of DecodeValue.
func corruptAt(err error, key []byte) error {
	if c, ok := err.(*CorruptError); ok {
		c.Key = bytes.Clone(key)
	}
	return err
}
