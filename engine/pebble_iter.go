package engine

import (
	"math"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/cockroachkvs"
)

// pebbleIter is Pebble's iterator with our errors. The shells are used again;
// Pebble does the same with its own.
type pebbleIter struct {
	e       *Pebble
	it      *pebble.Iterator
	opts    pebble.IterOptions
	filters [1]pebble.BlockPropertyFilter
}

func (e *Pebble) takeIter(opts IterOptions) *pebbleIter {
	it, ok := e.iters.Get().(*pebbleIter)
	if !ok {
		it = &pebbleIter{e: e}
	}
	it.opts = pebble.IterOptions{
		LowerBound: opts.Lower,
		UpperBound: opts.Upper,
		// Without Point the lowest level's filters, the biggest, stay unread.
		UseL6Filters: opts.Point,
	}
	if opts.MinRevision != 0 || opts.MaxRevision != 0 {
		top := uint64(opts.MaxRevision)
		if top == 0 {
			top = math.MaxUint64 - 1
		}
		it.filters[0] = cockroachkvs.NewMVCCTimeIntervalFilter(uint64(opts.MinRevision), top)
		it.opts.PointKeyFilters = it.filters[:]
	}
	return it
}

// opened returns the iterator, or gives it back if Pebble made none.
func (it *pebbleIter) opened(err error) (Iterator, error) {
	if err != nil {
		it.give()
		return nil, readErr(err)
	}
	return it, nil
}

func (it *pebbleIter) give() {
	e := it.e
	*it = pebbleIter{e: e}
	e.iters.Put(it)
}

func (it *pebbleIter) First() bool                  { return it.it.First() }
func (it *pebbleIter) Last() bool                   { return it.it.Last() }
func (it *pebbleIter) SeekGE(key []byte) bool       { return it.it.SeekGE(key) }
func (it *pebbleIter) SeekLT(key []byte) bool       { return it.it.SeekLT(key) }
func (it *pebbleIter) SeekPrefixGE(key []byte) bool { return it.it.SeekPrefixGE(key) }
func (it *pebbleIter) Next() bool                   { return it.it.Next() }
func (it *pebbleIter) Prev() bool                   { return it.it.Prev() }
func (it *pebbleIter) NextPrefix() bool             { return it.it.NextPrefix() }
func (it *pebbleIter) Valid() bool                  { return it.it.Valid() }
func (it *pebbleIter) Key() []byte                  { return it.it.Key() }
func (it *pebbleIter) Error() error                 { return readErr(it.it.Error()) }

func (it *pebbleIter) Value() ([]byte, error) {
	v, err := it.it.ValueAndErr()
	if err != nil {
		return nil, readErr(err)
	}
	return v, nil
}

func (it *pebbleIter) Close() error {
	err := it.it.Close()
	it.give()
	return readErr(err)
}
