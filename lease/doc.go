// Package lease keeps client leases: promises that keys live only while their
// owner keeps calling.
//
// Table and Index are replicated: every replica builds them from the rows that
// its log wrote. Table has the records at the lease addresses of a range, the
// *home* of those leases; Index has, for a range of client keys, which of them
// hang on which lease. The two are often on different ranges.
//
// Expirer is not replicated: only a leader has one, and it only ever *asks* for
// a revoke. It knows deadlines, which are nowhere else: a renewal writes
// nothing. So a change of leader can make a key live longer, never die early.
//
//	granted ──> live ──deadline──> due ──paced──> revoking ──applied──> gone
//	             ^  │                ^               │
//	             └──┘ renewed        └── backoff <───┘ failed
//
// From its deadline on a lease is never renewed again, whether a revoke is under
// way or not: two clients must not see it dead and alive in turn.
//
// Deadlines lie in cells that the goroutines of clients' streams share with the
// expirer (Renewals): a renewal that has nothing to decide asks nobody.
//
// A checkpoint writes what remained of a long lease into its record, so that the
// next leader does not begin anew. It is what a renewal would make wrong: a
// leader that believed it would let the lease die early. So while a record may
// hold a checkpoint, a renewal first has it cleared (ErrCheckpointed), and only
// then counts.
//
// Nothing here stalls its caller for long with a million leases: Begin and Tick
// work in bounded portions, a renewal costs one look into a map, and a split
// clones trees lazily and sweeps them portion by portion.
package lease
