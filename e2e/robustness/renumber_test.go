package robustness

import (
	"reflect"
	"slices"
	"testing"

	"github.com/anishathalye/porcupine"
	"go.etcd.io/etcd/tests/v3/robustness/model"
	"go.etcd.io/etcd/tests/v3/robustness/report"
)

// Writes at 2, 3, 7 and 9; 4 to 6 and 8 belong to nobody.
func TestNumbering(t *testing.T) {
	n := newNumbering(map[int64]bool{9: true, 2: true, 7: true, 3: true})
	if n.gaps() != 4 {
		t.Errorf("%d gaps", n.gaps())
	}
	if got := n.missing(3); !slices.Equal(got, []int64{4, 5, 6}) {
		t.Errorf("missing %v", got)
	}
	for _, c := range []struct{ rev, at, from int64 }{
		{-1, -1, -1}, {0, 0, 0}, {1, 1, 1}, {2, 2, 2}, {3, 3, 3}, {4, 3, 4}, {6, 3, 4}, {7, 4, 4}, {8, 4, 5}, {9, 5, 5}, {50, 5, 6},
	} {
		if at, from := n.at(c.rev), n.from(c.rev); at != c.at || from != c.from {
			t.Errorf("%d: at %d, from %d; want %d, %d", c.rev, at, from, c.at, c.from)
		}
	}
	if whole := newNumbering(map[int64]bool{2: true, 3: true}); whole.gaps() != 0 || whole.at(3) != 3 {
		t.Errorf("no gap is %d gaps", whole.gaps())
	}
}

// What was recorded is not changed: it is printed when a run fails.
func TestNumberingCopies(t *testing.T) {
	n := newNumbering(map[int64]bool{5: true, 8: true})
	prev := &model.ValueRevision{ModRevision: 5}
	w := model.WatchOperation{
		Request: model.WatchRequest{Revision: 6},
		Responses: []model.WatchResponse{{Revision: 8, Events: []model.WatchEvent{
			{PersistedEvent: model.PersistedEvent{Revision: 8}, PrevValue: prev},
		}}},
	}
	got := n.watch(w)
	if e := w.Responses[0].Events[0]; e.Revision != 8 || e.PrevValue.ModRevision != 5 || w.Request.Revision != 6 {
		t.Errorf("the record was changed: %+v", w)
	}
	want := model.WatchOperation{
		Request: model.WatchRequest{Revision: 3},
		Responses: []model.WatchResponse{{Revision: 3, Events: []model.WatchEvent{
			{PersistedEvent: model.PersistedEvent{Revision: 3}, PrevValue: &model.ValueRevision{ModRevision: 2}},
		}}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v", got)
	}
}

// Writes at 2 and 9. Compactions at 2, 4 and 6 are one in a history without gaps.
func TestNumberingCompactions(t *testing.T) {
	n := newNumbering(map[int64]bool{2: true, 9: true})
	var ops []porcupine.Operation
	for _, rev := range []int64{2, 4, 6, 9} {
		ops = append(ops, porcupine.Operation{
			Input:  model.EtcdRequest{Type: model.Compact, Compact: &model.CompactRequest{Revision: rev}},
			Output: model.MaybeEtcdResponse{EtcdResponse: model.EtcdResponse{Compact: &model.CompactResponse{}}},
		})
	}
	var got []int64
	for _, op := range n.reports([]report.ClientReport{{KeyValue: ops}})[0].KeyValue {
		got = append(got, op.Input.(model.EtcdRequest).Compact.Revision)
	}
	if !slices.Equal(got, []int64{2, 3}) {
		t.Errorf("compactions at %v", got)
	}
}
