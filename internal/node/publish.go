package node

import (
	"bytes"
	"slices"
	"sort"
	"sync"
	"sync/atomic"

	"github.com/flotilladb/flotilla/internal/clock"
	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/lease"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/range"
	"github.com/flotilladb/flotilla/router"
	"github.com/flotilladb/flotilla/watchfeed"
)

// Published is what the loop lets readers see, who run on their own goroutines.
//
// The loop writes in this order: the engine, the bounds of the ranges it
// touched (Ranges), then current (Revisions). A reader loads current (its S), then the bound of each
// range that it reads: above S means that everything the range will ever hold at
// or below S is in the engine, because a revision that is given out later is
// above S, and one that was given out before S became current is either applied
// or in the bound.
type Published struct {
	current   atomic.Int64
	compacted atomic.Int64
	// removal is the revision below which old versions may be gone. It is raised
	// before the first is removed.
	removal atomic.Int64
	// leader is the node that leads the system range in term, 0 if it is not known.
	leader, term atomic.Uint64
	// direct: what is current need not be asked for, since there is one store.
	direct atomic.Bool
	table  atomic.Pointer[pieceTable]
	// rows keeps what removal reads and writes together, against ranges that go or are
	// replaced. swaps counts these.
	rows   sync.Mutex
	swaps  uint64
	room   atomic.Int64 // bytes that the store may still take from clients
	alarms atomic.Pointer[activeAlarms]
	// alarmAsks counts how often the alarms were asked for.
	alarmAsks atomic.Uint64
	// bounds are those set since Step, left the ranges that went, here those that
	// changed or came: the loop's own.
	bounds []watchfeed.RangeBound
	left   []metapb.RangeID
	here   []*metapb.Descriptor
}

// init makes it that of a node that serves nothing yet.
func (p *Published) init() {
	p.compacted.Store(-1)
	p.removal.Store(-1)
	p.table.Store(&pieceTable{})
}

// NewPublished returns what a node shows that serves nothing yet.
func NewPublished() *Published {
	p := &Published{}
	p.init()
	return p
}

// Leave has readers know which ranges are here no more, or not as they were, before
// their rows go. It is called before Ranges.
func (p *Published) Leave(core *Core, rd *Ready) {
	if len(rd.Removed) == 0 && rd.RemovalMark < 0 {
		return
	}
	p.rows.Lock()
	defer p.rows.Unlock()
	p.swaps++
	p.removal.Store(max(p.removal.Load(), int64(rd.RemovalMark)))
	next := &pieceTable{}
	for _, pr := range p.table.Load().pieces {
		if core.Store().Shown(pr.desc.ID()) || !slices.Contains(rd.Removed, pr.desc.ID()) {
			next.pieces = append(next.pieces, pr)
		}
	}
	p.table.Store(next)
	for _, id := range rd.Removed {
		if !core.Store().Shown(id) {
			p.left = append(p.left, id)
		}
	}
}

// Ranges publishes ranges that changed, and the bounds of those that the last
// step of the core touched. It is called after the step's rows are committed.
func (p *Published) Ranges(core *Core, changed []*metapb.Descriptor) {
	if len(changed) > 0 {
		newest := map[metapb.RangeID]*metapb.Descriptor{}
		var order []metapb.RangeID
		for _, d := range changed {
			if !core.Store().Shown(d.ID()) {
				continue // it went at once, or nobody may use it
			}
			p.here = append(p.here, d)
			if newest[d.ID()] == nil {
				order = append(order, d.ID())
			}
			newest[d.ID()] = d
		}
		descs := make([]*metapb.Descriptor, 0, len(order))
		for _, id := range order {
			descs = append(descs, newest[id])
		}
		t := p.table.Load().update(descs)
		for _, id := range order {
			p.setBound(t, core, core.Store().Replica(id))
		}
		p.table.Store(t)
	}
	t := p.table.Load()
	core.Touched(func(r *ranges.Replica) { p.setBound(t, core, r) })
}

// Renew renews a lease if that needs no decision; ok is false if the core has to
// be asked. The lease lives from a time on that is not later than now. It may be what a former leader published: then that says no.
func (p *Published) Renew(id lease.ID, at clock.Time, now func() clock.Time) (ttl int64, ok bool) {
	t := p.table.Load()
	var room [16]byte
	addr := keys.AppendLease(room[:0], int64(id))
	i := t.find(addr)
	if i < 0 || !t.pieces[i].desc.Contains(addr) {
		return 0, false
	}
	r := t.pieces[i].renewals.Load()
	if r == nil {
		return 0, false
	}
	return r.Renew(id, at, now)
}

// endRenewals has the core asked from now on: the node failed.
func (p *Published) endRenewals() {
	for _, piece := range p.table.Load().pieces {
		piece.renewals.Store(nil)
	}
}

// Revisions publishes the current and the compacted revision. It is called after
// Ranges, and says whether there is more to remove.
func (p *Published) Revisions(current, compacted metapb.Revision) (grown bool) {
	if int64(compacted) > p.compacted.Load() {
		p.compacted.Store(int64(compacted))
		grown = true
	}
	p.current.Store(int64(current))
	return grown
}

// SystemLeader publishes who leads the system range. The term that clients are shown
// does not go down: that of a leader elsewhere may not be known.
func (p *Published) SystemLeader(leader metapb.StoreID, term uint64) {
	if p.term.Load() < term {
		p.term.Store(term)
	}
	if p.leader.Load() != uint64(leader) {
		p.leader.Store(uint64(leader))
	}
}

// pieceTable is the ranges of the store, by start. It is never changed.
type pieceTable struct {
	pieces []*publishedRange
}

type publishedRange struct {
	desc  *metapb.Descriptor
	bound atomic.Int64
	// renewals are of the range's leases, nil if its leader is not here.
	renewals atomic.Pointer[lease.Renewals]
}

// find returns the place of the range that holds addr.
func (t *pieceTable) find(addr []byte) int {
	return sort.Search(len(t.pieces), func(i int) bool {
		return bytes.Compare(t.pieces[i].desc.Start, addr) > 0
	}) - 1
}

// update returns a table with newer descriptors in it. Ranges that they displace
// leave: a reader that used one finds another generation.
func (t *pieceTable) update(descs []*metapb.Descriptor) *pieceTable {
	pieces := make([]*publishedRange, len(t.pieces), len(t.pieces)+len(descs))
	copy(pieces, t.pieces)
	for _, d := range descs {
		first := sort.Search(len(pieces), func(i int) bool {
			end := pieces[i].desc.End
			return len(end) == 0 || bytes.Compare(end, d.Start) > 0
		})
		last := sort.Search(len(pieces), func(i int) bool {
			return len(d.End) != 0 && bytes.Compare(pieces[i].desc.Start, d.End) >= 0
		})
		// Until the loop says otherwise nothing may be read without asking.
		pieces = slices.Replace(pieces, first, max(first, last), &publishedRange{desc: d})
	}
	return &pieceTable{pieces}
}

// setBound publishes a replica's bound.
func (p *Published) setBound(t *pieceTable, core *Core, r *ranges.Replica) {
	i := t.find(r.Descriptor().Start)
	if i < 0 || t.pieces[i].desc != r.Descriptor() {
		return
	}
	bound := core.Bound(r)
	t.pieces[i].bound.Store(int64(bound))
	t.pieces[i].renewals.Store(r.Renewals())
	p.bounds = append(p.bounds, watchfeed.RangeBound{Range: r.Descriptor().ID(), Bound: bound})
}

// Step is what the hub of the watches is told of a step. It is called after
// Ranges and Revisions; the step is the hub's from then on.
func (p *Published) Step(rd *Ready) watchfeed.Step {
	current, compacted := p.Current()
	s := watchfeed.Step{
		Removed: p.left, RowsGo: len(rd.Removed) > 0, Descriptors: p.here, Lost: rd.Lost, Bounds: p.bounds, Current: current, Compacted: compacted, Asks: rd.Asks, Reached: rd.Reached,
		Feeds: rd.Feeds,
	}
	p.left, p.here = nil, nil
	p.bounds = make([]watchfeed.RangeBound, 0, len(p.bounds))
	if n := len(rd.Applied); n > 0 {
		s.Applied = make([]watchfeed.RangeUpdates, n)
		for i, a := range rd.Applied {
			s.Applied[i] = watchfeed.RangeUpdates(a)
		}
	}
	return s
}

// Removal is the revision below which old versions may be gone.
func (p *Published) Removal() metapb.Revision { return metapb.Revision(p.removal.Load()) }

// Current implements router.Local.
func (p *Published) Current() (current, compacted metapb.Revision) {
	// Compacted first: a compaction at or below current may come in between, but
	// never one above it.
	compacted = metapb.Revision(p.compacted.Load())
	return metapb.Revision(p.current.Load()), compacted
}

// Pieces implements router.Local.
func (p *Published) Pieces(dst []router.Piece, span metapb.Span, s metapb.Revision) []router.Piece {
	t := p.table.Load()
	next := span.Start // no piece yet from here on
	for i := max(t.find(span.Start), 0); i < len(t.pieces); i++ {
		pr := t.pieces[i]
		part, ok := pr.desc.Span().Intersect(span)
		if !ok && bytes.Compare(pr.desc.Start, next) <= 0 {
			continue // the one before what is looked for
		}
		if !ok {
			break
		}
		if !bytes.Equal(part.Start, next) {
			dst = append(dst, router.Piece{Span: metapb.Span{Start: next, End: part.Start}}) // it is not here
		}
		next = part.End
		bound := metapb.Revision(pr.bound.Load())
		dst = append(dst, router.Piece{
			Range:      pr.desc.ID(),
			Generation: pr.desc.Generation,
			Span:       part,
			Ready:      bound > s,
			Closed:     bound - 1,
		})
		if len(next) == 0 {
			return dst
		}
	}
	if !bytes.Equal(next, span.End) {
		dst = append(dst, router.Piece{Span: metapb.Span{Start: next, End: span.End}})
	}
	return dst
}

// Valid implements router.Local.
func (p *Published) Valid(piece router.Piece, rev metapb.Revision) bool {
	if metapb.Revision(p.removal.Load()) > rev {
		return false
	}
	t := p.table.Load()
	i := t.find(piece.Span.Start)
	return i >= 0 && t.pieces[i].desc.ID() == piece.Range && t.pieces[i].desc.Generation == piece.Generation
}
