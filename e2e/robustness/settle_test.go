package robustness

import (
	"slices"
	"testing"

	"github.com/anishathalye/porcupine"
	"go.etcd.io/etcd/server/v3/storage/mvcc"
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

func compactTo(revision int64, clientError, lost string) porcupine.Operation {
	return porcupine.Operation{Input: model.EtcdRequest{Type: model.Compact, Compact: &model.CompactRequest{Revision: revision}},
		Output: model.MaybeEtcdResponse{EtcdResponse: model.EtcdResponse{ClientError: clientError}, Error: lost}}
}

func readAt(revision int64, clientError string) porcupine.Operation {
	return porcupine.Operation{Input: model.EtcdRequest{Type: model.Range, Range: &model.RangeRequest{Revision: revision}},
		Output: model.MaybeEtcdResponse{EtcdResponse: model.EtcdResponse{ClientError: clientError}}}
}

// Compactions that were not answered stay only where something was refused that no
// answered one explains.
func TestSettleCompactions(t *testing.T) {
	compacted, future := mvcc.ErrCompacted.Error(), mvcc.ErrFutureRev.Error()
	ops := []porcupine.Operation{
		at(0, compactTo(5, "", "")), at(2, compactTo(5, compacted, "")),
		at(4, compactTo(8, "", "lost")),  // explains nothing: what is refused below 8 is refused for 10
		at(6, compactTo(10, "", "lost")), // explains the read at 9
		at(8, readAt(9, compacted)),
		at(10, compactTo(9, future, "")), at(12, readAt(4, compacted)),
		at(14, compactTo(30, "", "lost")), at(16, compactTo(20, "", "")), at(18, compactTo(20, compacted, "")),
		at(20, compactTo(40, "", "lost")), // later than all refusals
	}
	got := settleCompactions([]report.ClientReport{{KeyValue: ops}})
	left := map[int64]bool{4: true, 14: true, 20: true}
	for _, op := range ops {
		kept := slices.ContainsFunc(got[0].KeyValue, func(o porcupine.Operation) bool { return o.Call == op.Call })
		if kept == left[op.Call] {
			t.Errorf("%d: %v is kept: %v", op.Call, op.Input, kept)
		}
	}
}
