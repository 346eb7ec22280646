package raftgroup

import "github.com/flotilladb/flotilla/proto/metapb"

// ReadySet is the groups of a store that may have work, first marked first
// served, each once. It is what stands between the events of a store and its
// one loop, so that ten thousand idle groups cost nothing and the order of work
// is the same in every run. Not safe for concurrent use.
type ReadySet struct {
	queue []metapb.RangeID // queue[head:] waits. Invariant: holds the keys of in, once each
	head  int
	in    map[metapb.RangeID]struct{}
}

// Mark adds a group unless it waits already.
func (s *ReadySet) Mark(id metapb.RangeID) {
	if _, ok := s.in[id]; ok {
		return
	}
	if s.in == nil {
		s.in = make(map[metapb.RangeID]struct{})
	}
	s.in[id] = struct{}{}
	s.queue = append(s.queue, id)
}

// Next takes the group that has waited longest.
func (s *ReadySet) Next() (id metapb.RangeID, ok bool) {
	if s.head == len(s.queue) {
		return 0, false
	}
	id = s.queue[s.head]
	s.head++
	delete(s.in, id)
	switch {
	case s.head == len(s.queue):
		s.queue, s.head = s.queue[:0], 0
	case s.head > len(s.queue)/2 && s.head > 64:
		n := copy(s.queue, s.queue[s.head:])
		s.queue, s.head = s.queue[:n], 0
	}
	return id, true
}

// Len returns how many groups wait.
func (s *ReadySet) Len() int { return len(s.queue) - s.head }
