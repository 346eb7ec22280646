package robustness

import (
	"github.com/anishathalye/porcupine"
	"go.etcd.io/etcd/tests/v3/robustness/model"
	"go.etcd.io/etcd/tests/v3/robustness/report"
)

// prune leaves out deletes and revokes that were not answered and did nothing:
// whatever they could have deleted was deleted by an answered request, or is there
// still. A request whose end nobody saw and that changed nothing says nothing; and
// the search for an order of all requests doubles with each of them.
//
// Requests with puts are left to etcd's validators, which find them by their
// unique values.
// REQUIRES: told.requests has found the requests.
func prune(clients []report.ClientReport, told *history) []report.ClientReport {
	l := newLoose(clients, told)
	out := make([]report.ClientReport, len(clients))
	for i, r := range clients {
		out[i] = report.ClientReport{ClientID: r.ClientID, Watch: r.Watch}
		for _, op := range r.KeyValue {
			if !l.idle(op) {
				out[i].KeyValue = append(out[i].KeyValue, op)
			}
		}
	}
	return out
}

// loose is what was deleted by requests that were not answered.
type loose struct {
	keys   map[string]bool
	leases map[int64]bool
}

func newLoose(clients []report.ClientReport, told *history) loose {
	answered := make(map[int64]bool) // revisions of answered writes
	for _, r := range clients {
		for _, op := range r.KeyValue {
			req, resp := op.Input.(model.EtcdRequest), op.Output.(model.MaybeEtcdResponse)
			switch owner := told.owners[resp.Revision]; {
			case req.Txn != nil && wrote(req, resp):
				answered[resp.Revision] = true
			case req.LeaseRevoke != nil && resp.Error == "" && owner.LeaseRevoke != nil && *owner.LeaseRevoke == *req.LeaseRevoke:
				answered[resp.Revision] = true
			}
		}
	}
	l := loose{keys: make(map[string]bool), leases: make(map[int64]bool)}
	for rev, owner := range told.owners {
		switch {
		case answered[rev]:
		case owner.LeaseRevoke != nil:
			l.leases[owner.LeaseRevoke.LeaseID] = true
		default:
			for _, e := range told.events[rev] {
				if e.Type == model.DeleteOperation {
					l.keys[e.Key] = true
				}
			}
		}
	}
	return l
}

// idle says whether an operation is one to leave out.
func (l loose) idle(op porcupine.Operation) bool {
	req, resp := op.Input.(model.EtcdRequest), op.Output.(model.MaybeEtcdResponse)
	switch {
	case resp.Error == "":
		return false
	case req.LeaseRevoke != nil:
		return !l.leases[req.LeaseRevoke.LeaseID]
	case req.Txn == nil:
		return false
	}
	for _, o := range req.Txn.AllOperations() {
		if o.Type == model.PutOperation || o.Type == model.DeleteOperation && l.keys[o.Delete.Key] {
			return false
		}
	}
	return true
}
