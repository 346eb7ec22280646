package etcdapi

import (
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/flotilladb/flotilla/internal/invariant"
)

// idSet is a set of watch ids: 64 neighbours in a word, so that a million ids
// that count up take a few hundred kilobytes. Its zero value is empty.
type idSet struct {
	words map[int64]uint64 // by id/64, never 0
	n     int
}

func wordOf(id int64) (word int64, bit uint64) { return id >> 6, 1 << (uint64(id) & 63) }

func (s *idSet) has(id int64) bool {
	word, bit := wordOf(id)
	return s.words[word]&bit != 0
}

// add reports whether the id is new.
func (s *idSet) add(id int64) bool {
	word, bit := wordOf(id)
	old := s.words[word]
	if old&bit != 0 {
		return false
	}
	if s.words == nil {
		s.words = make(map[int64]uint64)
	}
	s.words[word] = old | bit
	s.n++
	return true
}

// remove reports whether the id was there.
func (s *idSet) remove(id int64) bool {
	word, bit := wordOf(id)
	old := s.words[word]
	if old&bit == 0 {
		return false
	}
	if left := old &^ bit; left != 0 {
		s.words[word] = left
	} else {
		delete(s.words, word)
	}
	s.n--
	return true
}

// watchIDs knows what may be said about the watches of one stream, after etcd's
// rules:
//
//	      create                 cancel              answered
//	free ────────> used (live) ──────────> canceling ────────> free
//	                 │  the hub ends it     │ the hub ended it meanwhile:
//	                 v                      v two answers
//	               used (ended) ─ cancel, answered at once ──> free
//
// An id that was canceled may be used again at once. One whose watch ended
// by itself (compaction) stays taken until the client cancels it too, and that
// cancel is answered.
type watchIDs struct {
	next      int64 // the first id that was never chosen for a client
	used      idSet // live and ended
	ended     idSet // Invariant: a subset of used
	canceling idSet // handed to the hub, not answered
}

// choose takes the id that a client asked for, or one of ours for 0. It returns
// false if the id is in use.
func (w *watchIDs) choose(wanted int64) (id int64, ok bool) {
	if wanted != 0 {
		return wanted, w.used.add(wanted)
	}
	for w.used.has(w.next) {
		w.next++
	}
	id = w.next
	w.next++
	added := w.used.add(id)
	invariant.Check(added, "watch id %d was free and is not", id)
	return id, true
}

// forget frees an id whose watch was not made.
func (w *watchIDs) forget(id int64) { w.used.remove(id) }

// cancelAction is what a client's cancel leads to.
type cancelAction int

const (
	cancelNothing cancelAction = iota // no such watch: no answer
	cancelAsk                         // the hub ends the watch and answers
	cancelAnswer                      // it had ended: answer at once
)

func (w *watchIDs) cancel(id int64) cancelAction {
	switch {
	case !w.used.remove(id):
		return cancelNothing
	case w.ended.remove(id):
		return cancelAnswer
	}
	w.canceling.add(id)
	return cancelAsk
}

// canceled notes that the hub said so, and reports whether the client is told:
// it is not when it was already. Asked says that it answers a client's cancel.
func (w *watchIDs) canceled(id int64) (tell, asked bool) {
	if w.canceling.remove(id) {
		return true, true
	}
	return w.used.has(id) && w.ended.add(id), false
}

// compacted notes that the hub ended a watch, and reports whether the client
// canceled it meanwhile, which is then still to be answered.
func (w *watchIDs) compacted(id int64) (asked bool) {
	if w.canceling.remove(id) {
		return true
	}
	if w.used.has(id) {
		w.ended.add(id)
	}
	return false
}

// watchSpan turns the span of a request into ours: an empty key is the lowest
// one, a range_end of "\0" is the end of the keyspace, none is one key. It
// returns false if the span holds nothing.
func watchSpan(r *pb.WatchCreateRequest) (key, end []byte, ok bool) {
	key, end = r.Key, r.RangeEnd
	if len(key) == 0 {
		key = []byte{0}
	}
	switch {
	case len(end) == 0:
		return key, nil, true
	case len(end) == 1 && end[0] == 0:
		return key, []byte{}, true
	}
	return key, end, string(key) < string(end)
}
