package peerpb

import "github.com/flotilladb/flotilla/proto/metapb"

// Hash asks a range's leader for the rows of the hash over the range's user keys of
// [Start, End), as mvcc.HashKeys shows them, page by page. Answered by *HashPage when the
// range is closed at the revision for the span; refused with mvcc.ErrCompacted where
// more is compacted than is said here.
type Hash struct {
	// Epoch is as in Close.
	Epoch               uint64
	Start, End          []byte
	Revision, Compacted metapb.Revision
	NoneLive            bool
	// Rows up to (AfterRevision, AfterSub) are not wanted.
	AfterRevision metapb.Revision
	AfterSub      uint32
}

// HashPage answers Hash.
type HashPage struct {
	Rows []HashRow
	// Next is where the next page begins; empty after the last.
	Next []byte
}

// HashRow stands for one version in a hash.
type HashRow struct {
	Revision metapb.Revision
	Sub      uint32
	CRC, Len uint32
}

func (*Hash) body() {}
