package peerpb

import (
	"bytes"

	"github.com/flotilladb/flotilla/proto/metapb"
)

// A node that has no replica of a span follows it at a store that has: the hub there
// sends what the span's ranges apply as soon as they are closed at it, in order of
// revision, and says how far they are closed when it is asked.
//
//	FeedAsk:  Begin ──> ... Wants, Taken ... ──> End
//	FeedNews:        Events, Through ...  or Over

// FeedAsk is what a hub asks of that of another store. Both come in order, or both
// stores hear that what was said may be lost, and every feed between them is over.
type FeedAsk struct {
	// Epoch is as in Close, for all revisions in here.
	Epoch uint64
	Begin []FeedBegin
	// End are feeds that are not wanted any more.
	End   []uint64
	Wants []FeedWant
	// TakenCount and TakenBytes are of what came and was taken since the last ask:
	// room for more.
	TakenCount, TakenBytes int
}

// FeedBegin asks for everything that happens to the user keys of [Start, End), an
// empty End being the end of the keyspace, above a revision.
type FeedBegin struct {
	// Feed is its name. A hub never uses one again.
	Feed       uint64
	Start, End []byte
	After      metapb.Revision
}

// FeedWant asks to hear when a feed is told up to a revision.
type FeedWant struct {
	Feed     uint64
	Revision metapb.Revision
}

// FeedNews is what a hub says of feeds that others follow.
type FeedNews struct {
	// Epoch is as in FeedAsk.
	Epoch   uint64
	Changes []FeedChange
	// Count and Bytes are what the asker gives back when it has taken this.
	Count, Bytes int
}

// FeedChange is the next of a feed.
type FeedChange struct {
	Feed uint64
	// Events are all above what was told before and not above Through, and perhaps the first
	// of the revision above it, of which the rest comes next.
	Events  []FeedEvent
	Through metapb.Revision
	// Over: the feed cannot go on here. If it is for what it wants next being
	// compacted, Compacted is the compacted revision.
	Over      bool
	Compacted metapb.Revision
}

// FeedEvent is one change of one key.
type FeedEvent struct {
	// Row is the key as it is since then, of a tombstone only its Key and ModRevision.
	Row       Row
	Sub       uint32
	Tombstone bool
	// Prev is the key before, nil if it was not there, is compacted, or was not asked
	// for.
	Prev *Row
}

// History asks a range's leader for what happened to the range's user keys of
// [Start, End) with a revision in (From, To], as mvcc.History reads it. Answered by
// *HistoryPage when the range is closed at To for the span.
type History struct {
	// Epoch is as in Close.
	Epoch      uint64
	Start, End []byte
	From, To   metapb.Revision
	BytesMax   int
	// Prev wants what each key was before.
	Prev bool
}

// HistoryPage answers History.
type HistoryPage struct {
	// Events are all with a revision in (From, Through], in order. If there are some though
	// Through is From, they are of one revision, which is too much for a page: all up to that
	// revision whose keys are not above theirs.
	Events  []FeedEvent
	Through metapb.Revision
	// Removed: versions at or below this revision may be gone.
	Removed metapb.Revision
}

// Add adds the page that was read next, above from. A key is where to go on if the page does
// not have all keys that it was to have.
func (p *HistoryPage) Add(page *HistoryPage, from metapb.Revision) (next []byte) {
	p.Events = append(p.Events, page.Events...)
	p.Through, p.Removed = page.Through, max(p.Removed, page.Removed)
	if page.Through > from || len(page.Events) == 0 {
		return nil
	}
	p.Through = metapb.Revision(page.Events[0].Row.ModRevision)
	for i := range page.Events {
		if key := page.Events[i].Row.Key; bytes.Compare(key, next) > 0 {
			next = key
		}
	}
	return append(bytes.Clone(next), 0)
}

func (*History) body() {}
