package model

import (
	"bytes"
	"cmp"
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

// Watch is what a watch wants to see.
type Watch struct {
	// Key and End are read as in a RangeRequest.
	Key, End []byte
	// Start is the first revision wanted, more than 0.
	Start           int64
	NoPut, NoDelete bool
	PrevKV          bool
}

// NewWatch reads a request that came when current was the newest revision, or
// says as which text it is refused. Ids are left to the caller: they belong to
// a stream.
func NewWatch(r *pb.WatchCreateRequest, current int64) (w Watch, refusal string) {
	w = Watch{Key: r.Key, End: r.RangeEnd, Start: r.StartRevision, PrevKV: r.PrevKv}
	if len(w.Key) == 0 {
		w.Key = []byte{0}
	}
	if w.Start < 0 {
		return w, rpctypes.ErrCompacted.Error()
	}
	unbounded := len(w.End) == 1 && w.End[0] == 0
	if len(w.End) > 0 && !unbounded && bytes.Compare(w.Key, w.End) >= 0 {
		return w, "mvcc: watcher range is empty"
	}
	if w.Start == 0 {
		w.Start = current + 1
	}
	for _, f := range r.Filters {
		w.NoPut = w.NoPut || f == pb.WatchCreateRequest_NOPUT
		w.NoDelete = w.NoDelete || f == pb.WatchCreateRequest_NODELETE
	}
	return w, ""
}

// Wants reports whether the watch is to see a kind of event of a key.
func (w *Watch) Wants(kind mvccpb.Event_EventType, key []byte) bool {
	switch kind {
	case mvccpb.Event_PUT:
		if w.NoPut {
			return false
		}
	case mvccpb.Event_DELETE:
		if w.NoDelete {
			return false
		}
	}
	switch {
	case bytes.Compare(key, w.Key) < 0:
		return false
	case len(w.End) == 0:
		return bytes.Equal(key, w.Key)
	case len(w.End) == 1 && w.End[0] == 0:
		return true
	default:
		return bytes.Compare(key, w.End) < 0
	}
}

// WatchEvents returns what a watch must be given of the revisions in [from,
// upTo], in order.
// REQUIRES: from >= Compacted; what was compacted is forgotten.
func (s *State) WatchEvents(w Watch, from, upTo int64) []*mvccpb.Event {
	from = max(from, w.Start)
	type placed struct {
		main, sub int64
		event     *mvccpb.Event
	}
	var found []placed
	for _, h := range s.spanned(w.Key, w.End) {
		for i := len(h.versions) - 1; i >= 0 && h.versions[i].main >= from; i-- {
			v := &h.versions[i]
			if v.main > upTo {
				continue
			}
			if e := s.event(h, v, w.PrevKV); w.Wants(e.Type, h.key) {
				found = append(found, placed{v.main, v.sub, e})
			}
		}
	}
	slices.SortFunc(found, func(a, b placed) int {
		return cmp.Or(cmp.Compare(a.main, b.main), cmp.Compare(a.sub, b.sub))
	})
	events := make([]*mvccpb.Event, len(found))
	for i, p := range found {
		events[i] = p.event
	}
	return events
}

// event is a version as watches show it. The pair before is the one at the
// revision before, so that a transaction that changes a key twice shows the same
// one twice; a put that creates its key has none, though another may have been
// deleted in the same transaction.
func (s *State) event(h *history, v *version, prev bool) *mvccpb.Event {
	e := &mvccpb.Event{Type: mvccpb.Event_PUT, Kv: v.kv}
	if v.kv == nil {
		e = &mvccpb.Event{Type: mvccpb.Event_DELETE, Kv: &mvccpb.KeyValue{Key: h.key, ModRevision: v.main}}
	}
	if prev && !Creates(e) && v.main-1 >= s.compacted {
		e.PrevKv = h.at(v.main - 1)
	}
	return e
}

// Creates reports whether an event is the first of a key's life.
func Creates(e *mvccpb.Event) bool {
	return e.Type == mvccpb.Event_PUT && e.Kv.CreateRevision == e.Kv.ModRevision
}
