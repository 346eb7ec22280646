package metapb

import "fmt"

// Format numbers what entries, frames and system rows may hold. The cluster's is a row of
// the system range: the highest that all members read, raised when the last of them has
// been upgraded and never lowered. Nobody writes what only a higher one allows.
type Format uint64

const (
	// FormatFirst is that of a cluster which has no row. Whatever is in no Feature, moves
	// among it, every version knows that can be in a cluster of several nodes.
	FormatFirst Format = 1
	// FormatNewest is what this version writes once all members do, and reads.
	FormatNewest Format = 2
)

// Feature is something that older versions do not know.
type Feature int

const (
	// Checks are entries that have replicas compared.
	Checks Feature = iota + 1
	// CorruptReplicas are rows and alarms of those that were found to differ.
	CorruptReplicas
	// RemoteFeeds are watches of ranges that a node has no replica of.
	RemoteFeeds
	// Detours are asks to the sequencer that a third store passes on.
	Detours
	// LeavingMembers are members that lose their replicas before they are removed.
	LeavingMembers
	// LeaseSpans are revokes whose intents name the lease and not its keys.
	LeaseSpans
)

// Features are all of them, in order.
func Features() []Feature {
	return []Feature{Checks, CorruptReplicas, RemoteFeeds, Detours, LeavingMembers, LeaseSpans}
}

// Since is the first format that has a feature.
func (f Feature) Since() Format {
	switch f {
	case Checks, CorruptReplicas, RemoteFeeds, Detours, LeavingMembers, LeaseSpans:
		return 2
	}
	return FormatNewest + 1
}

// Has reports whether a format has a feature.
func (f Format) Has(x Feature) bool { return f >= x.Since() }

// String names a feature as operators read it.
func (f Feature) String() string {
	switch f {
	case Checks:
		return "consistency checks"
	case CorruptReplicas:
		return "replacing corrupt replicas"
	case RemoteFeeds:
		return "watches on nodes without a replica"
	case Detours:
		return "asking the sequencer through another store"
	case LeavingMembers:
		return "removing one of the last two members"
	case LeaseSpans:
		return "revoking leases with very many keys"
	}
	return fmt.Sprintf("feature %d", int(f))
}
