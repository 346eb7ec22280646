package mvcc

import (
	"bytes"
	"slices"
	"sort"
)

// CollectRows reads what a cross-range transaction needs to see of one range:
// for each access, clipped to the range's span by its caller, the live rows in
// key order, copied. Values are left out where nobody looks at them.
func CollectRows(st State, accesses []Access) ([][]Row, error) {
	out := make([][]Row, len(accesses))
	for i := range accesses {
		a := &accesses[i]
		at := Latest
		if a.Revision > 0 {
			at = a.Revision
		}
		keep := func(row *Row) bool {
			kept := *row
			kept.Key, kept.Value = bytes.Clone(row.Key), nil
			if a.NeedValues && len(row.Value) != 0 {
				kept.Value = bytes.Clone(row.Value)
			}
			out[i] = append(out[i], kept)
			return true
		}
		if err := visitAccess(st, a, at, keep); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// visitAccess calls fn for the live keys of an access. One key is looked up, not
// scanned for: bloom filters help only the former.
func visitAccess(st State, a *Access, at Revision, fn func(row *Row) bool) error {
	n := len(a.Start)
	if len(a.End) != n+1 || a.End[n] != 0 || !bytes.HasPrefix(a.End, a.Start) {
		return st.Scan(a.Start, a.End, at, fn)
	}
	row, ok, err := st.Get(a.Start, at)
	if err == nil && ok {
		fn(&row)
	}
	return err
}

// RowsState is a State made of rows that ranges sent. It knows the accesses
// that the rows were collected for and nothing else: a read of other keys finds
// nothing there.
type RowsState struct {
	at map[Revision][]Row // sorted by key, each key once
}

// NewRowsState returns an empty state. Rows are added range by range.
func NewRowsState() *RowsState { return &RowsState{at: make(map[Revision][]Row)} }

// Add adds the rows of one range: rows[i] for accesses[i], as CollectRows
// returned them.
func (s *RowsState) Add(accesses []Access, rows [][]Row) {
	for i := range rows {
		at := Latest
		if accesses[i].Revision > 0 {
			at = accesses[i].Revision
		}
		s.at[at] = append(s.at[at], rows[i]...)
	}
	for at, list := range s.at {
		s.at[at] = mergeRows(list)
	}
}

// mergeRows sorts rows by key. Of several for one key, which differ at most in
// having a value, it keeps one that has it.
func mergeRows(rows []Row) []Row {
	slices.SortStableFunc(rows, func(a, b Row) int { return bytes.Compare(a.Key, b.Key) })
	out := rows[:0]
	for _, row := range rows {
		if n := len(out); n != 0 && bytes.Equal(out[n-1].Key, row.Key) {
			if len(out[n-1].Value) == 0 {
				out[n-1].Value = row.Value
			}
			continue
		}
		out = append(out, row)
	}
	return out
}

func firstAtOrAfter(rows []Row, key []byte) int {
	return sort.Search(len(rows), func(i int) bool { return bytes.Compare(rows[i].Key, key) >= 0 })
}

// Get implements State.
func (s *RowsState) Get(key []byte, at Revision) (Row, bool, error) {
	rows := s.at[at]
	i := firstAtOrAfter(rows, key)
	if i == len(rows) || !bytes.Equal(rows[i].Key, key) {
		return Row{}, false, nil
	}
	return rows[i], true, nil
}

// Scan implements State.
func (s *RowsState) Scan(start, end []byte, at Revision, fn func(row *Row) bool) error {
	rows := s.at[at]
	for i := firstAtOrAfter(rows, start); i < len(rows); i++ {
		if len(end) != 0 && bytes.Compare(rows[i].Key, end) >= 0 {
			break
		}
		row := rows[i]
		if !fn(&row) {
			break
		}
	}
	return nil
}
