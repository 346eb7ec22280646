package robustness

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/anishathalye/porcupine"
	"go.etcd.io/etcd/tests/v3/robustness/model"
	"go.etcd.io/etcd/tests/v3/robustness/report"
)

// settle says of the requests that were not answered which of them did what, and
// leaves out those that did nothing. The watches tell all that was done: a put is
// known by its value, which is unique; a delete, or a revoke, that nobody was
// answered is of one of those who asked for it before it was seen. Where several asked
// for the same it does not matter which of them it was, so it is the first. Where they
// asked for different things it is left open, and etcd's checker tries all.
//
// etcd's validators would do the same for some of the puts. For the rest they look for
// an order of all requests, of which each that may have happened doubles the search.
// REQUIRES: told.requests has found the requests.
func settle(clients []report.ClientReport, told *history) ([]report.ClientReport, error) {
	s := &settling{told: told, seen: told.seen, puts: make(map[model.PutOptions]int64)}
	for rev, events := range told.events {
		for _, e := range events {
			if e.Type == model.PutOperation {
				s.puts[model.PutOptions{Key: e.Key, Value: e.Value}] = rev
			}
		}
	}
	answered := make(map[int64]bool) // revisions of answered writes
	for _, r := range clients {
		for _, op := range r.KeyValue {
			s.add(op, answered)
		}
	}
	slices.SortFunc(s.open, func(a, b *unsettled) int { return cmp.Compare(a.op.Call, b.op.Call) })
	for _, rev := range slices.Sorted(maps.Keys(told.events)) {
		if !answered[rev] && !s.put(rev) {
			if err := s.settle(rev); err != nil {
				return nil, err
			}
		}
	}
	return settleCompactions(s.reports(clients)), nil
}

// unsettled is a request that was not answered.
type unsettled struct {
	op      porcupine.Operation
	rev     int64  // what it did, 0: nothing
	vague   bool   // it may have done something
	deletes string // what it was to do, for people and to compare
	keys    map[string]bool
}

type settling struct {
	told *history
	seen func(rev int64) int64
	puts map[model.PutOptions]int64 // revisions
	open []*unsettled               // by call
}

// add takes in a request.
func (s *settling) add(op porcupine.Operation, answered map[int64]bool) {
	req, resp := op.Input.(model.EtcdRequest), op.Output.(model.MaybeEtcdResponse)
	if resp.Error == "" {
		owner := s.told.owners[resp.Revision]
		if wrote(req, resp) || req.LeaseRevoke != nil && owner.LeaseRevoke != nil && *owner.LeaseRevoke == *req.LeaseRevoke {
			answered[resp.Revision] = true
		}
		return
	}
	u := &unsettled{op: op, keys: make(map[string]bool)}
	switch {
	case req.LeaseRevoke != nil:
		u.deletes = fmt.Sprintf("%+v", *req.LeaseRevoke)
	case req.Txn != nil:
		u.deletes = fmt.Sprintf("%+v", *req.Txn)
		for _, branch := range [][]model.EtcdOperation{req.Txn.OperationsOnSuccess, req.Txn.OperationsOnFailure} {
			s.addBranch(u, branch)
		}
	default:
		return
	}
	s.open = append(s.open, u)
}

// addBranch notes what a branch of a transaction could have done.
func (s *settling) addBranch(u *unsettled, branch []model.EtcdOperation) {
	for _, o := range branch {
		if o.Type == model.PutOperation {
			if rev := s.puts[model.PutOptions{Key: o.Put.Key, Value: o.Put.Value}]; rev != 0 {
				u.rev = rev
			}
			return // without its put it was not done
		}
	}
	for _, o := range branch {
		if o.Type == model.DeleteOperation {
			u.keys[o.Delete.Key] = true
		}
	}
}

// put says whether a revision has a put, whose request is known.
func (s *settling) put(rev int64) bool {
	return slices.ContainsFunc(s.told.events[rev], func(e model.PersistedEvent) bool { return e.Type == model.PutOperation })
}

// settle finds out who deleted what was deleted at a revision.
func (s *settling) settle(rev int64) error {
	var found []*unsettled
	same := true
	for _, u := range s.open {
		if u.rev == 0 && u.op.Call < s.seen(rev) && s.could(u, rev) {
			same = same && !u.vague && (len(found) == 0 || found[0].deletes == u.deletes)
			found = append(found, u)
		}
	}
	switch {
	case len(found) == 0:
		return fmt.Errorf("revision %d, seen at %v: nobody deleted %+v", rev, time.Duration(s.seen(rev)), s.told.events[rev])
	case same:
		found[0].rev = rev
		return nil
	}
	for _, u := range found {
		u.vague = true
	}
	return nil
}

// could says whether a request can be the one of a revision.
func (s *settling) could(u *unsettled, rev int64) bool {
	req := u.op.Input.(model.EtcdRequest)
	if owner := s.told.owners[rev]; owner.LeaseRevoke != nil || req.LeaseRevoke != nil {
		return owner.LeaseRevoke != nil && req.LeaseRevoke != nil && *owner.LeaseRevoke == *req.LeaseRevoke
	}
	for _, e := range s.told.events[rev] {
		if !u.keys[e.Key] {
			return false
		}
	}
	return true
}

// reports are those of the clients, with what is known now.
func (s *settling) reports(clients []report.ClientReport) []report.ClientReport {
	settled := make(map[requestName]*unsettled)
	for _, u := range s.open {
		settled[nameOf(u.op)] = u
	}
	out := make([]report.ClientReport, len(clients))
	for i, r := range clients {
		out[i] = report.ClientReport{ClientID: r.ClientID, Watch: r.Watch}
		for _, op := range r.KeyValue {
			req, resp := op.Input.(model.EtcdRequest), op.Output.(model.MaybeEtcdResponse)
			switch u := settled[nameOf(op)]; {
			case u != nil && u.rev != 0:
				op.Output = model.MaybeEtcdResponse{Persisted: true, PersistedRevision: u.rev}
				op.Return = max(s.seen(u.rev), op.Call+1)
			case u != nil && !u.vague:
				continue // it did nothing
			case req.LeaseGrant != nil && resp.Error != "":
				continue // nobody knows the lease's id
			}
			out[i].KeyValue = append(out[i].KeyValue, op)
		}
	}
	return out
}

// seenAt returns when somebody is first known to have seen the state at a revision,
// or at a later one.
func seenAt(clients, watchers []report.ClientReport) func(rev int64) int64 {
	first := make(map[int64]int64)
	note := func(rev, at int64) {
		if old, ok := first[rev]; !ok || at < old {
			first[rev] = at
		}
	}
	for _, r := range slices.Concat(clients, watchers) {
		for _, op := range r.KeyValue {
			if resp := op.Output.(model.MaybeEtcdResponse); resp.Error == "" {
				note(resp.Revision, op.Return)
			}
		}
		for _, w := range r.Watch {
			for _, resp := range w.Responses {
				for _, e := range resp.Events {
					note(e.Revision, int64(resp.Time))
				}
			}
		}
	}
	revs := slices.Sorted(maps.Keys(first))
	for i := len(revs) - 2; i >= 0; i-- {
		first[revs[i]] = min(first[revs[i]], first[revs[i+1]])
	}
	return func(rev int64) int64 {
		i, _ := slices.BinarySearch(revs, rev)
		if i == len(revs) {
			return math.MaxInt64
		}
		return first[revs[i]]
	}
}
