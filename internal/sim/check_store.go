package sim

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/internal/model"
	"github.com/flotilladb/flotilla/mvcc"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/range"
)

// orderly is a delay below which nothing runs out of time.
const orderly = 5 * time.Millisecond

// holdMin is for how long a transaction's first attempt may hold closing back.
func (s *Sim) holdMin() time.Duration { return cmp.Or(s.cfg.HoldMin, 50*time.Millisecond) }

// busyWith says what the node has under way still; nothing must be left for ever
// of a run, whatever happened in it.
func (n *simNode) busyWith() string {
	switch {
	case !n.serving || n.stopping:
		return "the node does not serve"
	case len(n.calls)+len(n.inbox) > 0:
		return fmt.Sprintf("%d calls are not answered", len(n.calls)+len(n.inbox))
	case n.written > n.heard:
		return "rows of the log are not synced"
	case n.removal != nil:
		return "a compaction's garbage is being removed"
	case n.full:
		return "the disk is full"
	case n.hub.busy():
		return "the hub has work"
	}
	if _, counted := n.core.Store().Count(); counted != n.core.Leaders() {
		return fmt.Sprintf("%d leaders are counted, there are %d", counted, n.core.Leaders())
	}
	for _, id := range n.core.Store().IDs() {
		r := n.core.Store().Replica(id)
		leader := n.s.leaderOf(id)
		switch info := r.Info(); {
		case leader == nil:
			return fmt.Sprintf("range %d has no leader", id)
		case info.Waiting > 0:
			return fmt.Sprintf("%d requests wait at range %d", info.Waiting, id)
		case r.Bound() != ranges.NoBound:
			return fmt.Sprintf("range %d has something under way at %d", id, r.Bound())
		case info.Applied != leader.Info().Last:
			return fmt.Sprintf("range %d has applied %d of %d", id, info.Applied, leader.Info().Last)
		}
		if why := leftovers(n.eng, r.Descriptor()); why != "" {
			return why
		}
	}
	if why := n.missing(); why != "" {
		return why
	}
	if why := leasesLeft(n.eng); why != "" {
		return why
	}
	return n.directoryLag()
}

// leaderOf returns the replica that leads a range, nil if none does.
func (s *Sim) leaderOf(id metapb.RangeID) (leader *ranges.Replica) {
	term := uint64(0)
	for _, n := range s.nodes {
		if !n.up {
			continue
		}
		if r := n.core.Store().Replica(id); r != nil && r.Leads() && r.Info().Term > term {
			leader, term = r, r.Info().Term
		}
	}
	return leader
}

// leftovers says what rows of unfinished transactions a range holds.
func leftovers(r engine.Reader, d *metapb.Descriptor) string {
	for what, span := range map[string]keys.Span{"intents": keys.IntentSpan(d.Span()), "records": keys.RecordSpan(d.Span())} {
		it, err := r.NewIter(engine.IterOptions{Lower: span.Start, Upper: span.End})
		if err != nil {
			return err.Error()
		}
		found := it.First()
		it.Close()
		if found {
			return fmt.Sprintf("range %d has %s", d.RangeId, what)
		}
	}
	return ""
}

// directoryLag says where the directory is behind the ranges.
func (n *simNode) directoryLag() string {
	dir := n.core.System().Directory()
	for _, id := range n.core.Store().IDs() {
		d := n.core.Store().Replica(id).Descriptor()
		if got := dir.Lookup(nil, d.Span()); len(got) != 1 || !proto.Equal(got[0], d) {
			return fmt.Sprintf("the directory has %v for %v", got, d)
		}
	}
	return ""
}

// checkStore checks what the node holds at the end.
func (s *Sim) checkStore(c *checker, n *simNode) error {
	if err := s.checkDescriptors(n); err != nil {
		return err
	}
	_, compacted := n.pub.Current()
	current := s.current
	if current < s.hist.seen || current < s.hist.highest {
		return fmt.Errorf("current is %d, but %d was seen and %d applied", current, s.hist.seen, s.hist.highest)
	}
	for _, rev := range s.someRevisions(int64(compacted), current) {
		if err := checkSnapshot(n.eng, c.at(rev), rev); err != nil {
			return fmt.Errorf("at revision %d (compacted %d, current %d): %w", rev, compacted, current, err)
		}
	}
	if err := s.checkVersions(n, int64(compacted), current); err != nil {
		return err
	}
	if err := checkLeaseRows(n.eng, c.at(current)); err != nil {
		return err
	}
	want := int64(len(c.at(current).Live([]byte{0}, []byte{0}, current)))
	if got := n.counts.Live(); got >= 0 && got != want {
		return fmt.Errorf("the index counts %d live keys, there are %d", got, want)
	}
	if got, err := n.counts.Count(nil, nil, metapb.Revision(current)); err != nil || got != want {
		return fmt.Errorf("the index counts %d keys at %d (error %v), there are %d", got, current, err, want)
	}
	return nil
}

// checkDescriptors holds the ranges against the whole keyspace and against what
// they were.
func (s *Sim) checkDescriptors(n *simNode) error {
	descs, err := ranges.LoadDescriptors(n.eng)
	if err != nil {
		return err
	}
	s.stats.Ranges = len(descs)
	slices.SortFunc(descs, func(a, b *metapb.Descriptor) int { return compareKeys(a.Start, b.Start) })
	var at []byte
	for i, d := range descs {
		if !bytes.Equal(d.Start, at) {
			return fmt.Errorf("range %d begins at %q, the one before ends at %q", d.RangeId, d.Start, at)
		}
		if at = d.End; (len(at) == 0) != (i == len(descs)-1) {
			return fmt.Errorf("range %d ends at %q amid the ranges", d.RangeId, at)
		}
		if was := s.hist.generations[d.ID()]; d.Generation != was {
			return fmt.Errorf("range %d has generation %d, it was %d", d.RangeId, d.Generation, was)
		}
	}
	if len(descs) != len(s.hist.generations) {
		return fmt.Errorf("there are %d ranges, there were %d", len(descs), len(s.hist.generations))
	}
	return nil
}

// someRevisions draws revisions that can be read, the first and the last always.
func (s *Sim) someRevisions(low, high int64) []int64 {
	low = max(low, 1)
	of := []int64{low, high}
	for range 4 {
		of = append(of, low+s.load.Int64N(high-low+1))
	}
	return of
}

// checkSnapshot compares all rows at a revision.
func checkSnapshot(r engine.Reader, want *model.State, rev int64) error {
	page, err := mvcc.ReadPage(r, nil, nil, metapb.Revision(rev), mvcc.PageOptions{})
	if err != nil {
		return err
	}
	if page.Next != nil {
		return errors.New("not all rows came")
	}
	live := want.Live([]byte{0}, []byte{0}, rev)
	for i := range max(len(live), len(page.KVs)) {
		switch {
		case i >= len(live):
			return fmt.Errorf("the engine has %v, the model has not", page.KVs[i])
		case i >= len(page.KVs):
			return fmt.Errorf("the model has %v, the engine has not", live[i])
		case !proto.Equal(live[i], page.KVs[i]):
			return fmt.Errorf("the engine has %v, the model %v", page.KVs[i], live[i])
		}
	}
	return nil
}

// checkVersions looks at every version in the engine: above the compacted
// revision all must be there, at and below it none that nobody can read.
func (s *Sim) checkVersions(n *simNode, compacted, current int64) error {
	w, err := mvcc.History(n.eng, mvcc.HistoryOptions{To: metapb.Revision(current), BytesMax: 1 << 30})
	if err != nil {
		return err
	}
	above := 0
	kept := make(map[string]metapb.Revision)
	for _, v := range w.Versions {
		if int64(v.Revision) > compacted {
			above++
			continue
		}
		other, both := kept[string(v.Key)]
		at := metapb.Revision(compacted) // of which a watch may still want all
		if both && (other != at || v.Revision != at) || v.Tombstone && v.Revision != at {
			return fmt.Errorf("garbage is left: %q at revision %d, compacted %d", v.Key, v.Revision, compacted)
		}
		kept[string(v.Key)] = v.Revision
	}
	want := 0
	for rev, muts := range s.hist.effects {
		if rev > compacted {
			want += len(muts)
		}
	}
	if above != want {
		return fmt.Errorf("the engine has %d versions above %d, %d were applied", above, compacted, want)
	}
	return nil
}
