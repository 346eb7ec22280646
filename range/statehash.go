package ranges

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"hash"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/mvcc"
	"github.com/flotilladb/flotilla/proto/metapb"
)

// StateHash hashes what a replica has, in steps. Two replicas at one index have the
// same hash unless one of them is corrupt: it leaves out what is local to a store,
// which is raft's state and old versions that a compaction let go. It is not safe for
// concurrent use, but may be used beside its store. It holds a view of the engine
// until it is closed.
type StateHash struct {
	view      engine.View
	spans     []engine.Span
	compacted Revision

	sum   hash.Hash
	table int // of spans
	it    engine.Iterator
	ready bool // it stands on a row that was not hashed
	// user is the key whose versions it is at; kept: the one that a read at compacted
	// sees was met.
	user []byte
	kept bool
	buf  []byte
	err  error
}

// newStateHash begins the hash of a range in a view.
func newStateHash(view engine.View, d *metapb.Descriptor, compacted Revision) *StateHash {
	x := &StateHash{view: view, spans: keys.Tables(d.Span()), compacted: compacted, sum: sha256.New()}
	desc, err := d.MarshalVT()
	x.err = err
	x.add(desc)
	return x
}

// add hashes bytes so that their end is seen.
func (x *StateHash) add(b []byte) {
	x.buf = binary.AppendUvarint(x.buf[:0], uint64(len(b)))
	x.sum.Write(x.buf)
	x.sum.Write(b)
}

// Step hashes about as many bytes of rows as are given, and returns how many it read;
// done says that these were the last. An error is of the engine: see Unreadable.
func (x *StateHash) Step(bytesMax int) (read int, done bool, err error) {
	for x.err == nil && x.table < len(x.spans) && read < bytesMax {
		var n int
		n, x.err = x.row()
		read += n
	}
	return read, x.table == len(x.spans), x.err
}

// Sum returns the hash. REQUIRES: Step was done.
func (x *StateHash) Sum() []byte { return x.sum.Sum(nil) }

// Close gives the view back. It may be called again.
func (x *StateHash) Close() error {
	var err error
	if x.it != nil {
		err = x.it.Close()
		x.it = nil
	}
	if x.view != nil {
		err = errors.Join(err, x.view.Close())
		x.view = nil
	}
	return err
}

// row takes the next row.
func (x *StateHash) row() (read int, err error) {
	if x.it == nil {
		sp := x.spans[x.table]
		if x.it, err = x.view.NewIter(engine.IterOptions{Lower: sp.Start, Upper: sp.End}); err != nil {
			return 0, err
		}
		x.user, x.kept = nil, false
		x.ready = x.it.First()
	}
	if !x.ready {
		if err := x.it.Error(); err != nil {
			return 0, err
		}
		it := x.it
		x.it = nil
		x.table++
		return 0, it.Close()
	}
	value, err := x.it.Value()
	if err != nil {
		return 0, err
	}
	read = len(x.it.Key()) + len(value)
	if !keys.IsVersion(x.it.Key()) {
		x.add(x.it.Key())
		x.add(value)
		x.ready = x.it.Next()
		return read, nil
	}
	return read, x.version(value)
}

// version takes a version of a client's key. Of those at or below the compacted
// revision only the newest counts, and not if it is a tombstone: one at that revision
// itself is removed a compaction later, so it may be there or not.
func (x *StateHash) version(value []byte) error {
	user, rev, sub, err := keys.DecodeVersion(x.it.Key())
	if err != nil {
		return err
	}
	if x.user == nil || !bytes.Equal(user, x.user) {
		x.user, x.kept = append(x.user[:0], user...), false
		if x.user == nil {
			x.user = []byte{}
		}
	}
	v, err := mvcc.DecodeValue(value)
	if err != nil {
		return err
	}
	old := rev <= x.compacted
	if !old || !x.kept && !v.Tombstone {
		x.add(user)
		x.buf = binary.BigEndian.AppendUint64(x.buf[:0], uint64(rev))
		x.buf = binary.BigEndian.AppendUint32(x.buf, sub)
		x.sum.Write(x.buf)
		x.add(value)
	}
	if old {
		x.kept = true
		x.ready = x.it.NextPrefix()
		return nil
	}
	x.ready = x.it.Next()
	return nil
}

// Unreadable reports whether an error says that bytes on the disk are not what was
// written.
func Unreadable(err error) bool {
	var damaged *engine.CorruptionError
	var key *keys.KeyError
	return errors.As(err, &damaged) || errors.As(err, &key) || errors.Is(err, mvcc.ErrCorrupt)
}
