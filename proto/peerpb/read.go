package peerpb

import "github.com/flotilladb/flotilla/proto/metapb"

// Read asks a range's leader for what the range's keys of a span were at a revision,
// page by page, for a node that has no replica to read. Answered by *ReadPage when
// the range is closed at the revision for the span; refused with mvcc.ErrCompacted
// if the revision may be removed by then.
type Read struct {
	Revision metapb.Revision
	// Epoch is as in Close.
	Epoch uint64
	// Start and End are user keys inside the range; an empty End is the end of the
	// keyspace.
	Start, End []byte
	// LimitRows and BytesMax end the page as they do in package mvcc; the range may
	// end it sooner.
	LimitRows int64
	BytesMax  int
	// KeysOnly leaves out values and leases. With CountOnly the page has no rows.
	KeysOnly, CountOnly bool
}

// ReadPage answers Read.
type ReadPage struct {
	Rows []Row
	// Count is how many rows there are in the page, also if they are left out.
	Count int64
	// Next is where the next page begins; empty after the last.
	Next []byte
}

func (*Read) body() {}
