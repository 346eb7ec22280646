package model

import (
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"
)

// past is a short history: a and b are put at 2 and 3, a transaction at 4 puts a,
// deletes b and creates c, and a is put at 5.
func past(t *testing.T) *State {
	t.Helper()
	s := mustNew(t)
	put := func(key, value string) *pb.PutRequest {
		return &pb.PutRequest{Key: []byte(key), Value: []byte(value)}
	}
	for _, req := range []any{
		put("a", "1"), put("b", "1"),
		&pb.TxnRequest{Success: []*pb.RequestOp{
			{Request: &pb.RequestOp_RequestPut{RequestPut: put("a", "2")}},
			{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: &pb.DeleteRangeRequest{Key: []byte("b")}}},
			{Request: &pb.RequestOp_RequestPut{RequestPut: put("c", "1")}},
		}},
		put("a", "3"),
	} {
		next, _, err := Step(s, req)
		if err != nil {
			t.Fatal(err)
		}
		s = next
	}
	return s
}

// record is what a good server gives to a watch: a response for each revision,
// the last with a bookmark after it.
func record(s *State, w Watch) *WatchRecord {
	r := &WatchRecord{Watch: w, Complete: s.Revision()}
	for _, e := range s.WatchEvents(w, w.Start, s.Revision()) {
		n := len(r.Responses)
		if n == 0 || r.Responses[n-1].Events[0].Kv.ModRevision != e.Kv.ModRevision {
			r.Responses = append(r.Responses, WatchResponse{})
			n++
		}
		r.Responses[n-1].Events = append(r.Responses[n-1].Events, proto.CloneOf(e))
	}
	r.Responses = append(r.Responses, WatchResponse{Bookmark: s.Revision()})
	return r
}

// Each check is shown a history that breaks its promise and must refuse it. The
// history as it should be passes all of them.
func TestWatchChecks(t *testing.T) {
	s := past(t)
	all := Watch{Key: []byte{0}, End: []byte{0}, Start: 2, PrevKV: true}
	if err := CheckWatch(s, record(s, all)); err != nil {
		t.Fatal(err)
	}
	type responses = []WatchResponse
	bad := []struct {
		check, what string
		watch       Watch
		spoil       func(r *WatchRecord)
	}{
		{"filter", "another key's event", Watch{Key: []byte("a"), Start: 2}, func(r *WatchRecord) {
			r.Responses[0].Events[0].Kv.Key = []byte("b")
		}},
		{"filter", "a delete in spite of NODELETE", Watch{Key: []byte("a"), End: []byte("d"), Start: 2, NoDelete: true}, func(r *WatchRecord) {
			r.Responses[0].Events[0].Type = mvccpb.Event_DELETE
		}},
		{"ordered", "an older revision after a newer one", all, func(r *WatchRecord) {
			r.Responses[0], r.Responses[1] = r.Responses[1], r.Responses[0]
		}},
		{"ordered", "a revision's events in another order", all, func(r *WatchRecord) {
			e := r.Responses[2].Events
			e[0], e[2] = e[2], e[0]
		}},
		{"unique", "an event twice in a response", all, func(r *WatchRecord) {
			r.Responses[0].Events = append(r.Responses[0].Events, r.Responses[0].Events[0])
		}},
		{"unique", "a response twice", all, func(r *WatchRecord) {
			r.Responses = append(responses{r.Responses[0]}, r.Responses...)
		}},
		{"atomic", "a revision in two responses", all, func(r *WatchRecord) {
			whole := r.Responses[2].Events
			r.Responses = append(responses{r.Responses[0], r.Responses[1], {Events: whole[:1]}, {Events: whole[1:]}}, r.Responses[3:]...)
		}},
		{"atomic", "half a revision at the end", all, func(r *WatchRecord) {
			r.Complete = 0
			r.Responses = r.Responses[:3]
			r.Responses[2].Events = r.Responses[2].Events[:2]
		}},
		{"bookmarkable", "a bookmark ahead of an event that comes later", all, func(r *WatchRecord) {
			r.Responses = append(responses{{Bookmark: 2}}, r.Responses...)
		}},
		{"bookmarkable", "a bookmark ahead of an event, and the connection breaks", all, func(r *WatchRecord) {
			r.Complete = 0
			r.Responses = append(r.Responses[:2], WatchResponse{Bookmark: 4})
		}},
		{"bookmarkable", "a bookmark that falls", all, func(r *WatchRecord) {
			r.Responses = append(r.Responses, WatchResponse{Bookmark: 4})
		}},
		{"resumable", "the first event left out", all, func(r *WatchRecord) { r.Responses = r.Responses[1:] }},
		{"resumable", "an event from before the start", Watch{Key: []byte("a"), Start: 2}, func(r *WatchRecord) { r.Watch.Start = 4 }},
		{"resumable", "nothing at all", all, func(r *WatchRecord) { r.Responses = nil }},
		{"reliable", "an event in the middle left out", all, func(r *WatchRecord) {
			r.Responses = append(r.Responses[:1], r.Responses[2:]...)
		}},
		{"reliable", "the last event left out, the watch being complete", all, func(r *WatchRecord) { r.Responses = r.Responses[:3] }},
		{"reliable", "an event that never happened", all, func(r *WatchRecord) {
			r.Responses[3].Events[0].Kv.ModRevision = 6
		}},
		{"reliable", "another value", all, func(r *WatchRecord) { r.Responses[3].Events[0].Kv.Value = []byte("4") }},
		{"reliable", "a delete with more than key and revision", all, func(r *WatchRecord) { r.Responses[2].Events[1].Kv.Version = 1 }},
		{"is-create", "a second put that looks like the first", all, func(r *WatchRecord) {
			r.Responses[3].Events[0].Kv.CreateRevision = 5
		}},
		{"is-create", "a first put that looks like a second", all, func(r *WatchRecord) {
			r.Responses[0].Events[0].Kv.CreateRevision = 1
		}},
		{"prev-kv", "the pair before left out", all, func(r *WatchRecord) { r.Responses[3].Events[0].PrevKv = nil }},
		{"prev-kv", "an older pair before", all, func(r *WatchRecord) {
			r.Responses[3].Events[0].PrevKv = r.Responses[2].Events[0].PrevKv
		}},
		{"prev-kv", "a pair before a key's first", all, func(r *WatchRecord) {
			r.Responses[0].Events[0].PrevKv = r.Responses[0].Events[0].Kv
		}},
		{"prev-kv", "a pair before that nobody asked for", Watch{Key: []byte("a"), Start: 2}, func(r *WatchRecord) {
			r.Responses[1].Events[0].PrevKv = r.Responses[0].Events[0].Kv
		}},
	}
	covered := make(map[string]bool)
	for _, c := range bad {
		t.Run(c.check+"/"+c.what, func(t *testing.T) {
			r := record(s, c.watch)
			c.spoil(r)
			err := WatchChecks()[c.check](s, r)
			if err == nil {
				t.Fatal("not refused")
			}
			if CheckWatch(s, r) == nil {
				t.Fatal("all together do not refuse it")
			}
			t.Log(err)
		})
		covered[c.check] = true
	}
	for name := range WatchChecks() {
		if !covered[name] {
			t.Errorf("%s is shown nothing bad", name)
		}
	}
}

// What a server may do must pass: pairs before that were compacted, bookmarks
// between events, and a connection that breaks anywhere.
func TestWatchChecksLetPass(t *testing.T) {
	s, _, err := Step(past(t), &pb.TxnRequest{Success: []*pb.RequestOp{
		{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte("d")}}},
		{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: &pb.DeleteRangeRequest{Key: []byte("d"), RangeEnd: []byte{0}}}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	all := Watch{Key: []byte{0}, End: []byte{0}, Start: 3, PrevKV: true}
	puts := all
	puts.NoDelete = true
	// Nor was it the last of those that it asked for.
	r := record(s, puts)
	r.Responses = r.Responses[:len(r.Responses)-2]
	r.Responses = append(r.Responses, WatchResponse{Bookmark: 6, Compacted: 6})
	if err := CheckWatch(s, r); err != nil {
		t.Errorf("compacted within a revision, of which only puts are wanted: %v", err)
	}
	for name, change := range map[string]func(r *WatchRecord){
		"compacted": func(r *WatchRecord) {
			r.Responses[2].Events[0].PrevKv, r.Responses[2].Compacted = nil, 5
		},
		"bookmarks": func(r *WatchRecord) {
			r.Responses[0].Bookmark = 3
			r.Responses = append([]WatchResponse{{Bookmark: 2}, {Bookmark: 2}}, r.Responses...)
		},
		"broken": func(r *WatchRecord) { r.Complete, r.Responses = 0, r.Responses[:2] },
		"silent": func(r *WatchRecord) { r.Complete, r.Responses = 0, nil },
		"joined": func(r *WatchRecord) {
			r.Responses[0].Events = append(r.Responses[0].Events, r.Responses[1].Events...)
			r.Responses = append(r.Responses[:1], r.Responses[2:]...)
		},
		// The put of d at 6 is not the last change of d there.
		"compacted within a revision": func(r *WatchRecord) {
			r.Responses[3].Events = r.Responses[3].Events[1:]
			r.Responses[3].Compacted = 6
		},
	} {
		r := record(s, all)
		change(r)
		if err := CheckWatch(s, r); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A key that one revision deletes twice: a compaction there leaves the second.
func TestWatchChecksDeletedTwice(t *testing.T) {
	put := &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte("d")}}}
	del := &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: &pb.DeleteRangeRequest{Key: []byte("d"), RangeEnd: []byte{0}}}}
	s := past(t)
	for _, req := range []*pb.TxnRequest{{Success: []*pb.RequestOp{put}}, {Success: []*pb.RequestOp{del, put, del}}} {
		next, _, err := Step(s, req)
		if err != nil {
			t.Fatal(err)
		}
		s = next
	}
	deletes := Watch{Key: []byte("d"), Start: 7, NoPut: true}
	r := record(s, deletes)
	if n := len(r.events()); n != 2 {
		t.Fatalf("%d deletes", n)
	}
	r.Responses[0].Events, r.Responses[0].Compacted = r.Responses[0].Events[1:], 7
	if err := CheckWatch(s, r); err != nil {
		t.Errorf("the first of two deletes is compacted: %v", err)
	}
	r.Responses[0].Events = nil
	if err := CheckWatch(s, r); err == nil {
		t.Error("both may be missing")
	}
}
