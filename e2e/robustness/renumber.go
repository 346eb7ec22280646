package robustness

import (
	"slices"
	"sort"

	"github.com/anishathalye/porcupine"
	"go.etcd.io/etcd/server/v3/storage/mvcc"
	"go.etcd.io/etcd/tests/v3/robustness/model"
	"go.etcd.io/etcd/tests/v3/robustness/report"
)

// numbering turns revisions into those of a history without gaps. Order stays:
// what was before something else is before it or, if nothing was written in
// between, at the same revision.
type numbering struct {
	used []int64 // the revisions of all writes, rising; the first is above 1
}

func newNumbering(used map[int64]bool) numbering {
	var n numbering
	for rev := range used {
		n.used = append(n.used, rev)
	}
	slices.Sort(n.used)
	return n
}

// gaps counts the revisions below the highest that no write has.
func (n numbering) gaps() int64 {
	if len(n.used) == 0 {
		return 0
	}
	return n.used[len(n.used)-1] - 1 - int64(len(n.used))
}

// missing are the first of them, at most so many.
func (n numbering) missing(most int) (out []int64) {
	next := int64(2)
	for _, rev := range n.used {
		for ; next < rev && len(out) < most; next++ {
			out = append(out, next)
		}
		next = rev + 1
	}
	return out
}

// at is the number of the state at rev. 0 and below are not revisions and stay.
func (n numbering) at(rev int64) int64 {
	if rev <= 1 {
		return rev
	}
	return 1 + int64(sort.Search(len(n.used), func(i int) bool { return n.used[i] > rev }))
}

// from is the number of the first write at or above rev.
func (n numbering) from(rev int64) int64 {
	if rev <= 1 {
		return rev
	}
	return n.at(rev-1) + 1
}

// reports returns copies with all revisions numbered anew. Compactions at revisions
// that have the same number are one: the first of them compacts, the others have
// nothing left to do, which the model would call a mistake.
func (n numbering) reports(in []report.ClientReport) []report.ClientReport {
	first := make(map[int64]int64) // by number
	for _, r := range in {
		for _, op := range r.KeyValue {
			if rev, ok := compacted(op); ok && (first[n.at(rev)] == 0 || rev < first[n.at(rev)]) {
				first[n.at(rev)] = rev
			}
		}
	}
	out := make([]report.ClientReport, len(in))
	for i, r := range in {
		out[i] = report.ClientReport{ClientID: r.ClientID}
		for _, op := range r.KeyValue {
			if rev, ok := compacted(op); !ok || rev == first[n.at(rev)] {
				out[i].KeyValue = append(out[i].KeyValue, n.operation(op))
			}
		}
		for _, w := range r.Watch {
			out[i].Watch = append(out[i].Watch, n.watch(w))
		}
	}
	return out
}

// compacted returns the revision of an operation that compacted.
func compacted(op porcupine.Operation) (rev int64, ok bool) {
	req, resp := op.Input.(model.EtcdRequest), op.Output.(model.MaybeEtcdResponse)
	if req.Compact == nil || resp.Error != "" || resp.ClientError != "" {
		return 0, false
	}
	return req.Compact.Revision, true
}

func (n numbering) operation(op porcupine.Operation) porcupine.Operation {
	response := op.Output.(model.MaybeEtcdResponse)
	op.Input = n.request(op.Input.(model.EtcdRequest), response)
	response = n.response(response)
	op.Output = response
	if _, ok := op.Metadata.(model.MaybeEtcdResponse); ok {
		op.Metadata = response
	}
	return op
}

// request numbers what a client asked for.
func (n numbering) request(req model.EtcdRequest, answer model.MaybeEtcdResponse) model.EtcdRequest {
	switch {
	case req.Range != nil:
		r := *req.Range
		r.Revision = n.at(r.Revision)
		req.Range = &r
	case req.Compact != nil:
		// In a gap above everything that was there, or below?
		c := *req.Compact
		if answer.ClientError == mvcc.ErrFutureRev.Error() {
			c.Revision = n.from(c.Revision)
		} else {
			c.Revision = n.at(c.Revision)
		}
		req.Compact = &c
	case req.Txn != nil:
		t := *req.Txn
		t.Conditions = slices.Clone(t.Conditions)
		for i := range t.Conditions {
			t.Conditions[i].ExpectedRevision = n.at(t.Conditions[i].ExpectedRevision)
		}
		req.Txn = &t
	}
	return req
}

func (n numbering) response(resp model.MaybeEtcdResponse) model.MaybeEtcdResponse {
	resp.Revision = n.at(resp.Revision)
	resp.PersistedRevision = n.at(resp.PersistedRevision)
	if resp.Range != nil {
		r := n.rangeResponse(*resp.Range)
		resp.Range = &r
	}
	if resp.Txn != nil {
		t := *resp.Txn
		t.Results = slices.Clone(t.Results)
		for i := range t.Results {
			t.Results[i].RangeResponse = n.rangeResponse(t.Results[i].RangeResponse)
		}
		resp.Txn = &t
	}
	return resp
}

func (n numbering) rangeResponse(resp model.RangeResponse) model.RangeResponse {
	resp.KVs = slices.Clone(resp.KVs)
	for i := range resp.KVs {
		resp.KVs[i].ModRevision = n.at(resp.KVs[i].ModRevision)
	}
	return resp
}

func (n numbering) watch(w model.WatchOperation) model.WatchOperation {
	w.Request.Revision = n.from(w.Request.Revision)
	w.Responses = slices.Clone(w.Responses)
	for i := range w.Responses {
		resp := &w.Responses[i]
		resp.Revision = n.at(resp.Revision)
		resp.Events = slices.Clone(resp.Events)
		for j := range resp.Events {
			e := &resp.Events[j]
			e.Revision = n.at(e.Revision)
			if e.PrevValue != nil {
				prev := *e.PrevValue
				prev.ModRevision = n.at(prev.ModRevision)
				e.PrevValue = &prev
			}
		}
	}
	return w
}
