package robustness

import (
	"testing"

	"github.com/anishathalye/porcupine"
	"go.etcd.io/etcd/tests/v3/robustness/model"
	"go.etcd.io/etcd/tests/v3/robustness/report"
)

// a was deleted once, by the request that was answered; b once, by one that was
// not; c never.
func TestPrune(t *testing.T) {
	told, err := newHistory([]report.ClientReport{watcher(1, 2, event(2, model.DeleteOperation, "a", ""), event(3, model.DeleteOperation, "b", ""))})
	if err != nil {
		t.Fatal(err)
	}
	ops := []porcupine.Operation{
		done(2, 1, deleteOf("a")), done(0, 0, deleteOf("a")), done(0, 0, deleteOf("b")), done(0, 0, deleteOf("c")),
		done(0, 0, deleteOf("c"), putOf("d", "1", 0)), done(3, 0, deleteOf("c")),
	}
	clients := []report.ClientReport{{KeyValue: ops}}
	if _, err := told.requests(clients); err != nil {
		t.Fatal(err)
	}
	got := prune(clients, told)[0].KeyValue
	var kept []int
	for i, op := range ops {
		for _, g := range got {
			if g.Input.(model.EtcdRequest).Txn == op.Input.(model.EtcdRequest).Txn {
				kept = append(kept, i)
			}
		}
	}
	if len(kept) != 4 || kept[0] != 0 || kept[1] != 2 || kept[2] != 4 || kept[3] != 5 {
		t.Errorf("kept %v, want the answered, the delete of b and the one with a put", kept)
	}
}
