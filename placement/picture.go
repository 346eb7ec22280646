package placement

import (
	"errors"
	"slices"
	"time"

	"github.com/flotilladb/flotilla/proto/metapb"
)

// Picture is the cluster as a planner sees it. It may be late and wrong: whatever
// is planned from it is safe, since a range changes only through its own log.
type Picture struct {
	Stores []StoreState // by id
	Ranges []RangeState // by id
}

// StoreHealth says whether a store can be counted on.
type StoreHealth uint8

// The healths of a store.
const (
	// Live stores were heard of a moment ago.
	Live StoreHealth = iota
	// Away ones were not: they get nothing new, and lose nothing yet.
	Away
	// Lost ones have been away for so long that their replicas are made anew.
	Lost
)

// StoreState is a store in a Picture.
type StoreState struct {
	ID     metapb.StoreID
	Node   metapb.NodeID
	Health StoreHealth
	// Leaving: it is to have no replicas.
	Leaving bool
	// Removed: its node is no member any more, and may end at any time.
	Removed bool
	// Zone is what fails together; empty: nothing is known of it.
	Zone string
}

// takes reports whether the store may get replicas and leaders.
func (s *StoreState) takes() bool { return s.Health == Live && !s.Leaving }

// RangeState is a range in a Picture.
type RangeState struct {
	Descriptor *metapb.Descriptor
	Leader     metapb.StoreID // 0: not known
	// Busy: an operator is at work on it.
	Busy bool
	// Corrupt are stores whose replica is of no use.
	Corrupt []metapb.StoreID
}

// corrupt reports whether a store's replica is of no use.
func (r *RangeState) corrupt(store metapb.StoreID) bool { return slices.Contains(r.Corrupt, store) }

// OperatorID names an operator: there is one for a range at a time, and each that
// does something ends at another generation.
type OperatorID struct {
	Range      metapb.RangeID
	Generation uint64
}

// Operator is a plan for one range: a Move, or a transfer of its leader.
type Operator struct {
	ID OperatorID
	// Move is what is to be done; nothing if TransferTo is set.
	Move Move
	// TransferTo is the store that is to lead.
	TransferTo metapb.StoreID
	// Why is for people.
	Why string
}

// Limits are the rules of a planner. Zeros take their defaults.
type Limits struct {
	// Factor is how many replicas a range has when there are stores enough. Default 3.
	Factor int
	// SystemFactor is the same of the system range, if that is more. Without it nothing is
	// written, so where there are five stores it is to survive the loss of two. Default 5.
	SystemFactor int
	// LostAfter is how long a store is away until its replicas are made anew. Default
	// 5 minutes.
	LostAfter time.Duration
	// SlackPercent is by how much of the mean a store may differ before its replicas,
	// or leaders, are moved for balance. Default 5.
	SlackPercent int
	// MovesMax bounds the operators at work, StoreMovesMax those that move replicas to one
	// store, or from it. Default 64 and 2.
	MovesMax, StoreMovesMax int
	// TransfersMax bounds the transfers of one plan. Default 4096.
	TransfersMax int
}

// Validate fills in the defaults and reports what cannot work.
func (l *Limits) Validate() error {
	for _, d := range []struct{ v, d *int }{
		{&l.Factor, ptr(3)}, {&l.SystemFactor, ptr(5)}, {&l.SlackPercent, ptr(5)}, {&l.MovesMax, ptr(64)}, {&l.StoreMovesMax, ptr(2)}, {&l.TransfersMax, ptr(4096)},
	} {
		if *d.v == 0 {
			*d.v = *d.d
		}
		if *d.v < 0 {
			return errors.New("planner: a limit is negative")
		}
	}
	if l.LostAfter == 0 {
		l.LostAfter = 5 * time.Minute
	}
	return nil
}

func ptr(n int) *int { return &n }
