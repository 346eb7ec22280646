package watchfeed

import (
	"flag"
	"fmt"
	"math/rand"
	"slices"
	"testing"
	"time"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/mvcc"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/peerpb"
)

var elsewhereSeeds = flag.Int("elsewhere", 150, "random histories of a hub whose ranges come and go")

// elsewhere makes the world's hub one of a store on which ranges come and go: it
// follows the rest at a store that has all, over a link that is slow and breaks.
type elsewhere struct {
	*randomWorld
	source *Core
	eng    *engine.Mem // of the world's hub; that of the source is the world's
	here   map[metapb.RangeID]bool
	// toSource and toHub are on their way.
	toSource, toHub []FeedInput
	broken          int
	followed        int // events that came from the source
	// seen is what the hub's store knows to be current, which may be less than it has
	// applied; reached is up to where that is.
	seen, reached Revision
	done          bool        // it knows all
	dropped       *worldRange // a split gave it up; its rows are to go
}

const hubStore, sourceStore metapb.StoreID = 1, 2

func newElsewhere(t *testing.T, rng *rand.Rand, cfg CoreConfig) *elsewhere {
	w := newWorld(t, rng, cfg)
	e := &elsewhere{
		randomWorld: &randomWorld{world: w, keys: 3 + rng.Intn(20)}, source: w.core, eng: engine.NewMem(), here: map[metapb.RangeID]bool{},
	}
	cfg.Reader = e.eng
	core, err := NewCore(cfg)
	if err != nil {
		t.Fatal(err)
	}
	w.core, w.away = core, e
	core.Tick(w.now)
	w.step(Step{})
	w.receive()
	return e
}

// step gives the source all of a step, and the hub what is of its ranges.
func (e *elsewhere) step(s *Step) Step {
	out := Step{Compacted: s.Compacted, Asks: true, Lost: s.Lost, Removed: s.Removed}
	b := e.eng.NewBatch()
	defer b.Close()
	for _, a := range s.Applied {
		if !e.here[a.Range] {
			continue
		}
		out.Applied = append(out.Applied, a)
		for _, u := range a.Updates {
			e.reached = max(e.reached, Revision(u.Revision))
			for _, m := range u.Mutations {
				mvcc.AppendMutation(b, Revision(u.Revision), m)
			}
		}
	}
	if err := e.eng.Commit(b, false); err != nil {
		e.t.Fatal(err)
	}
	split := len(s.Descriptors) == 2 && e.here[s.Descriptors[0].ID()]
	for i, d := range s.Descriptors {
		if split && i == 1 && e.rng.Intn(3) == 0 {
			e.dropped = e.rangeOf(string(d.Start[1:]))
		} else if split {
			e.here[d.ID()] = true
		}
		if e.here[d.ID()] {
			out.Descriptors = append(out.Descriptors, d)
		}
	}
	for _, bound := range s.Bounds {
		if e.here[bound.Range] {
			out.Bounds = append(out.Bounds, bound)
		}
	}
	if len(s.Lost) > 0 {
		e.reached = max(e.reached, s.Current) // a snapshot has all
	}
	out.Current, out.Reached = e.see(), e.reached
	src := *s
	src.Asks, src.Lost, src.Removed = true, nil, nil
	if len(s.Lost)+len(s.Removed) > 0 {
		src.Descriptors = nil // the source has it all along
	}
	e.source.Step(&src)
	e.readySource()
	return out
}

// see is what the hub's store knows to be current.
func (e *elsewhere) see() Revision {
	if e.done || e.rng.Intn(3) == 0 {
		e.seen = e.current
	}
	return e.seen
}

// combine has a step take effect at once with the one before it, if both are only about
// what was applied and what was split.
func (e *elsewhere) combine(s *Step) bool {
	if len(e.inbox) == 0 || e.rng.Intn(2) == 0 {
		return false
	}
	last := &e.inbox[len(e.inbox)-1]
	if len(s.Lost)+len(s.Removed)+len(last.Lost)+len(last.Removed)+len(last.Feeds) > 0 {
		return false
	}
	last.Applied = append(last.Applied, s.Applied...)
	last.Descriptors = append(last.Descriptors, s.Descriptors...)
	last.Bounds = append(last.Bounds, s.Bounds...)
	last.Current, last.Reached, last.Compacted = max(last.Current, s.Current), max(last.Reached, s.Reached), max(last.Compacted, s.Compacted)
	return true
}

// dropRows has the rows go of a range that a split gave up.
func (e *elsewhere) dropRows() {
	if r := e.dropped; r != nil {
		e.dropped = nil
		e.receive()
		e.copyRows(r, func(b engine.Batch, key, _ []byte) { b.Delete(key) })
	}
}

// readySource does what the source wants done.
func (e *elsewhere) readySource() {
	for again := true; again; again = e.source.HasWork() {
		rd := e.source.Ready()
		for i := range rd.Feeds {
			e.toHub = append(e.toHub, FeedInput{Store: sourceStore, News: rd.Feeds[i].News})
		}
		for i := range rd.Scans {
			res := rd.Scans[i].Do(e.world.eng, func() Revision { return e.removal }, nil)
			e.source.Scanned(&res)
		}
	}
}

// send takes what the hub wants done.
func (e *elsewhere) send(out []FeedOutput) {
	for i := range out {
		if l := out[i].Locate; l != nil {
			r := e.rangeOf(string(l.Start))
			_, end, _ := keys.UserBounds(r.desc.Span())
			e.toHub = append(e.toHub, FeedInput{Located: &Located{Start: l.Start, End: end, Store: sourceStore}})
		} else {
			e.toSource = append(e.toSource, FeedInput{Store: hubStore, Ask: out[i].Ask})
		}
	}
}

// carry has some of what is on its way arrive.
func (e *elsewhere) carry(n int) {
	if n := min(n, len(e.toSource)); n > 0 {
		e.source.Step(&Step{Current: e.current, Compacted: e.compacted, Asks: true, Feeds: e.toSource[:n]})
		e.toSource = slices.Delete(e.toSource, 0, n)
		e.readySource()
	}
	if n := min(n, len(e.toHub)); n > 0 {
		s := Step{Current: e.see(), Reached: e.reached, Compacted: e.compacted, Asks: true, Feeds: slices.Clone(e.toHub[:n])}
		for i := range s.Feeds {
			if news := s.Feeds[i].News; news != nil {
				e.followed += len(news.Changes)
			}
		}
		e.toHub = slices.Delete(e.toHub, 0, n)
		e.inbox = AppendStep(e.inbox, s, true)
		e.receive()
	}
}

// breakLink loses what is on its way.
func (e *elsewhere) breakLink() {
	e.broken++
	e.toSource = nil
	e.toHub = slices.DeleteFunc(e.toHub, func(in FeedInput) bool { return in.News != nil })
	e.source.Step(&Step{Current: e.current, Compacted: e.compacted, Asks: true, Feeds: []FeedInput{{Store: hubStore, Lost: true}}})
	e.toHub = append(e.toHub, FeedInput{Store: sourceStore, Lost: true})
}

// come has a range come by a snapshot.
func (e *elsewhere) come(r *worldRange) {
	e.copyRows(r, func(b engine.Batch, key, value []byte) { b.Set(key, value) })
	e.here[r.desc.ID()] = true
	e.world.step(Step{Descriptors: []*metapb.Descriptor{r.desc}, Lost: []metapb.RangeID{r.desc.ID()}})
}

// leave has it go.
func (e *elsewhere) leave(r *worldRange) {
	delete(e.here, r.desc.ID())
	e.world.step(Step{Removed: []metapb.RangeID{r.desc.ID()}})
	e.receive() // the hub hears of it before the rows go
	e.copyRows(r, func(b engine.Batch, key, _ []byte) { b.Delete(key) })
}

// copyRows calls do for the rows of a range on the source.
func (e *elsewhere) copyRows(r *worldRange, do func(b engine.Batch, key, value []byte)) {
	start, end, _ := keys.UserBounds(r.desc.Span())
	span := keys.VersionSpan(start, end)
	it, err := e.world.eng.NewIter(engine.IterOptions{Lower: span.Start, Upper: span.End})
	if err != nil {
		e.t.Fatal(err)
	}
	defer it.Close()
	b := e.eng.NewBatch()
	defer b.Close()
	for ok := it.First(); ok; ok = it.Next() {
		v, err := it.Value()
		if err != nil {
			e.t.Fatal(err)
		}
		do(b, it.Key(), v)
	}
	if err := e.eng.Commit(b, false); err != nil {
		e.t.Fatal(err)
	}
}

// scan does a scan of the hub: what is elsewhere is read from the source.
func (e *elsewhere) scan(s *Scan) Scanned {
	removal := func() Revision { return e.removal }
	if s.Parts == nil {
		return s.Do(e.eng, removal, nil)
	}
	var parts []Scanned
	for i := range s.Parts {
		part := s.Of(&s.Parts[i])
		if s.Parts[i].Here {
			parts = append(parts, part.Do(e.eng, removal, nil))
			continue
		}
		if e.rng.Intn(10) == 0 || !e.closedAt(&part) {
			return Scanned{ID: s.ID, Removed: -1, Err: fmt.Errorf("nobody answers")}
		}
		got := part.Do(e.world.eng, removal, nil)
		var events []peerpb.FeedEvent
		for _, ev := range got.Events {
			events = append(events, feedEvents([]*Event{ev})...)
		}
		parts = append(parts, part.Took(events, got.Through, got.Removed))
	}
	return s.Join(parts)
}

// closedAt reports whether the ranges of a scan are closed where it ends.
func (e *elsewhere) closedAt(s *Scan) bool {
	for _, r := range e.ranges {
		if !r.desc.Span().Overlaps(keys.UserSpan(s.Start, s.End)) {
			continue
		}
		for _, p := range r.pending {
			if Revision(p.u.Revision) <= s.To {
				return false
			}
		}
	}
	return true
}

func (e *elsewhere) act() {
	switch n := e.rng.Intn(100); {
	case n < 30:
		e.carry(1 + e.rng.Intn(4))
	case n < 31:
		e.breakLink()
	case n < 35:
		r := e.ranges[e.rng.Intn(len(e.ranges))]
		if e.here[r.desc.ID()] {
			e.leave(r)
		} else {
			e.come(r)
		}
	default:
		e.randomWorld.act()
		e.dropRows()
	}
}

// Watches over ranges that come and go, as TestRandom has them where all are here.
func TestElsewhere(t *testing.T) {
	from, to := 1, *elsewhereSeeds
	if *seed != 0 {
		from, to = *seed, *seed
	}
	sum, followed, broken := Stats{}, 0, 0
	for s := from; s <= to; s++ {
		t.Run(fmt.Sprint(s), func(t *testing.T) {
			e := newElsewhere(t, rand.New(rand.NewSource(int64(s))), CoreConfig{})
			rng := e.rng
			cfg := CoreConfig{
				RingBytesMax: 500 + rng.Intn(5000), WindowBytesMax: 300 + rng.Intn(4000), CatchUpBytesMax: 1 + rng.Intn(9000),
				ScansMax: 1 + rng.Intn(3), ResponseBytesMax: 200 + rng.Intn(1000), FeedBytesMax: 1 + rng.Intn(3000), NewsBytesMax: 1 + 200*(s%4),
				ProgressInterval: 10 * time.Millisecond, StallMax: 20 * time.Millisecond,
			}
			e = newElsewhere(t, rng, cfg)
			e.lossy = rng.Intn(3) == 0
			for range 800 {
				e.act()
				if rng.Intn(3) > 0 {
					e.ready()
				}
			}
			e.done = true
			e.world.step(Step{})
			e.finish()
			st := e.core.Stats()
			sum.Delivered += st.Delivered
			sum.FellBehind += st.FellBehind
			sum.Scans += st.Scans
			followed += e.followed
			broken += e.broken
		})
	}
	t.Logf("%d events, %d times without room, %d scans, %d news, %d broken links", sum.Delivered, sum.FellBehind, sum.Scans, followed, broken)
	if *seed == 0 && (sum.FellBehind == 0 || sum.Scans == 0 || followed == 0) {
		t.Error("nothing caught up, or was followed")
	}
}
