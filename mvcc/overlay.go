package mvcc

import (
	"bytes"
	"slices"

	"github.com/google/btree"

	"github.com/flotilladb/flotilla/internal/invariant"
	"github.com/flotilladb/flotilla/proto/txnpb"
)

// Overlay is a State under which effects wait that are not applied yet: those
// of earlier batches and of earlier requests of this one. It is owned by one
// range and is not safe for concurrent use.
//
// Effects come in batches, numbered upwards, and leave in the same order when
// their entry is applied (Applied), or from the other end when what was
// proposed is lost (Drop). At most the newest batch has open revisions.
type Overlay struct {
	tree    *btree.BTreeG[*effect] // the newest effect of each key; older ones hang below it
	batches []overlayBatch         // oldest first
	probe   effect                 // a key to look up, without an allocation
	touched uint64
	merged  []*effect // what a Scan merges; kept for its memory
	bytes   int
	leased  int // effects that attach or detach
}

// effect is one mutation that waits.
type effect struct {
	key   []byte
	mut   *txnpb.Mutation
	rev   Revision
	batch uint64
	older *effect // the effect that it covered. Invariant: older.batch <= batch
	gone  bool    // applied: the engine has it, and everything older
}

type overlayBatch struct {
	number  uint64
	effects [][]effect // chunks, so that effects do not move
}

// Effects are allocated in chunks: the first of a batch is small, since most
// batches of a store with many ranges are; each further one is twice as large,
// up to a bound.
const (
	overlayChunkMin = 2
	overlayChunkMax = 32
)

// NewOverlay returns an empty overlay.
func NewOverlay() *Overlay {
	return &Overlay{tree: btree.NewG(16, func(a, b *effect) bool { return bytes.Compare(a.key, b.key) < 0 })}
}

// Empty reports whether nothing waits.
func (o *Overlay) Empty() bool { return len(o.batches) == 0 }

// BytesHeld estimates the memory of keys and values that wait.
func (o *Overlay) BytesHeld() int { return o.bytes }

// Add puts the mutations of one change on top. The overlay shares them with
// their entry; nobody changes them but to fill revisions in.
// REQUIRES: batch is not below that of an earlier Add, rev is above it.
func (o *Overlay) Add(batch uint64, rev Revision, muts []*txnpb.Mutation) {
	if len(muts) == 0 {
		return
	}
	b := o.batch(batch)
	for _, m := range muts {
		e := b.alloc()
		*e = effect{key: m.Key, mut: m, rev: rev, batch: batch}
		if older, ok := o.tree.ReplaceOrInsert(e); ok {
			e.older = older
		}
		o.bytes += effectBytes(m)
		o.leased += leasedEffects(m)
	}
}

// leasedEffects is 1 for a mutation that has to do with a lease.
func leasedEffects(m *txnpb.Mutation) int {
	if m.Lease != 0 || m.PrevLease != 0 {
		return 1
	}
	return 0
}

// Leases calls fn for each key that something that waits attaches to a lease, or
// detaches from it: with the lease that the key has in the end, 0 for none, and the
// batch that makes it so.
func (o *Overlay) Leases(id int64, fn func(key []byte, lease int64, batch uint64)) {
	if o.leased == 0 {
		return
	}
	o.tree.Ascend(func(top *effect) bool {
		for e := top; e != nil && !e.gone; e = e.older {
			if e.mut.Lease == id || e.mut.PrevLease == id {
				fn(top.key, top.mut.Lease, top.batch)
				break
			}
		}
		return true
	})
}

func (o *Overlay) batch(number uint64) *overlayBatch {
	if n := len(o.batches); n != 0 {
		last := &o.batches[n-1]
		invariant.Check(number >= last.number, "overlay: batch %d after %d", number, last.number)
		if last.number == number {
			return last
		}
	}
	o.batches = append(o.batches, overlayBatch{number: number})
	return &o.batches[len(o.batches)-1]
}

func (b *overlayBatch) alloc() *effect {
	n := len(b.effects)
	if n == 0 || len(b.effects[n-1]) == cap(b.effects[n-1]) {
		size := min(overlayChunkMin<<min(n, 8), overlayChunkMax)
		b.effects = append(b.effects, make([]effect, 0, size))
		n++
	}
	chunk := &b.effects[n-1]
	*chunk = append(*chunk, effect{})
	return &(*chunk)[len(*chunk)-1]
}

func effectBytes(m *txnpb.Mutation) int { return len(m.Key) + len(m.Value) + 160 }

// Fill fills the open revisions of a batch in, its mutations' too.
func (o *Overlay) Fill(batch uint64, first Revision) {
	for i := len(o.batches) - 1; i >= 0 && o.batches[i].number >= batch; i-- {
		for _, chunk := range o.batches[i].effects {
			for j := range chunk {
				chunk[j].rev = Fill(chunk[j].rev, first)
				fill(&chunk[j].mut.CreateRevision, first)
			}
		}
	}
}

// Applied forgets the effects of all batches up to and including batch: the
// engine has them. A newer effect of the same key stays.
func (o *Overlay) Applied(batch uint64) {
	n := 0
	for n < len(o.batches) && o.batches[n].number <= batch {
		for _, chunk := range o.batches[n].effects {
			for j := range chunk {
				o.retire(&chunk[j])
			}
		}
		n++
	}
	o.batches = slices.Delete(o.batches, 0, n)
}

func (o *Overlay) retire(e *effect) {
	o.bytes -= effectBytes(e.mut)
	o.leased -= leasedEffects(e.mut)
	e.gone, e.older = true, nil
	if top, ok := o.find(e.key); ok && top == e {
		o.tree.Delete(e)
	}
}

// Drop forgets the effects of batch and of all later ones: they were never
// proposed, or raft lost them. What they covered is seen again.
func (o *Overlay) Drop(batch uint64) {
	for n := len(o.batches) - 1; n >= 0 && o.batches[n].number >= batch; n-- {
		chunks := o.batches[n].effects
		for i := len(chunks) - 1; i >= 0; i-- {
			for j := len(chunks[i]) - 1; j >= 0; j-- {
				o.uncover(&chunks[i][j])
			}
		}
		o.batches = o.batches[:n]
	}
}

// uncover takes the newest effect of a key away.
func (o *Overlay) uncover(e *effect) {
	o.bytes -= effectBytes(e.mut)
	o.leased -= leasedEffects(e.mut)
	if e.older != nil && !e.older.gone {
		o.tree.ReplaceOrInsert(e.older)
	} else {
		o.tree.Delete(e)
	}
}

// Touched is the highest batch of which something was read since ResetTouched,
// 0 if none: an answer may go out when that batch is applied.
func (o *Overlay) Touched() uint64 { return o.touched }

// ResetTouched begins a new request.
func (o *Overlay) ResetTouched() { o.touched = 0 }

// Over returns the state that has the overlay on top of base. It lives as long
// as base: one serves a batch, whatever is added meanwhile.
func (o *Overlay) Over(base State) State { return overlaid{o, base} }

func (o *Overlay) find(key []byte) (*effect, bool) {
	o.probe.key = key
	return o.tree.Get(&o.probe)
}

// visible returns the effect that a read at a revision sees, nil if it sees
// the base.
func (e *effect) visible(at Revision) *effect {
	for ; e != nil && !e.gone; e = e.older {
		if e.rev <= at {
			return e
		}
	}
	return nil
}

func (e *effect) row() Row { return mutationRow(e.mut, e.rev) }

func mutationRow(m *txnpb.Mutation, rev Revision) Row {
	return Row{
		Key: m.Key, Value: m.Value,
		CreateRevision: m.CreateRevision, ModRevision: int64(rev), Version: m.Version, Lease: m.Lease,
	}
}

// overlaid is an overlay on a state.
type overlaid struct {
	*Overlay
	base State
}

// Get implements State.
func (o overlaid) Get(key []byte, at Revision) (Row, bool, error) {
	if o.tree.Len() != 0 {
		if top, ok := o.find(key); ok {
			if e := top.visible(at); e != nil {
				o.touched = max(o.touched, e.batch)
				if e.mut.Tombstone {
					return Row{}, false, nil
				}
				return e.row(), true, nil
			}
		}
	}
	return o.base.Get(key, at)
}

// Scan implements State.
func (o overlaid) Scan(start, end []byte, at Revision, fn func(row *Row) bool) error {
	if o.tree.Len() == 0 {
		return o.base.Scan(start, end, at, fn)
	}
	if emptySpan(start, end) {
		return nil
	}
	waiting := o.collect(start, end, at)
	more := true
	// emit calls fn for what waits below key (nil: for all) and reports whether
	// key itself waits.
	emit := func(key []byte) (covered bool) {
		for more && len(waiting) != 0 {
			c := -1
			if key != nil {
				c = bytes.Compare(waiting[0].key, key)
			}
			if c > 0 {
				return false
			}
			e := waiting[0]
			waiting = waiting[1:]
			o.touched = max(o.touched, e.batch)
			if !e.mut.Tombstone {
				row := e.row()
				more = fn(&row)
			}
			if c == 0 {
				return true
			}
		}
		return false
	}
	err := o.base.Scan(start, end, at, func(row *Row) bool {
		if covered := emit(row.Key); !covered && more {
			more = fn(row)
		}
		return more
	})
	if pause := PauseOf(err); pause != nil {
		for len(waiting) != 0 && bytes.Compare(waiting[len(waiting)-1].key, pause.Key) >= 0 {
			waiting = waiting[:len(waiting)-1]
		}
	} else if err != nil {
		return err
	}
	if emit(nil); !more {
		return nil // fn stopped the scan before its pause
	}
	return err
}

// collect returns what a read of [start, end) at a revision sees of the
// overlay, in key order. It is valid until the next call.
func (o *Overlay) collect(start, end []byte, at Revision) []*effect {
	o.merged = o.merged[:0]
	o.probe.key = start
	o.tree.AscendGreaterOrEqual(&o.probe, func(top *effect) bool {
		if len(end) != 0 && bytes.Compare(top.key, end) >= 0 {
			return false
		}
		if e := top.visible(at); e != nil {
			o.merged = append(o.merged, e)
		}
		return true
	})
	return o.merged
}
