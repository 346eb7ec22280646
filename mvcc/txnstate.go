package mvcc

import (
	"bytes"

	"github.com/flotilladb/flotilla/proto/txnpb"
)

// txnState is a State under which the changes of a running transaction lie.
// A few changes are searched one by one; more, or a scan, build an overlay.
type txnState struct {
	base    State
	rev     Revision
	muts    []*txnpb.Mutation
	overlay *Overlay
	added   int // mutations that the overlay has
}

// txnLinearMax is up to how many changes a point read searches one by one.
const txnLinearMax = 24

// state returns what the next operation sees.
func (t *txnRun) state() State {
	base := t.base
	if len(t.done.deletes) > 0 {
		base = hidden{base: base, rev: t.env.Revision, spans: t.done.deletes}
	}
	if len(t.done.muts) == 0 {
		return base
	}
	t.over.base, t.over.rev, t.over.muts = base, t.env.Revision, t.done.muts
	return &t.over
}

// hidden is a state from which spans were deleted at a revision.
type hidden struct {
	base  State
	rev   Revision
	spans []*txnpb.SpanDelete
}

func (h hidden) hides(key []byte) bool {
	for _, d := range h.spans {
		if bytes.Compare(d.Start, key) <= 0 && (len(d.End) == 0 || bytes.Compare(key, d.End) < 0) {
			return true
		}
	}
	return false
}

// Get implements State.
func (h hidden) Get(key []byte, at Revision) (Row, bool, error) {
	if at >= h.rev && h.hides(key) {
		return Row{}, false, nil
	}
	return h.base.Get(key, at)
}

// Scan implements State.
func (h hidden) Scan(start, end []byte, at Revision, fn func(row *Row) bool) error {
	if at < h.rev {
		return h.base.Scan(start, end, at, fn)
	}
	return h.base.Scan(start, end, at, func(row *Row) bool { return h.hides(row.Key) || fn(row) })
}

// Get implements State.
func (s *txnState) Get(key []byte, at Revision) (Row, bool, error) {
	if at < s.rev {
		return s.base.Get(key, at)
	}
	if len(s.muts) > txnLinearMax {
		return s.layered().Get(key, at)
	}
	for i := len(s.muts) - 1; i >= 0; i-- {
		if m := s.muts[i]; bytes.Equal(m.Key, key) {
			if m.Tombstone {
				return Row{}, false, nil
			}
			return mutationRow(m, s.rev), true, nil
		}
	}
	return s.base.Get(key, at)
}

// Scan implements State.
func (s *txnState) Scan(start, end []byte, at Revision, fn func(row *Row) bool) error {
	if at < s.rev {
		return s.base.Scan(start, end, at, fn)
	}
	return s.layered().Scan(start, end, at, fn)
}

func (s *txnState) layered() State {
	if s.overlay == nil {
		s.overlay = NewOverlay()
	}
	s.overlay.Add(1, s.rev, s.muts[s.added:])
	s.added = len(s.muts)
	return s.overlay.Over(s.base)
}
