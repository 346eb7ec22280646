package mvcc

import (
	"bytes"
	"slices"
	"sort"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/flotilladb/flotilla/proto/peerpb"
	"github.com/flotilladb/flotilla/proto/txnpb"
)

// Budget bounds a page of CollectRows; what reaches one of them ends it.
type Budget struct {
	RowsMax, BytesMax int
}

// RowsPage is a part of what a transaction needs to see of one range.
type RowsPage struct {
	Rows   [][]Row
	Counts []int64
	Next   *peerpb.Cursor
	// Read is how many rows were looked at, Bytes are those of what was kept.
	Read, Bytes int
}

// CollectRows reads what a transaction needs to see of one range: for each
// access, clipped to the range's span by its caller, the live rows in key order,
// copied. Values are left out where nobody looks at them; of an access that
// Deletes only the number of rows is kept, unless it wants values. It reads from
// a place on until the budget is used up, one row at least, or the state pauses.
func CollectRows(st State, accesses []Access, from peerpb.Cursor, budget Budget) (RowsPage, error) {
	p := RowsPage{Rows: make([][]Row, len(accesses)), Counts: make([]int64, len(accesses))}
	for i := from.Access; i < len(accesses) && p.Next == nil; i++ {
		a := accesses[i]
		if i == from.Access && len(from.Key) != 0 {
			a.Start = from.Key
		}
		at := Latest
		if a.Revision > 0 {
			at = a.Revision
		}
		keep := func(row *Row) bool {
			if p.Read >= budget.RowsMax || p.Bytes >= budget.BytesMax {
				p.Next = &peerpb.Cursor{Access: i, Key: bytes.Clone(row.Key)}
				return false
			}
			p.Read++
			p.Bytes += len(row.Key)
			if a.Deletes {
				p.Counts[i]++
				if !a.NeedValues {
					return true
				}
			}
			kept := *row
			kept.Key, kept.Value = bytes.Clone(row.Key), nil
			if a.NeedValues && len(row.Value) != 0 {
				kept.Value = bytes.Clone(row.Value)
				p.Bytes += len(row.Value)
			}
			p.Rows[i] = append(p.Rows[i], kept)
			return true
		}
		err := visitAccess(st, &a, at, keep)
		if pause := PauseOf(err); pause != nil {
			p.Next = &peerpb.Cursor{Access: i, Key: pause.Key}
		} else if err != nil {
			return RowsPage{}, err
		}
	}
	return p, nil
}

// visitAccess calls fn for the live keys of an access. One key is looked up, not
// scanned for: bloom filters help only the former.
func visitAccess(st State, a *Access, at Revision, fn func(row *Row) bool) error {
	if !isPoint(a) {
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
	at      map[Revision][]Row // once sealed: sorted by key, each key once
	deletes []*deletedSpan     // once sealed: sorted by key
	byStart map[string]*deletedSpan
	bytes   int
}

// deletedSpan is the part of an access that Deletes which lies in one range.
type deletedSpan struct {
	UserSpan
	count int64
	prev  []*mvccpb.KeyValue // if wanted
}

// rowBytes is about what a row costs in memory besides its key and value.
const rowBytes = 128

// NewRowsState returns an empty state. Rows are added range by range and page by
// page, then it is sealed.
func NewRowsState() *RowsState {
	return &RowsState{at: make(map[Revision][]Row), byStart: make(map[string]*deletedSpan)}
}

// Add adds a page of one range: rows[i] and counts[i] for accesses[i], as
// CollectRows returned them.
func (s *RowsState) Add(accesses []Access, rows [][]Row, counts []int64) {
	for i := range accesses {
		a := &accesses[i]
		for j := range rows[i] {
			s.bytes += len(rows[i][j].Key) + len(rows[i][j].Value) + rowBytes
		}
		if a.Deletes {
			s.addDeleted(a, rows[i], counts[i])
			continue
		}
		at := Latest
		if a.Revision > 0 {
			at = a.Revision
		}
		s.at[at] = append(s.at[at], rows[i]...)
	}
}

func (s *RowsState) addDeleted(a *Access, rows []Row, count int64) {
	d := s.byStart[string(a.Start)]
	if d == nil {
		d = &deletedSpan{UserSpan: UserSpan{Start: a.Start, End: a.End}}
		s.byStart[string(a.Start)] = d
		s.deletes = append(s.deletes, d)
	}
	d.count += count
	kvs := make([]mvccpb.KeyValue, len(rows))
	for i := range rows {
		row, kv := &rows[i], &kvs[i]
		kv.Key, kv.Value, kv.CreateRevision, kv.ModRevision = row.Key, row.Value, row.CreateRevision, row.ModRevision
		kv.Version, kv.Lease = row.Version, row.Lease
		d.prev = append(d.prev, kv)
	}
}

// Bytes is about the memory that the rows take.
func (s *RowsState) Bytes() int { return s.bytes }

// Seal says that nothing more is added; only then the state may be read.
func (s *RowsState) Seal() {
	for at, list := range s.at {
		s.at[at] = mergeRows(list)
	}
	slices.SortFunc(s.deletes, func(a, b *deletedSpan) int { return bytes.Compare(a.Start, b.Start) })
}

// deletedSpans returns what a state knows of a delete of a span whose keys it
// cannot name; nil if it is to be done key by key.
func deletedSpans(st State, r *pb.DeleteRangeRequest) []*deletedSpan {
	if len(r.RangeEnd) == 0 {
		return nil
	}
	rows, _ := beneath(st).(*RowsState)
	if rows == nil {
		return nil
	}
	start, end := opSpan(r.Key, r.RangeEnd)
	from := sort.Search(len(rows.deletes), func(i int) bool { return bytes.Compare(rows.deletes[i].Start, start) >= 0 })
	to := len(rows.deletes)
	if len(end) != 0 {
		to = sort.Search(to, func(i int) bool { return bytes.Compare(rows.deletes[i].Start, end) >= 0 })
	}
	if from >= to {
		return nil
	}
	return rows.deletes[from:to]
}

// beneath returns the state under those of a running transaction.
func beneath(st State) State {
	if over, ok := st.(*txnState); ok {
		st = over.base
	}
	if h, ok := st.(hidden); ok {
		st = h.base
	}
	return st
}

// deleteSpans deletes the live keys of spans. Nothing else of the request writes
// there.
func (e *effects) deleteSpans(spans []*deletedSpan) *pb.DeleteRangeResponse {
	resp := &pb.DeleteRangeResponse{}
	for _, d := range spans {
		if d.count == 0 {
			continue
		}
		e.deletes = append(e.deletes, &txnpb.SpanDelete{Start: d.Start, End: d.End, Sub: uint32(e.sub), Count: uint32(d.count)})
		e.sub += int(d.count)
		resp.Deleted += d.count
		resp.PrevKvs = append(resp.PrevKvs, d.prev...)
	}
	return resp
}

// mergeRows sorts rows by key. Of several for one key, which differ at most in
// having a value, it keeps one that has it.
func mergeRows(rows []Row) []Row {
	byKey := func(a, b Row) int { return bytes.Compare(a.Key, b.Key) }
	if !slices.IsSortedFunc(rows, byKey) {
		slices.SortStableFunc(rows, byKey)
	}
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
