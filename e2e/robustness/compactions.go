package robustness

import (
	"github.com/anishathalye/porcupine"
	"go.etcd.io/etcd/server/v3/storage/mvcc"
	"go.etcd.io/etcd/tests/v3/robustness/model"
	"go.etcd.io/etcd/tests/v3/robustness/report"
)

// settleCompactions leaves out the compactions that were not answered and that explain
// nothing. All that clients see of a compaction is that something is refused as
// compacted: one that no refusal needs may as well not have happened. etcd's checker
// would try all moments for it, in all combinations with others, and run out of memory.
func settleCompactions(clients []report.ClientReport) []report.ClientReport {
	var made, open, refused []porcupine.Operation
	for _, r := range clients {
		for _, op := range r.KeyValue {
			req, resp := op.Input.(model.EtcdRequest), op.Output.(model.MaybeEtcdResponse)
			switch {
			case resp.ClientError == mvcc.ErrCompacted.Error():
				refused = append(refused, op)
			case req.Compact == nil || resp.ClientError != "":
			case resp.Error != "":
				open = append(open, op)
			default:
				made = append(made, op)
			}
		}
	}
	needed := make(map[requestName]bool)
	for _, x := range refused {
		if len(explaining(x, made)) > 0 {
			continue
		}
		for _, op := range explaining(x, open) {
			needed[nameOf(op)] = true
		}
	}
	out := make([]report.ClientReport, len(clients))
	for i, r := range clients {
		out[i] = report.ClientReport{ClientID: r.ClientID, Watch: r.Watch}
		for _, op := range r.KeyValue {
			req, resp := op.Input.(model.EtcdRequest), op.Output.(model.MaybeEtcdResponse)
			if req.Compact == nil || resp.Error == "" || needed[nameOf(op)] {
				out[i].KeyValue = append(out[i].KeyValue, op)
			}
		}
	}
	return out
}

// explaining returns those of some compactions for which a request may have been
// refused as compacted.
func explaining(refused porcupine.Operation, compactions []porcupine.Operation) (found []porcupine.Operation) {
	req := refused.Input.(model.EtcdRequest)
	for _, op := range compactions {
		to := op.Input.(model.EtcdRequest).Compact.Revision
		switch {
		case op.Call >= refused.Return:
		case req.Compact != nil && req.Compact.Revision <= to,
			req.Range != nil && req.Range.Revision < to:
			found = append(found, op)
		}
	}
	return found
}

// requestName tells a request from all others of a run.
type requestName struct {
	client int
	call   int64
}

func nameOf(op porcupine.Operation) requestName { return requestName{op.ClientId, op.Call} }
