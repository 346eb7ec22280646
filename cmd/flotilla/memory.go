package main

import (
	"context"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"time"

	"github.com/flotilladb/flotilla/internal/config"
)

// heapFloorBytes is memory that is allocated and never touched, so that it costs
// addresses only: the collector counts it as live. Without it the heap of a
// node, which is small because the engine's cache is not on it, would be
// collected many times a second. Not more than that takes: fresh memory between
// two collections is cold. With 64 MiB a put by one client takes 9 % longer, and
// 500 clients gain nothing.
const heapFloorBytes = 16 << 20

// Where much is live, a million leases or watches, it would be as much again that
// lies idle between two collections. So the heap grows by at most heapRoomBytes
// before the next, but for gcPercentMin of what is live: below that the collector
// would have most of the processor.
const (
	heapRoomBytes = 128 << 20
	gcPercentMin  = 25
	gcPercentStep = 5
	heapRoomEvery = 250 * time.Millisecond
)

// tuneMemory sets how eagerly garbage is collected, unless Go's own variables
// do; then governed is false. The floor must be kept alive as long as the node
// runs.
func tuneMemory(cfg *config.Config, environ []string) (floor []byte, governed bool) {
	if cfg.MemoryLimitBytes > 0 && !isSet(environ, "GOMEMLIMIT") {
		debug.SetMemoryLimit(cfg.MemoryLimitBytes)
	}
	if isSet(environ, "GOGC") {
		return nil, false
	}
	debug.SetGCPercent(cfg.GCPercent)
	largePages()
	return make([]byte, heapFloorBytes), true
}

// largePagesBytes is how much of the heap is backed with large pages, where the
// system has them for who asks. A node touches most of that in its first minute
// under load, and each small page that it touches first costs as much as several
// puts: with 500 clients that was a sixth of all processor time.
const largePagesBytes = 128 << 20

// largePages makes room on the heap, asks for large pages there, and lets go of it.
// It is addresses only, until what comes later is put there.
func largePages() {
	room := make([]byte, largePagesBytes)
	adviseLarge(room)
	runtime.KeepAlive(room)
	room = nil
	runtime.GC()
}

// gcPercent is how much the heap may grow, in percent of what is live: as much as
// is wanted while that is little.
func gcPercent(want int, live uint64) int {
	if live == 0 {
		return want
	}
	return min(want, max(gcPercentMin, int(heapRoomBytes*100/live)))
}

// A heap that nothing was allocated on for a while, but for quietBytes, and of
// which at least idleBytes lie idle, gives them back: after a burst of leases or
// watches Go would keep them for the next.
const (
	quietTime  = 5 * time.Second
	quietBytes = 8 << 20
	idleBytes  = 48 << 20
)

// heapGovernor is what governHeap decides. It is told of the heap regularly.
type heapGovernor struct {
	want, percent int
	// since is when allocated was noted; not much was allocated since.
	since     time.Time
	allocated uint64
}

// heapState is the heap at a moment, in bytes.
type heapState struct {
	allocated uint64 // ever
	live      uint64 // after the last collection
	objects   uint64 // live or not yet collected
	free      uint64 // neither used nor given back
}

// next says whether to set the percentage, and whether to give memory back.
func (g *heapGovernor) next(now time.Time, h heapState) (set, giveBack bool) {
	// Each change stops the world for a moment.
	next := gcPercent(g.want, h.live)
	if next != g.percent && (next == g.want || max(next-g.percent, g.percent-next) >= gcPercentStep) {
		g.percent, set = next, true
	}
	switch {
	case g.since.IsZero(), h.allocated-g.allocated > quietBytes:
		g.since, g.allocated = now, h.allocated
	case now.Sub(g.since) >= quietTime:
		g.since, g.allocated = now, h.allocated
		giveBack = h.free+h.objects >= h.live+idleBytes
	}
	return set, giveBack
}

// governHeap keeps the room that the heap has until ctx ends, and gives back what
// lies idle.
func governHeap(ctx context.Context, want int) {
	t := time.NewTicker(heapRoomEvery)
	defer t.Stop()
	sample := []metrics.Sample{
		{Name: "/gc/heap/allocs:bytes"}, {Name: "/gc/heap/live:bytes"},
		{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/free:bytes"},
	}
	g := heapGovernor{want: want, percent: want}
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		metrics.Read(sample)
		for i := range sample {
			if sample[i].Value.Kind() != metrics.KindUint64 {
				return
			}
		}
		set, giveBack := g.next(time.Now(), heapState{
			allocated: sample[0].Value.Uint64(), live: sample[1].Value.Uint64(),
			objects: sample[2].Value.Uint64(), free: sample[3].Value.Uint64(),
		})
		if set {
			debug.SetGCPercent(g.percent)
		}
		if giveBack {
			debug.FreeOSMemory()
		}
	}
}
