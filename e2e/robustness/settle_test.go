package robustness

import (
	"testing"

	"github.com/anishathalye/porcupine"
	"go.etcd.io/etcd/tests/v3/robustness/model"
	"go.etcd.io/etcd/tests/v3/robustness/report"
)

// at gives a request its time.
func at(call int64, op porcupine.Operation) porcupine.Operation {
	op.Call, op.Return = call, call+1
	return op
}

func revokeOf(revision, lease int64) porcupine.Operation {
	out := model.MaybeEtcdResponse{Error: "lost"}
	if revision != 0 {
		out = model.MaybeEtcdResponse{EtcdResponse: model.EtcdResponse{Revision: revision, LeaseRevoke: &model.LeaseRevokeResponse{}}}
	}
	return porcupine.Operation{Output: out,
		Input: model.EtcdRequest{Type: model.LeaseRevoke, LeaseRevoke: &model.LeaseRevokeRequest{LeaseID: lease}}}
}

func told(t *testing.T, clients []report.ClientReport, events ...model.WatchEvent) *history {
	t.Helper()
	h, err := newHistory([]report.ClientReport{watcher(1, 2, events...)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.requests(clients); err != nil {
		t.Fatal(err)
	}
	return h
}

// a was deleted once, by the request that was answered; b twice, by two of three that
// were not, the third of which came later; c never; d was put by one of two; e was
// deleted by one of two that also wanted something else.
func TestSettle(t *testing.T) {
	ops := []porcupine.Operation{
		at(0, done(2, 1, deleteOf("a"))), at(2, done(0, 0, deleteOf("a"))), at(4, done(0, 0, deleteOf("b"))), at(6, done(0, 0, deleteOf("b"))),
		at(8, done(0, 0, deleteOf("c"))), at(10, done(0, 0, deleteOf("c"), putOf("d", "1", 0))), at(12, done(0, 0, deleteOf("a"), putOf("d", "2", 0))),
		at(14, done(0, 0, deleteOf("e"), deleteOf("a"))), at(16, done(0, 0, deleteOf("e"), deleteOf("c"))), at(18, done(7, 0, putOf("f", "1", 0))),
		at(20, done(0, 0, deleteOf("b"))), at(22, porcupine.Operation{Input: model.EtcdRequest{Type: model.LeaseGrant, LeaseGrant: &model.LeaseGrantRequest{}},
			Output: model.MaybeEtcdResponse{Error: "lost"}}),
	}
	clients := []report.ClientReport{{KeyValue: ops}}
	h := told(t, clients, event(2, model.DeleteOperation, "a", ""), event(3, model.DeleteOperation, "b", ""), event(4, model.DeleteOperation, "b", ""),
		event(5, model.PutOperation, "d", "1"), event(6, model.DeleteOperation, "e", ""), event(7, model.PutOperation, "f", "1"))
	got, err := settle(clients, h)
	if err != nil {
		t.Fatal(err)
	}
	want := map[int64]int64{0: 2, 4: 3, 6: 4, 10: 5, 14: 0, 16: 0, 18: 7} // revisions by call, 0 is open
	for _, op := range got[0].KeyValue {
		resp := op.Output.(model.MaybeEtcdResponse)
		rev, ok := want[op.Call]
		if !ok || resp.Revision+resp.PersistedRevision != rev || (rev == 0) != (resp.Error != "") {
			t.Errorf("%d: %+v, want revision %d", op.Call, resp, rev)
		}
		delete(want, op.Call)
	}
	if len(want) > 0 {
		t.Errorf("missing: %v", want)
	}
}

// Nobody wanted what was done: it was asked for after it was seen.
func TestSettleNobody(t *testing.T) {
	clients := []report.ClientReport{{KeyValue: []porcupine.Operation{
		at(0, done(2, 0, putOf("a", "1", 0))), at(2, done(4, 0, putOf("b", "1", 0))), at(4, done(0, 0, deleteOf("a"))),
	}}}
	h := told(t, clients, event(2, model.PutOperation, "a", "1"), event(3, model.DeleteOperation, "a", ""), event(4, model.PutOperation, "b", "1"))
	if _, err := settle(clients, h); err == nil {
		t.Error("a delete before its request was not seen")
	}
}

// The only key of a lease is deleted by a request that was not answered, long before
// the lease is revoked.
func TestDeleteOfLeasedKey(t *testing.T) {
	lease := porcupine.Operation{Output: model.MaybeEtcdResponse{},
		Input: model.EtcdRequest{Type: model.LeaseGrant, LeaseGrant: &model.LeaseGrantRequest{LeaseID: 7}}}
	clients := []report.ClientReport{{KeyValue: []porcupine.Operation{
		lease, at(2, done(2, 0, putOf("a", "1", 7))), at(4, done(0, 0, deleteOf("a"))), at(6, done(4, 0, putOf("a", "2", 7))), at(8, revokeOf(5, 7)),
	}}}
	h := told(t, clients, event(2, model.PutOperation, "a", "1"), event(3, model.DeleteOperation, "a", ""),
		event(4, model.PutOperation, "a", "2"), event(5, model.DeleteOperation, "a", ""))
	if h.owners[3].Txn == nil || h.owners[5].LeaseRevoke == nil {
		t.Errorf("revisions 3 and 5 are of %+v and %+v", h.owners[3], h.owners[5])
	}
}
