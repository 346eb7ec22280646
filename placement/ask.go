package placement

import "github.com/flotilladb/flotilla/proto/metapb"

// AskName says whose request an answer is for. Two asks never share a name, so
// an answer that comes late or twice fits nothing else.
type AskName struct {
	Store      metapb.StoreID
	StoreStart uint64         // which start of the store
	Range      metapb.RangeID // zero: a coordinator of transactions, or a read
	Term       uint64         // the range's raft term
	Number     uint64         // counted by who asks
}

// Ask wants revisions from the sequencer.
type Ask struct {
	Name AskName
	// N is how many revisions are wanted; zero asks only for Current.
	N int64
	// Seq is the ask's place in its store's path to the sequencer, counted from
	// one. Zero is for a store that shares its loop with the sequencer: such an
	// answer cannot be lost, so it is not kept to be repeated.
	Seq uint64
	// Epoch is the newest that the asker has seen.
	Epoch uint64
}

// Answer is the sequencer's word on one ask. It counts only if the sequencer's
// leaderLease was checked after the answer was computed.
type Answer struct {
	Name AskName
	// Seq is the ask's.
	Seq uint64
	// First is the first of N consecutive revisions; with N = 0 it is Current.
	First metapb.Revision
	N     int64
	// Epoch is the sequencer's. Who has seen a newer one refuses the answer.
	Epoch uint64
	// Compacted is the compacted revision, -1 if nothing was ever compacted.
	Compacted metapb.Revision
	// Err is set instead of all but Name if the ask was refused.
	Err error
}
