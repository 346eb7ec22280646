package ranges

import (
	"time"

	"github.com/flotilladb/flotilla/internal/clock"
)

// stats counts what a range does, in slots of a second over the last ten.
type stats struct {
	slots [statsSlots]statsSlot
}

const statsSlots = 10

type statsSlot struct {
	second        int64 // which second of the clock the slot counts
	writes, bytes uint64
}

func (st *stats) wrote(now clock.Time, updates, bytes int) {
	second := int64(now) / int64(time.Second)
	slot := &st.slots[second%statsSlots]
	if slot.second != second {
		*slot = statsSlot{second: second}
	}
	slot.writes += uint64(updates)
	slot.bytes += uint64(bytes)
}

// rates returns changes and log bytes a second over the last ten seconds.
func (st *stats) rates(now clock.Time) (writes, bytes float64) {
	second := int64(now) / int64(time.Second)
	for _, slot := range st.slots {
		if slot.second > second-statsSlots && slot.second <= second {
			writes += float64(slot.writes)
			bytes += float64(slot.bytes)
		}
	}
	return writes / statsSlots, bytes / statsSlots
}

// Info is a replica as its store sees it.
type Info struct {
	Leads                bool
	Leader               uint64
	Term                 uint64
	Applied, First, Last uint64
	LogBytes             uint64
	WritesPerSecond      float64
	WriteBytesPerSecond  float64
	Waiting              int // requests
}

// Info describes the replica now.
func (r *Replica) Info() Info {
	in := Info{
		Leads:    r.leading != 0,
		Leader:   uint64(r.group.Leader()),
		Term:     r.group.Term(),
		Applied:  r.state.index,
		First:    r.group.FirstIndex(),
		Last:     r.group.LastIndex(),
		LogBytes: r.group.LogBytes(),
		Waiting:  len(r.queue.items) + len(r.parked) + len(r.held),
	}
	in.WritesPerSecond, in.WriteBytesPerSecond = r.stats.rates(r.store.now)
	return in
}
