package robustness

import (
	"fmt"
	"slices"
	"sort"
	"time"

	"go.etcd.io/etcd/tests/v3/robustness/model"
	"go.etcd.io/etcd/tests/v3/robustness/report"
)

// history is what was written, as the watches of all nodes tell it.
type history struct {
	events map[int64][]model.PersistedEvent // by revision, in the order of the answer
	told   []span                           // what some watch told all of
	owners map[int64]model.EtcdRequest      // by revision, once requests has found them
}

// span is the revisions from first to last.
type span struct{ first, last int64 }

// newHistory merges the reports of the clients that watched everything. All must
// tell the same.
func newHistory(watchers []report.ClientReport) (*history, error) {
	h := &history{events: make(map[int64][]model.PersistedEvent), owners: make(map[int64]model.EtcdRequest)}
	for _, r := range watchers {
		seen := make(map[int64][]model.PersistedEvent)
		for _, w := range r.Watch {
			told := span{first: w.Request.Revision}
			for _, resp := range w.Responses {
				for _, e := range resp.Events {
					seen[e.Revision] = append(seen[e.Revision], e.PersistedEvent)
					told.last = e.Revision
				}
			}
			h.told = append(h.told, told)
		}
		for rev, events := range seen {
			if other, ok := h.events[rev]; ok && !slices.Equal(other, events) {
				return nil, fmt.Errorf("revision %d: client %d was told %+v, another %+v", rev, r.ClientID, events, other)
			}
			h.events[rev] = events
		}
	}
	return h, nil
}

// whole says whether the watches together told all revisions to the last. A watch
// that was broken and goes on behind a compaction leaves a hole.
func (h *history) whole(last int64) bool {
	told := slices.Clone(h.told)
	sort.Slice(told, func(i, j int) bool { return told[i].first < told[j].first })
	next := int64(2)
	for _, s := range told {
		if s.first <= next {
			next = max(next, s.last+1)
		}
	}
	return next > last
}

// used are the revisions of all writes.
func (h *history) used() map[int64]bool {
	used := make(map[int64]bool)
	for rev := range h.events {
		used[rev] = true
	}
	return used
}

// requests finds the request behind each revision. clients are the reports of
// those who wrote.
func (h *history) requests(clients []report.ClientReport) ([]model.EtcdRequest, error) {
	s := newSources(clients)
	if err := s.answered(h); err != nil {
		return nil, err
	}
	revs := make([]int64, 0, len(h.events))
	for rev := range h.events {
		revs = append(revs, rev)
	}
	slices.Sort(revs)
	leases := make(map[string]int64) // what each key is attached to
	out := slices.Clone(s.grants)
	for _, rev := range revs {
		req, err := s.find(rev, h.events[rev], leases)
		if err != nil {
			return nil, err
		}
		h.owners[rev] = req
		for _, e := range h.events[rev] {
			delete(leases, e.Key)
		}
		if req.Txn != nil {
			for _, op := range req.Txn.AllOperations() {
				if op.Type == model.PutOperation && op.Put.LeaseID != 0 {
					leases[op.Put.Key] = op.Put.LeaseID
				}
			}
		}
		out = append(out, req)
	}
	// The validators take a compaction that is not in this list, and was not
	// answered, for one that never was; its place says when it was. Those that
	// nobody knows about go last, where they say nothing.
	return append(out, s.compacts...), nil
}

// holdMin is how long a transaction over ranges holds back others at first; one
// that takes longer may lose its revision and take another.
const holdMin = 50 * time.Millisecond

// stalls counts the requests over several keys that may have lost a revision.
func stalls(clients []report.ClientReport) (n int64) {
	for _, r := range clients {
		for _, op := range r.KeyValue {
			req, resp := op.Input.(model.EtcdRequest), op.Output.(model.MaybeEtcdResponse)
			if several(req) && (resp.Error != "" || op.Return-op.Call > int64(holdMin)) {
				n++
			}
		}
	}
	return n
}

// several says whether a request may touch more than one range.
func several(req model.EtcdRequest) bool {
	if req.Txn == nil {
		return req.LeaseRevoke != nil
	}
	keys := make(map[string]bool)
	for _, c := range req.Txn.Conditions {
		keys[c.Key] = true
	}
	for _, op := range req.Txn.AllOperations() {
		keys[op.Range.Start+op.Put.Key+op.Delete.Key] = true // two of them are empty
	}
	return len(keys) > 1
}

// sources are the requests that clients sent, by what they leave behind.
type sources struct {
	puts     map[model.PutOptions]model.EtcdRequest // lease 0: events have none
	revokes  map[int64]bool                         // lease ids
	writes   map[int64]model.EtcdRequest            // by the revision of the answer, if they wrote
	grants   []model.EtcdRequest
	compacts []model.EtcdRequest // not answered
}

func newSources(clients []report.ClientReport) *sources {
	s := &sources{puts: make(map[model.PutOptions]model.EtcdRequest), revokes: make(map[int64]bool), writes: make(map[int64]model.EtcdRequest)}
	for _, r := range clients {
		for _, op := range r.KeyValue {
			s.add(op.Input.(model.EtcdRequest), op.Output.(model.MaybeEtcdResponse))
		}
	}
	return s
}

func (s *sources) add(req model.EtcdRequest, resp model.MaybeEtcdResponse) {
	switch req.Type {
	case model.LeaseGrant:
		if req.LeaseGrant.LeaseID != 0 {
			s.grants = append(s.grants, req)
		}
	case model.LeaseRevoke:
		s.revokes[req.LeaseRevoke.LeaseID] = true
	case model.Compact:
		if resp.Error != "" {
			s.compacts = append(s.compacts, req)
		}
	case model.Txn:
		for _, op := range req.Txn.AllOperations() {
			if op.Type == model.PutOperation {
				s.puts[model.PutOptions{Key: op.Put.Key, Value: op.Put.Value}] = req
			}
		}
		if wrote(req, resp) {
			s.writes[resp.Revision] = req
		}
	}
}

// wrote says whether an answer tells of a write.
func wrote(req model.EtcdRequest, resp model.MaybeEtcdResponse) bool {
	if resp.Error != "" || resp.ClientError != "" || resp.EtcdResponse.Txn == nil {
		return false
	}
	ops := req.Txn.OperationsOnSuccess
	if resp.EtcdResponse.Txn.Failure {
		ops = req.Txn.OperationsOnFailure
	}
	for i, op := range ops {
		if op.Type == model.PutOperation || op.Type == model.DeleteOperation && resp.EtcdResponse.Txn.Results[i].Deleted > 0 {
			return true
		}
	}
	return false
}

// answered holds the answers of writes against what watches tell.
func (s *sources) answered(h *history) error {
	for rev, req := range s.writes {
		events, ok := h.events[rev]
		if !ok {
			return fmt.Errorf("revision %d was answered to %+v and no watch tells of it", rev, *req.Txn)
		}
		for _, e := range events {
			if e.Type == model.PutOperation && s.puts[model.PutOptions{Key: e.Key, Value: e.Value}].Txn != req.Txn {
				return fmt.Errorf("revision %d was answered to %+v, and watches tell of %+v", rev, *req.Txn, e)
			}
		}
	}
	return nil
}

// find returns the request that had these events.
func (s *sources) find(rev int64, events []model.PersistedEvent, leases map[string]int64) (model.EtcdRequest, error) {
	if req, ok := s.writes[rev]; ok {
		return req, nil
	}
	for _, e := range events {
		if e.Type == model.PutOperation {
			if req, ok := s.puts[model.PutOptions{Key: e.Key, Value: e.Value}]; ok {
				return req, nil
			}
			return model.EtcdRequest{}, fmt.Errorf("revision %d: nobody wrote %+v", rev, e)
		}
	}
	// Only deletes. Those of a revoked lease are all its keys.
	lease := leases[events[0].Key]
	var attached []string
	for key, id := range leases {
		if lease != 0 && id == lease {
			attached = append(attached, key)
		}
	}
	if s.revokes[lease] && len(attached) == len(events) {
		return model.EtcdRequest{Type: model.LeaseRevoke, LeaseRevoke: &model.LeaseRevokeRequest{LeaseID: lease}}, nil
	}
	txn := &model.TxnRequest{}
	for _, e := range events {
		txn.OperationsOnSuccess = append(txn.OperationsOnSuccess,
			model.EtcdOperation{Type: model.DeleteOperation, Delete: model.DeleteOptions{Key: e.Key}})
	}
	sort.Slice(txn.OperationsOnSuccess, func(i, j int) bool {
		return txn.OperationsOnSuccess[i].Delete.Key < txn.OperationsOnSuccess[j].Delete.Key
	})
	return model.EtcdRequest{Type: model.Txn, Txn: txn}, nil
}
