package watchfeed

import (
	"bytes"
	"fmt"
	"math/rand"
	"slices"
	"testing"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/internal/clock"
	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/mvcc"
	"github.com/flotilladb/flotilla/proto/cmdpb"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/txnpb"
)

// world is a store with ranges, as a hub sees one, and beside it all that ever
// happened, in order: what the watches must show is read off that.
type world struct {
	t    testing.TB
	rng  *rand.Rand
	eng  *engine.Mem
	core *Core
	cfg  CoreConfig

	ranges             []*worldRange // by start
	nextID             metapb.RangeID
	issued, current    Revision
	compacted, removal Revision
	history            []fact
	live               map[string]*txnpb.Mutation // newest issued version by key; nil or tombstone: not there
	liveRev            map[string]Revision
	pendingKeys        map[string]bool // of transactions that are under way
	now                clock.Time
	inbox              []Step
	lossy              bool // the inbox may be full
	scans              []Scan
	streams            []*client
	away               *elsewhere // nil: all ranges are on the hub's store
}

// fact is one event as it must be shown.
type fact struct {
	rev  Revision
	mut  *txnpb.Mutation
	prev *txnpb.Mutation // nil: it was not there
}

type worldRange struct {
	desc    *metapb.Descriptor
	pending []pendingUpdate // issued and not applied
	unled   bool            // nobody leads it yet: no write goes there, and its bound says nothing
}

type pendingUpdate struct {
	u   *cmdpb.Update
	txn bool // may be applied in any order
}

func newWorld(t testing.TB, rng *rand.Rand, cfg CoreConfig) *world {
	w := &world{
		t: t, rng: rng, eng: engine.NewMem(), issued: 1, current: 1, compacted: -1, removal: -1, nextID: 2, now: 1,
		live: map[string]*txnpb.Mutation{}, liveRev: map[string]Revision{}, pendingKeys: map[string]bool{},
	}
	cfg.Reader = w.eng
	w.cfg = cfg
	core, err := NewCore(cfg)
	if err != nil {
		t.Fatal(err)
	}
	w.core = core
	w.core.Tick(w.now)
	first := &metapb.Descriptor{RangeId: 2, Start: keys.UserSpan(nil, nil).Start, Generation: 1}
	w.ranges = []*worldRange{{desc: first}}
	w.step(Step{Descriptors: []*metapb.Descriptor{first}})
	w.receive()
	return w
}

func (w *world) rangeOf(key string) *worldRange {
	for _, r := range w.ranges {
		if keys.HoldsUser(r.desc.Span(), []byte(key)) {
			return r
		}
	}
	w.t.Fatalf("no range for %q", key)
	return nil
}

// write issues a revision for changes of keys, deletes where a value is "".
// Whether it can be applied out of order follows from how many ranges it is on.
func (w *world) write(changes map[string]string) {
	var list []string
	for key := range changes {
		if w.pendingKeys[key] || w.rangeOf(key).unled {
			return // locked
		}
		list = append(list, key)
	}
	slices.Sort(list)
	on := map[*worldRange]*cmdpb.Update{}
	sub := uint32(0)
	rev := w.issued + 1
	for _, key := range list {
		old, value := w.live[key], changes[key]
		there := old != nil && !old.Tombstone
		if value == "" && !there {
			continue
		}
		m := &txnpb.Mutation{Key: []byte(key), Sub: sub, Tombstone: value == ""}
		if !m.Tombstone {
			m.Value, m.CreateRevision, m.Version = []byte(value), int64(rev), 1
			if there {
				m.CreateRevision, m.Version = old.CreateRevision, old.Version+1
			}
		}
		f := fact{rev: rev, mut: m}
		if there {
			f.prev = old
		}
		w.history = append(w.history, f)
		w.live[key], w.liveRev[key] = m, rev
		r := w.rangeOf(key)
		if on[r] == nil {
			on[r] = &cmdpb.Update{Revision: int64(rev)}
		}
		on[r].Mutations = append(on[r].Mutations, m)
		sub++
	}
	if sub == 0 {
		return
	}
	w.issued = rev
	for _, r := range w.ranges {
		if u := on[r]; u != nil {
			r.pending = append(r.pending, pendingUpdate{u: u, txn: len(on) > 1})
			if len(on) > 1 {
				for _, m := range u.Mutations {
					w.pendingKeys[string(m.Key)] = true
				}
			}
		}
	}
}

// apply applies some of what is pending, or all, in one step.
func (w *world) apply(all bool) {
	s := Step{}
	b := w.eng.NewBatch()
	defer b.Close()
	for _, r := range w.ranges {
		r.unled = r.unled && !all && w.rng.Intn(2) == 0
		var done []*cmdpb.Update
		left := r.pending[:0]
		stuck := false // an ordinary write waits, and with it those behind it
		for _, p := range r.pending {
			go1 := all || w.rng.Intn(3) > 0
			if !p.txn && (stuck || w.waitsFor(left, p.u)) {
				go1 = false
			}
			if !go1 {
				left = append(left, p)
				stuck = stuck || !p.txn
				continue
			}
			done = append(done, p.u)
			w.current = max(w.current, Revision(p.u.Revision))
			for _, m := range p.u.Mutations {
				mvcc.AppendMutation(b, Revision(p.u.Revision), m)
				if p.txn {
					delete(w.pendingKeys, string(m.Key))
				}
			}
		}
		r.pending = left
		if len(done) > 0 {
			s.Applied = append(s.Applied, RangeUpdates{Range: r.desc.ID(), Updates: done})
		}
	}
	if err := w.eng.Commit(b, false); err != nil {
		w.t.Fatal(err)
	}
	w.step(s)
}

// waitsFor reports whether an update changes a key of one that is not applied.
func (w *world) waitsFor(left []pendingUpdate, u *cmdpb.Update) bool {
	for _, p := range left {
		for _, a := range p.u.Mutations {
			for _, b := range u.Mutations {
				if bytes.Equal(a.Key, b.Key) {
					return true
				}
			}
		}
	}
	return false
}

// step puts a step with the bounds of all ranges into the inbox.
func (w *world) step(s Step) {
	for _, r := range w.ranges {
		bound := NoBound
		for _, p := range r.pending {
			bound = min(bound, Revision(p.u.Revision))
		}
		if r.unled {
			bound = 0
		}
		s.Bounds = append(s.Bounds, RangeBound{Range: r.desc.ID(), Bound: bound})
	}
	s.Current, s.Compacted = w.current, w.compacted
	if w.away != nil {
		s = w.away.step(&s)
	}
	if w.away == nil || !w.away.combine(&s) {
		w.inbox = AppendStep(w.inbox, s, !w.lossy || w.rng.Intn(4) > 0)
	}
	if w.rng.Intn(3) > 0 {
		w.receive()
	}
}

// receive gives the core what is in the inbox: before it hears anything else.
func (w *world) receive() {
	for i := range w.inbox {
		w.core.Step(&w.inbox[i])
	}
	w.inbox = nil
}

// split cuts a range on which nothing is pending.
func (w *world) split(at string) {
	for i, r := range w.ranges {
		if !keys.HoldsUser(r.desc.Span(), []byte(at)) {
			continue
		}
		addr := keys.User([]byte(at))
		if r.unled || len(r.pending) > 0 || bytes.Equal(addr, r.desc.Start) {
			return
		}
		w.nextID++
		left := &metapb.Descriptor{RangeId: r.desc.RangeId, Start: r.desc.Start, End: addr, Generation: r.desc.Generation + 1}
		right := &metapb.Descriptor{RangeId: uint64(w.nextID), Start: addr, End: r.desc.End, Generation: r.desc.Generation + 1}
		r.desc = left
		w.ranges = slices.Insert(w.ranges, i+1, &worldRange{desc: right, unled: w.rng.Intn(2) == 0})
		w.step(Step{Descriptors: []*metapb.Descriptor{left, right}})
		return
	}
}

// compact compacts at a revision and removes what is not needed, if nothing
// below is pending.
func (w *world) compact(rev Revision) {
	for _, r := range w.ranges {
		for _, p := range r.pending {
			if Revision(p.u.Revision) <= rev {
				return
			}
		}
		if r.unled {
			return
		}
	}
	from := max(w.removal, 0)
	w.compacted, w.removal = rev, rev
	w.collect(w.eng, from, rev)
	if w.away != nil {
		w.collect(w.away.eng, from, rev)
	}
	if w.rng.Intn(2) == 0 {
		w.step(Step{})
	} // else the hub hears of it later
}

func (w *world) collect(eng *engine.Mem, from, rev Revision) {
	for c := mvcc.NewCollector(nil, nil, from, rev); ; {
		b := eng.NewBatch()
		_, done, err := c.Step(eng, b, mvcc.CollectBudget{})
		if err == nil {
			err = eng.Commit(b, false)
		}
		if err != nil {
			w.t.Fatal(err)
		}
		if done {
			return
		}
	}
}

// ready does what the shell does after anything happened.
func (w *world) ready() {
	w.receive()
	for {
		rd := w.core.Ready()
		w.scans = append(w.scans, rd.Scans...)
		if w.away != nil {
			w.away.send(rd.Feeds)
		}
		if rd.Asks {
			w.core.Current(Revision(w.rng.Intn(2)) * w.current)
		}
		for i := range rd.Outputs {
			out := &rd.Outputs[i]
			c := w.client(out.Stream)
			c.queue = append(c.queue, out.Responses...)
			c.full = out.Full
			n, bytes := c.left()
			w.core.Drained(c.id, n, bytes)
		}
		if !w.core.HasWork() {
			return
		}
	}
}

// scan does one of the scans that are asked for.
func (w *world) scan() {
	if len(w.scans) == 0 {
		return
	}
	i := w.rng.Intn(len(w.scans))
	s := w.scans[i]
	w.scans = slices.Delete(w.scans, i, i+1)
	var res Scanned
	if w.away != nil {
		w.receive()
		res = w.away.scan(&s)
	} else {
		res = s.Do(w.eng, func() Revision { return w.removal }, nil)
	}
	if w.rng.Intn(20) == 0 {
		res = Scanned{ID: s.ID, Err: fmt.Errorf("the disk is away"), Removed: -1}
	}
	w.core.Scanned(&res)
}

func (w *world) client(id StreamID) *client {
	for _, c := range w.streams {
		if c.id == id {
			return c
		}
	}
	w.t.Fatalf("output for stream %d", id)
	return nil
}
