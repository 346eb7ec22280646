package model

import (
	"fmt"
	"math"
	"sort"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"
)

// WatchRecord is what a client was given by a watch, or by a row of watches of
// which each went on where the one before had come to.
type WatchRecord struct {
	// Watch is what it asked for. A watch from now on starts behind the revision
	// in the header of its creation.
	Watch     Watch
	Responses []WatchResponse // as they came; fragments are put together
	// Complete is a revision up to which all must have come by the end, or 0.
	Complete int64
}

// WatchResponse is one response.
type WatchResponse struct {
	Events []*mvccpb.Event
	// Bookmark is a revision from which the response allows to resume, itself
	// excluded, or 0.
	Bookmark int64
	// Compacted is what was compacted at most when it was made, or 0: pairs below
	// may be missing.
	Compacted int64
}

// WatchCheck holds a record against what happened, in a state in which nothing
// was forgotten.
type WatchCheck func(s *State, r *WatchRecord) error

// WatchChecks are the promises of a watch, each by its name in etcd's own tests.
func WatchChecks() map[string]WatchCheck {
	return map[string]WatchCheck{
		"filter": checkFilter, "ordered": checkOrdered, "unique": checkUnique, "atomic": checkAtomic,
		"bookmarkable": checkBookmarkable, "resumable": checkResumable, "reliable": checkReliable,
		"is-create": checkIsCreate, "prev-kv": checkPrevKV,
	}
}

// CheckWatch returns the first promise that a record breaks, or nil.
func CheckWatch(s *State, r *WatchRecord) error {
	checks := WatchChecks()
	for _, name := range []string{
		"filter", "ordered", "unique", "atomic", "bookmarkable", "resumable", "reliable", "is-create", "prev-kv",
	} {
		if err := checks[name](s, r); err != nil {
			return fmt.Errorf("watch of %q to %q from %d is not %s: %w", r.Watch.Key, r.Watch.End, r.Watch.Start, name, err)
		}
	}
	return nil
}

func (r *WatchRecord) events() []*mvccpb.Event {
	var all []*mvccpb.Event
	for i := range r.Responses {
		all = append(all, r.Responses[i].Events...)
	}
	return all
}

// known is the last revision of which the client knows that it has all.
func (r *WatchRecord) known() int64 {
	last := r.Complete
	for i := range r.Responses {
		last = max(last, r.Responses[i].Bookmark)
		for _, e := range r.Responses[i].Events {
			last = max(last, e.Kv.ModRevision)
		}
	}
	return last
}

// wanted are the events that the watch must see up to a revision. Of a key that
// one revision changed more than once, a compaction at that revision leaves the
// last change only, whether the watch asked for changes of that kind or not: if
// the others did not come, they need not have.
func (r *WatchRecord) wanted(s *State, upTo int64) []*mvccpb.Event {
	unfiltered := r.Watch
	unfiltered.NoPut, unfiltered.NoDelete = false, false
	all := s.WatchEvents(unfiltered, r.Watch.Start, upTo)
	compacted := int64(0)
	for i := range r.Responses {
		compacted = max(compacted, r.Responses[i].Compacted)
	}
	var came map[eventName]int
	kept := all[:0:0]
	for i, e := range all {
		if !r.Watch.Wants(e.Type, e.Kv.Key) {
			continue
		}
		if e.Kv.ModRevision <= compacted && changedAgain(all[i:]) {
			if came == nil {
				came = make(map[eventName]int)
				for _, e := range r.events() {
					came[nameOf(e)]++
				}
				for i, e := range all { // what must have come is not what need not have
					if r.Watch.Wants(e.Type, e.Kv.Key) && !changedAgain(all[i:]) {
						came[nameOf(e)]--
					}
				}
			}
			if came[nameOf(e)]--; came[nameOf(e)] < 0 {
				continue
			}
		}
		kept = append(kept, e)
	}
	return kept
}

// changedAgain reports whether the first event's key has another in its revision.
func changedAgain(events []*mvccpb.Event) bool {
	for _, e := range events[1:] {
		if e.Kv.ModRevision != events[0].Kv.ModRevision {
			return false
		}
		if string(e.Kv.Key) == string(events[0].Kv.Key) {
			return true
		}
	}
	return false
}

// eventName tells events apart. A key may change more than once in a revision.
type eventName struct {
	rev  int64
	key  string
	kind mvccpb.Event_EventType
}

func nameOf(e *mvccpb.Event) eventName { return eventName{e.Kv.ModRevision, string(e.Kv.Key), e.Type} }

func (n eventName) String() string { return fmt.Sprintf("%s of %q at %d", n.kind, n.key, n.rev) }

// checkFilter: nothing comes that was not asked for.
func checkFilter(_ *State, r *WatchRecord) error {
	for _, e := range r.events() {
		if !r.Watch.Wants(e.Type, e.Kv.Key) {
			return fmt.Errorf("%s came", nameOf(e))
		}
	}
	return nil
}

// checkOrdered: revisions do not fall, and within one the order is that in which
// the changes were made.
func checkOrdered(s *State, r *WatchRecord) error {
	got := r.events()
	for i := 1; i < len(got); i++ {
		if got[i].Kv.ModRevision < got[i-1].Kv.ModRevision {
			return fmt.Errorf("%s came after %s", nameOf(got[i]), nameOf(got[i-1]))
		}
	}
	place := make(map[eventName]int)
	for i, e := range r.wanted(s, math.MaxInt64) {
		if _, again := place[nameOf(e)]; again {
			i = -1 // it happened twice in one revision, and may come in either place
		}
		place[nameOf(e)] = i
	}
	for i := 1; i < len(got); i++ {
		before, known := place[nameOf(got[i-1])]
		at, happened := place[nameOf(got[i])]
		if known && happened && at >= 0 && at < before {
			return fmt.Errorf("%s came after %s", nameOf(got[i]), nameOf(got[i-1]))
		}
	}
	return nil
}

// checkUnique: nothing comes twice that did not happen twice.
func checkUnique(s *State, r *WatchRecord) error {
	happened := make(map[eventName]int)
	for _, e := range r.wanted(s, math.MaxInt64) {
		happened[nameOf(e)]++
	}
	came := make(map[eventName]int)
	for _, e := range r.events() {
		n := nameOf(e)
		if came[n]++; came[n] > max(1, happened[n]) {
			return fmt.Errorf("%s came %d times", n, came[n])
		}
	}
	return nil
}

// checkAtomic: a revision comes whole, and in one response.
func checkAtomic(s *State, r *WatchRecord) error {
	whole := make(map[int64]int)
	for _, e := range r.wanted(s, r.known()) {
		whole[e.Kv.ModRevision]++
	}
	seen := make(map[int64]bool)
	for i := range r.Responses {
		part := make(map[int64]int)
		for _, e := range r.Responses[i].Events {
			part[e.Kv.ModRevision]++
		}
		for _, e := range r.Responses[i].Events {
			rev := e.Kv.ModRevision
			if seen[rev] {
				return fmt.Errorf("revision %d is split over responses", rev)
			}
			if part[rev] < whole[rev] {
				return fmt.Errorf("%d of %d events of revision %d came together", part[rev], whole[rev], rev)
			}
		}
		for rev := range part {
			seen[rev] = true
		}
	}
	return nil
}

// checkBookmarkable: when it says that it has come to a revision, it has.
func checkBookmarkable(s *State, r *WatchRecord) error {
	want := r.wanted(s, r.known())
	mark, came := int64(0), 0
	for i := range r.Responses {
		for _, e := range r.Responses[i].Events {
			if e.Kv.ModRevision <= mark {
				return fmt.Errorf("%s came after the bookmark %d", nameOf(e), mark)
			}
			came++
		}
		if r.Responses[i].Bookmark == 0 {
			continue
		}
		if r.Responses[i].Bookmark < mark {
			return fmt.Errorf("bookmark %d came after bookmark %d", r.Responses[i].Bookmark, mark)
		}
		mark = r.Responses[i].Bookmark
		due := sort.Search(len(want), func(i int) bool { return want[i].Kv.ModRevision > mark })
		if came < due {
			return fmt.Errorf("bookmark %d came with %d of %d events", mark, came, due)
		}
	}
	return nil
}

// checkResumable: it begins with the first event at or after its start.
func checkResumable(s *State, r *WatchRecord) error {
	got := r.events()
	for _, e := range got {
		if e.Kv.ModRevision < r.Watch.Start {
			return fmt.Errorf("%s came", nameOf(e))
		}
	}
	want := r.wanted(s, r.known())
	switch {
	case len(want) == 0:
		return nil
	case len(got) == 0:
		return fmt.Errorf("nothing came, but %s happened", nameOf(want[0]))
	case nameOf(got[0]) != nameOf(want[0]):
		return fmt.Errorf("%s came first, but %s happened first", nameOf(got[0]), nameOf(want[0]))
	}
	return nil
}

// checkReliable: from its first event to the last that the client knows of,
// nothing is missing, nothing is made up, and each is what it was.
func checkReliable(s *State, r *WatchRecord) error {
	got, want := r.events(), r.wanted(s, r.known())
	if len(got) > 0 {
		first := sort.Search(len(want), func(i int) bool { return want[i].Kv.ModRevision >= got[0].Kv.ModRevision })
		want = want[first:]
	}
	for i := range max(len(got), len(want)) {
		switch {
		case i == len(got):
			return fmt.Errorf("%s is missing", nameOf(want[i]))
		case i == len(want):
			return fmt.Errorf("%s never happened", nameOf(got[i]))
		case nameOf(got[i]) != nameOf(want[i]):
			return fmt.Errorf("%s came in the place of %s", nameOf(got[i]), nameOf(want[i]))
		case !proto.Equal(got[i].Kv, want[i].Kv):
			return fmt.Errorf("%s came as %v, it was %v", nameOf(got[i]), got[i].Kv, want[i].Kv)
		}
	}
	return nil
}

// happened returns the events by their names; of those with one name, the last.
func happened(s *State, r *WatchRecord) map[eventName]*mvccpb.Event {
	all := r.Watch
	all.PrevKV = true
	of := make(map[eventName]*mvccpb.Event)
	for _, e := range s.WatchEvents(all, all.Start, math.MaxInt64) {
		of[nameOf(e)] = e
	}
	return of
}

// checkIsCreate: an event looks like a key's first exactly if it was.
func checkIsCreate(s *State, r *WatchRecord) error {
	of := happened(s, r)
	for _, e := range r.events() {
		if was := of[nameOf(e)]; was != nil && Creates(was) != Creates(e) {
			return fmt.Errorf("%s creates its key: %t, it should be %t", nameOf(e), Creates(e), Creates(was))
		}
	}
	return nil
}

// checkPrevKV: the pair before is the one at the revision before. It is missing
// if there was none, or if it may have been compacted, or was not asked for.
func checkPrevKV(s *State, r *WatchRecord) error {
	of := happened(s, r)
	for i := range r.Responses {
		for _, e := range r.Responses[i].Events {
			was := of[nameOf(e)]
			switch {
			case !r.Watch.PrevKV && e.PrevKv != nil:
				return fmt.Errorf("%s came with a pair before, which nobody asked for", nameOf(e))
			case !r.Watch.PrevKV || was == nil:
			case e.PrevKv == nil && e.Kv.ModRevision-1 < r.Responses[i].Compacted:
			case !proto.Equal(e.PrevKv, was.PrevKv):
				return fmt.Errorf("%s came with %v before it, there was %v", nameOf(e), e.PrevKv, was.PrevKv)
			}
		}
	}
	return nil
}
