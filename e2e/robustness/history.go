package robustness

import (
	"fmt"
	"maps"
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
	// watchers are the reports that tell it; seen says when the state at a revision, or
	// at a later one, was first seen by anybody, once requests has looked.
	watchers []report.ClientReport
	seen     func(rev int64) int64
}

// span is the revisions from first to last.
type span struct{ first, last int64 }

// newHistory merges the reports of the clients that watched everything. All must
// tell the same.
func newHistory(watchers []report.ClientReport) (*history, error) {
	h := &history{events: make(map[int64][]model.PersistedEvent), owners: make(map[int64]model.EtcdRequest), watchers: watchers}
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
	h.seen = seenAt(clients, h.watchers)
	s.attached(h)
	revs := make([]int64, 0, len(h.events))
	for rev := range h.events {
		revs = append(revs, rev)
	}
	slices.Sort(revs)
	leases := make(map[string]int64) // what each key is attached to
	out := slices.Clone(s.grants)
	for _, rev := range revs {
		req, err := s.find(rev, h.seen(rev), h.events[rev], leases)
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

// replayed holds what the requests did, by etcd's model, against what watches tell.
// Where they begin to differ something was done that nobody asked for, or that the
// model would have refused.
func (h *history) replayed(requests []model.EtcdRequest) error {
	done := make(map[int64][]model.PersistedEvent)
	for _, e := range model.NewReplay(requests).Events {
		done[e.Revision] = append(done[e.Revision], e)
	}
	for _, rev := range slices.Sorted(maps.Keys(h.events)) {
		if want, got := done[rev], h.events[rev]; !slices.Equal(want, got) {
			return fmt.Errorf("revision %d, of %+v: watches tell %+v, and by the model it is %+v", rev, h.owners[rev], got, want)
		}
	}
	return nil
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
	revokes  map[int64]revoke                       // by lease id
	used     map[int64]int64                        // by lease: the last revision that attached a key
	writes   map[int64]model.EtcdRequest            // by the revision of the answer, if they wrote
	grants   []model.EtcdRequest
	compacts []model.EtcdRequest // not answered
}

// revoke is what became of the requests to revoke a lease.
type revoke struct {
	at   int64 // revision of the answer, 0 if there is none
	open bool  // one was not answered, the first of which was called at
	call int64
}

func newSources(clients []report.ClientReport) *sources {
	s := &sources{puts: make(map[model.PutOptions]model.EtcdRequest), revokes: make(map[int64]revoke), used: make(map[int64]int64), writes: make(map[int64]model.EtcdRequest)}
	for _, r := range clients {
		for _, op := range r.KeyValue {
			s.add(op.Call, op.Input.(model.EtcdRequest), op.Output.(model.MaybeEtcdResponse))
		}
	}
	return s
}

func (s *sources) add(call int64, req model.EtcdRequest, resp model.MaybeEtcdResponse) {
	switch req.Type {
	case model.LeaseGrant:
		if req.LeaseGrant.LeaseID != 0 {
			s.grants = append(s.grants, req)
		}
	case model.LeaseRevoke:
		r := s.revokes[req.LeaseRevoke.LeaseID]
		if resp.Error != "" {
			if !r.open || call < r.call {
				r.call = call
			}
			r.open = true
		} else if resp.ClientError == "" {
			r.at = resp.Revision
		}
		s.revokes[req.LeaseRevoke.LeaseID] = r
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

// attached notes when keys were attached to leases for the last time.
func (s *sources) attached(h *history) {
	for rev, events := range h.events {
		for _, e := range events {
			req := s.puts[model.PutOptions{Key: e.Key, Value: e.Value}]
			if e.Type != model.PutOperation || req.Txn == nil {
				continue
			}
			for _, op := range req.Txn.AllOperations() {
				if op.Put.LeaseID != 0 {
					s.used[op.Put.LeaseID] = max(s.used[op.Put.LeaseID], rev)
				}
			}
		}
	}
}

// find returns the request that had these events, which somebody saw at a time.
func (s *sources) find(rev, seen int64, events []model.PersistedEvent, leases map[string]int64) (model.EtcdRequest, error) {
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
	// Only deletes. Those of a revoked lease are all its keys, and no key is attached
	// to it later. If nobody was answered it may have been a delete as well, which makes
	// no difference to anybody.
	lease := leases[events[0].Key]
	var attached []string
	for key, id := range leases {
		if lease != 0 && id == lease {
			attached = append(attached, key)
		}
	}
	r := s.revokes[lease]
	open := r.at == 0 && r.open && r.call < seen && s.used[lease] < rev
	if (r.at == rev || open) && len(attached) == len(events) {
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
