package sim

import (
	"container/heap"

	"github.com/flotilladb/flotilla/internal/clock"
)

// event is something that happens at a time.
type event struct {
	at  clock.Time
	seq uint64 // events of one time happen in the order in which they were planned
	do  func()
}

// eventHeap is what is planned, the earliest first.
type eventHeap struct {
	events []event
	seq    uint64
}

func (h *eventHeap) Len() int { return len(h.events) }

func (h *eventHeap) Less(i, j int) bool {
	a, b := &h.events[i], &h.events[j]
	if a.at != b.at {
		return a.at < b.at
	}
	return a.seq < b.seq
}

func (h *eventHeap) Swap(i, j int) { h.events[i], h.events[j] = h.events[j], h.events[i] }

func (h *eventHeap) Push(v any) { h.events = append(h.events, v.(event)) }

func (h *eventHeap) Pop() any {
	last := len(h.events) - 1
	e := h.events[last]
	h.events[last] = event{}
	h.events = h.events[:last]
	return e
}

func (h *eventHeap) plan(at clock.Time, do func()) {
	h.seq++
	heap.Push(h, event{at: at, seq: h.seq, do: do})
}

func (h *eventHeap) next() event { return heap.Pop(h).(event) }
