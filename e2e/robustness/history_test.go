package robustness

import (
	"strings"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"go.etcd.io/etcd/tests/v3/robustness/model"
	"go.etcd.io/etcd/tests/v3/robustness/report"
)

func putOf(key, value string, lease int64) model.EtcdOperation {
	return model.EtcdOperation{Type: model.PutOperation, Put: model.PutOptions{Key: key, Value: model.ToValueOrHash(value), LeaseID: lease}}
}

func deleteOf(key string) model.EtcdOperation {
	return model.EtcdOperation{Type: model.DeleteOperation, Delete: model.DeleteOptions{Key: key}}
}

// done is a transaction and its answer; revision 0 is none.
func done(revision, deleted int64, ops ...model.EtcdOperation) porcupine.Operation {
	out := model.MaybeEtcdResponse{Error: "lost"}
	if revision != 0 {
		results := make([]model.EtcdOperationResult, len(ops))
		for i := range results {
			results[i].Deleted = deleted
		}
		out = model.MaybeEtcdResponse{EtcdResponse: model.EtcdResponse{Revision: revision, Txn: &model.TxnResponse{Results: results}}}
	}
	return porcupine.Operation{Input: model.EtcdRequest{Type: model.Txn, Txn: &model.TxnRequest{OperationsOnSuccess: ops}}, Output: out}
}

func event(rev int64, kind model.OperationType, key, value string) model.WatchEvent {
	return model.WatchEvent{PersistedEvent: model.PersistedEvent{Revision: rev,
		Event: model.Event{Type: kind, Key: key, Value: model.ToValueOrHash(value)}}}
}

func watcher(id int, from int64, events ...model.WatchEvent) report.ClientReport {
	w := model.WatchOperation{Request: model.WatchRequest{WithPrefix: true, Revision: from}}
	for _, e := range events {
		w.Responses = append(w.Responses, model.WatchResponse{Events: []model.WatchEvent{e}, Revision: e.Revision, Time: time.Duration(1000 + e.Revision)})
	}
	return report.ClientReport{ClientID: id, Watch: []model.WatchOperation{w}}
}

// Two puts with a lease, one of them not answered; the lease's end, not answered
// either; a delete; and a put that never happened.
func TestRequests(t *testing.T) {
	lease := porcupine.Operation{Output: model.MaybeEtcdResponse{},
		Input: model.EtcdRequest{Type: model.LeaseGrant, LeaseGrant: &model.LeaseGrantRequest{LeaseID: 7}}}
	revoke := porcupine.Operation{Output: model.MaybeEtcdResponse{Error: "lost"},
		Input: model.EtcdRequest{Type: model.LeaseRevoke, LeaseRevoke: &model.LeaseRevokeRequest{LeaseID: 7}}}
	clients := []report.ClientReport{{KeyValue: []porcupine.Operation{
		lease, at(1, done(2, 0, putOf("a", "1", 7))), at(3, done(0, 0, putOf("b", "2", 7))), at(5, revoke),
		at(7, done(5, 0, putOf("c", "3", 0))), at(9, done(0, 0, putOf("d", "4", 0))), at(11, done(6, 1, deleteOf("c"))),
	}}}
	told, err := newHistory([]report.ClientReport{
		watcher(1, 2, event(2, model.PutOperation, "a", "1"), event(3, model.PutOperation, "b", "2")),
		watcher(2, 3, event(3, model.PutOperation, "b", "2"), event(4, model.DeleteOperation, "a", ""),
			event(4, model.DeleteOperation, "b", ""), event(5, model.PutOperation, "c", "3"), event(6, model.DeleteOperation, "c", "")),
	})
	if err != nil {
		t.Fatal(err)
	}
	if !told.whole(6) || told.whole(7) {
		t.Error("the watches told 2 to 6")
	}
	got, err := told.requests(clients)
	if err != nil {
		t.Fatal(err)
	}
	var kinds []string
	for _, req := range got {
		kinds = append(kinds, string(req.Type))
	}
	if want := "leaseGrant txn txn leaseRevoke txn txn"; strings.Join(kinds, " ") != want {
		t.Errorf("got %v, want %s", kinds, want)
	}
}

func TestHistoryRefuses(t *testing.T) {
	put, other := event(2, model.PutOperation, "a", "1"), event(2, model.PutOperation, "a", "2")
	if _, err := newHistory([]report.ClientReport{watcher(1, 2, put), watcher(2, 2, other)}); err == nil {
		t.Error("two nodes tell of different writes at one revision")
	}
	for name, clients := range map[string][]porcupine.Operation{
		"an answered write is missing":      {done(2, 0, putOf("a", "1", 0)), done(3, 0, putOf("a", "2", 0))},
		"an answered write has other bytes": {done(2, 0, putOf("a", "3", 0))},
		"nobody wrote it":                   {done(0, 0, putOf("b", "1", 0))},
	} {
		told, err := newHistory([]report.ClientReport{watcher(1, 2, put)})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := told.requests([]report.ClientReport{{KeyValue: clients}}); err == nil {
			t.Errorf("%s, and that was not seen", name)
		}
	}
	hole, err := newHistory([]report.ClientReport{watcher(1, 2, put), watcher(1, 4, event(5, model.PutOperation, "a", "2"))})
	if err != nil || hole.whole(5) {
		t.Errorf("a hole at 3 was not seen: %v", err)
	}
}
