package node

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/mvcc"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/range"
)

// Removal removes from a store what a compaction no longer needs, range by range,
// in steps that its driver paces. Readers and writers go on beside it.
//
// The published removal mark is raised before the first step, so that a reader
// whose iterator was opened too late finds out.
type Removal struct {
	pub  *Published
	to   metapb.Revision
	addr []byte // where the next range is looked up; nil: at the end
	// end is where the present sweep ends, nil: nowhere. The first is over everything;
	// later are spans of ranges that waited, which others did not wait for.
	end   []byte
	later []metapb.Span

	// The range under way; nil: none.
	desc  *metapb.Descriptor
	gc    *mvcc.Collector
	swaps uint64 // of pub, when it was begun

	garbage Garbage
	noted   bool // in the engine, that up to to is removed
}

// Garbage is a span of engine keys in which so many bytes of keys and values
// were deleted. The engine still holds them, below the deletions.
type Garbage struct {
	Span  engine.Span
	Bytes int64
}

// garbageBytes is how much garbage is handed out at once: enough that it is worth
// its while, little enough that what is rewritten needs not much room.
const garbageBytes = 32 << 20

// RemovalStep is what became of a step.
type RemovalStep int

const (
	// RemovalWorked: there is more.
	RemovalWorked RemovalStep = iota
	// RemovalWaits: writes at or below the compacted revision are under way on
	// a range. The next step goes on with the others.
	RemovalWaits
	// RemovalDone: nothing is left.
	RemovalDone
)

// NewRemoval begins the removal of what is not needed from a revision on.
// REQUIRES: the compacted revision is to, or more.
func NewRemoval(pub *Published, to metapb.Revision) *Removal {
	pub.removal.Store(max(pub.removal.Load(), int64(to)))
	r := &Removal{pub: pub, to: to, addr: []byte{byte(keys.KindUser)}}
	r.garbage.Span.Start = keys.VersionSpan(nil, nil).Start
	return r
}

// Step removes a bounded amount.
func (g *Removal) Step(eng engine.Engine, budget mvcc.CollectBudget) (RemovalStep, error) {
	g.pub.rows.Lock()
	defer g.pub.rows.Unlock()
	if g.swaps != g.pub.swaps {
		// The range under way may be gone, or another state of it be there, which has
		// a mark of its own.
		g.desc, g.gc, g.swaps = nil, nil, g.pub.swaps
	}
	if g.desc == nil {
		if !g.sweep() {
			return RemovalDone, nil
		}
		if step, err := g.begin(eng); step != RemovalWorked || err != nil || g.desc == nil {
			return step, err
		}
	}
	b := eng.NewBatch()
	defer b.Close()
	before := g.gc.FreedBytes()
	_, done, err := g.gc.Step(eng, b, budget)
	if done {
		ranges.WriteRemovalMark(b, g.desc.ID(), g.to)
	}
	if !g.noted && !b.Empty() {
		ranges.WriteRemoving(b, g.to)
	}
	if err == nil && !b.Empty() {
		if err = eng.Commit(b, false); err == nil {
			g.noted = true
		}
	}
	if err != nil {
		return RemovalWorked, fmt.Errorf("range %d: %w", g.desc.RangeId, err)
	}
	g.addGarbage(g.gc.FreedBytes() - before)
	if done {
		g.next()
	}
	return RemovalWorked, nil
}

// addGarbage notes what a step removed: up to the collector's cursor, or to the
// end of the range.
func (g *Removal) addGarbage(freed int64) {
	end, more := g.gc.Cursor()
	if !more {
		_, end, _ = keys.UserBounds(g.desc.Span())
	}
	g.garbage.Bytes += freed
	if more {
		end = append(slices.Clone(end), 0) // the step may have ended amid this key
	}
	if end = keys.VersionSpan(nil, end).End; bytes.Compare(end, g.garbage.Span.End) > 0 {
		g.garbage.Span.End = end
	}
}

// TakeGarbage returns a span with much garbage, if there is one; what is left of
// it at the end, with all. The next begins where it ends.
func (g *Removal) TakeGarbage(all bool) (Garbage, bool) {
	if g.garbage.Bytes == 0 || !all && g.garbage.Bytes < garbageBytes {
		return Garbage{}, false
	}
	taken := g.garbage
	g.garbage = Garbage{Span: engine.Span{Start: taken.Span.End}}
	return taken, true
}

// sweep goes to the next range that is to be looked at, if there is one.
func (g *Removal) sweep() bool {
	if len(g.addr) > 0 && (len(g.end) == 0 || bytes.Compare(g.addr, g.end) < 0) {
		return true
	}
	if len(g.later) == 0 {
		return false
	}
	g.addr, g.end = g.later[0].Start, g.later[0].End
	g.later = g.later[1:]
	return true
}

// Swept reports whether every range was looked at: what is left waits.
func (g *Removal) Swept() bool { return len(g.end) > 0 }

// begin takes up the range at addr. A split of it meanwhile does no harm: the
// right side took over the mark from before, and what is removed twice is
// removed.
func (g *Removal) begin(eng engine.Reader) (RemovalStep, error) {
	t := g.pub.table.Load()
	at := max(t.find(g.addr), 0)
	if at < len(t.pieces) && !t.pieces[at].desc.Contains(g.addr) && bytes.Compare(t.pieces[at].desc.Start, g.addr) < 0 {
		at++ // what is in between is not here
	}
	if at == len(t.pieces) || len(g.end) > 0 && bytes.Compare(t.pieces[at].desc.Start, g.end) >= 0 {
		g.addr = nil
		return RemovalWorked, nil
	}
	pr := t.pieces[at]
	// What is under way below the compacted revision must be applied first, or
	// the newest version that the compaction keeps would not be known.
	if metapb.Revision(pr.bound.Load()) <= g.to {
		wait := metapb.Span{Start: g.addr, End: pr.desc.End}
		if g.addr = wait.End; len(wait.End) == 0 {
			wait.End = []byte{byte(keys.KindUser) + 1}
		}
		g.later = append(g.later, wait)
		return RemovalWaits, nil
	}
	g.desc = pr.desc
	mark, err := ranges.ReadRemovalMark(eng, g.desc.ID())
	if err != nil {
		return RemovalWorked, err
	}
	start, end, ok := keys.UserBounds(g.desc.Span())
	if !ok || mark >= g.to {
		g.next()
		return RemovalWorked, nil
	}
	if from := keys.VersionSpan(start, nil).Start; bytes.Compare(from, g.garbage.Span.Start) < 0 {
		g.garbage.Span.Start = from // it had to wait
	}
	g.gc = mvcc.NewCollector(start, end, max(mark, 0), g.to)
	return RemovalWorked, nil
}

// next goes on behind the range under way.
func (g *Removal) next() { g.addr, g.desc, g.gc = g.desc.End, nil, nil }
