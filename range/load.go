package ranges

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/proto/metapb"
)

// loader reads what replicas are loaded from, of one after the other by id. A store of
// ten thousand has their local rows between as many logs, whose entries may be large: it
// goes through them once, and reads of each log no more than the end. To everything else
// it is the engine's reader.
type loader struct {
	engine.Reader
	it engine.Iterator // over all local rows
	at metapb.RangeID  // whose rows are held; 0: none yet
	// rows are those of at up to the last that every replica has, by kind; nil: there is none.
	rows [keys.LocalConfState + 1][]byte
}

func newLoader(r engine.Reader) (*loader, error) {
	table := keys.LocalTable()
	it, err := r.NewIter(engine.IterOptions{Lower: table.Start, Upper: table.End})
	if err != nil {
		return nil, err
	}
	return &loader{Reader: r, it: it}, nil
}

func (l *loader) close() error { return l.it.Close() }

// next goes on to the next replica that has a descriptor. Nil: there is none.
func (l *loader) next() (*metapb.Descriptor, error) {
	for {
		ok, err := l.nextRows()
		if !ok || err != nil {
			return nil, err
		}
		raw := l.rows[keys.LocalDescriptor]
		if raw == nil {
			continue // of a replica that is gone
		}
		d := &metapb.Descriptor{}
		if err := d.UnmarshalVT(raw); err != nil {
			return nil, fmt.Errorf("descriptor of range %d: %w", l.at, err)
		}
		return d, d.Validate()
	}
}

// nextRows goes on to the next range of which there are rows.
func (l *loader) nextRows() (found bool, err error) {
	l.rows = [keys.LocalConfState + 1][]byte{}
	ok := l.it.SeekGE(keys.NextReplica(l.at))
	for ; ok; ok = l.it.Next() {
		id, kind, _, err := keys.DecodeLocal(l.it.Key())
		if err != nil {
			return false, err
		}
		if !found {
			found, l.at = true, id
		}
		if id != l.at || kind > keys.LocalConfState {
			break
		}
		raw, err := l.it.Value()
		if err != nil {
			return false, err
		}
		if l.rows[kind] = append([]byte{}, raw...); kind == keys.LocalConfState {
			break // behind it are the entries of the log, and rarely one more row
		}
	}
	return found, l.it.Error()
}

// Get implements engine.Reader.
func (l *loader) Get(key []byte) ([]byte, io.Closer, error) {
	id, kind, _, err := keys.DecodeLocal(key)
	if err != nil || id != l.at || kind > keys.LocalConfState {
		return l.Reader.Get(key)
	}
	if l.rows[kind] == nil {
		return nil, nil, engine.ErrNotFound
	}
	return l.rows[kind], io.NopCloser(nil), nil
}

// NewIter implements engine.Reader. Within the rows of the replica it lends the one
// iterator, to one user at a time.
func (l *loader) NewIter(opts engine.IterOptions) (engine.Iterator, error) {
	local := keys.LocalSpan(l.at)
	if bytes.Compare(opts.Lower, local.Start) < 0 || len(opts.Upper) == 0 || bytes.Compare(opts.Upper, local.End) > 0 {
		return l.Reader.NewIter(opts)
	}
	return &lentIter{Iterator: l.it, lower: opts.Lower, upper: opts.Upper}, nil
}

// lentIter keeps the user of another's iterator to bounds, and does not close it.
type lentIter struct {
	engine.Iterator
	lower, upper []byte
	valid        bool
}

// in reports whether the iterator, if ok, is within the bounds.
func (it *lentIter) in(ok bool) bool {
	it.valid = ok && bytes.Compare(it.Key(), it.lower) >= 0 && bytes.Compare(it.Key(), it.upper) < 0
	return it.valid
}

func (it *lentIter) lift(key []byte) []byte {
	if bytes.Compare(key, it.lower) < 0 {
		return it.lower
	}
	return key
}

func (it *lentIter) First() bool                  { return it.in(it.Iterator.SeekGE(it.lower)) }
func (it *lentIter) Last() bool                   { return it.in(it.Iterator.SeekLT(it.upper)) }
func (it *lentIter) SeekGE(key []byte) bool       { return it.in(it.Iterator.SeekGE(it.lift(key))) }
func (it *lentIter) SeekPrefixGE(key []byte) bool { return it.in(it.Iterator.SeekPrefixGE(key)) }
func (it *lentIter) Next() bool                   { return it.in(it.Iterator.Next()) }
func (it *lentIter) Prev() bool                   { return it.in(it.Iterator.Prev()) }
func (it *lentIter) NextPrefix() bool             { return it.in(it.Iterator.NextPrefix()) }
func (it *lentIter) Valid() bool                  { return it.valid }
func (it *lentIter) Close() error                 { return it.Error() }
func (it *lentIter) SeekLT(key []byte) bool {
	if bytes.Compare(key, it.upper) > 0 {
		key = it.upper
	}
	return it.in(it.Iterator.SeekLT(key))
}

// loadAll makes the replicas that the engine holds.
func (s *Store) loadAll() (err error) {
	l, err := newLoader(s.cfg.Reader)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.close()) }()
	for {
		d, err := l.next()
		switch {
		case d == nil || err != nil:
			return err
		case d.ReplicaOn(s.cfg.StoreID) == nil:
			// It was taken out, or its span given up, and that its rows go did not become
			// durable.
			s.wipe(d, max(metapb.ReplicaID(d.NextReplicaId), s.lowest(d.ID())))
		default:
			if err := s.load(d, nil, l); err != nil {
				return err
			}
		}
	}
}
