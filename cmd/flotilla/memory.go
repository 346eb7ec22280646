package main

import (
	"context"
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
	heapRoomBytes   = 128 << 20
	gcPercentMin    = 25
	gcPercentStep   = 5
	heapRoomEvery   = 250 * time.Millisecond
	liveBytesMetric = "/gc/heap/live:bytes"
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
	return make([]byte, heapFloorBytes), true
}

// gcPercent is how much the heap may grow, in percent of what is live: as much as
// is wanted while that is little.
func gcPercent(want int, live uint64) int {
	if live == 0 {
		return want
	}
	return min(want, max(gcPercentMin, int(heapRoomBytes*100/live)))
}

// governHeap keeps the room that the heap has until ctx ends.
func governHeap(ctx context.Context, want int) {
	t := time.NewTicker(heapRoomEvery)
	defer t.Stop()
	sample := []metrics.Sample{{Name: liveBytesMetric}}
	for now := want; ; {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		metrics.Read(sample)
		if sample[0].Value.Kind() != metrics.KindUint64 {
			return
		}
		// Each change stops the world for a moment.
		if next := gcPercent(want, sample[0].Value.Uint64()); next != now && (next == want || max(next-now, now-next) >= gcPercentStep) {
			debug.SetGCPercent(next)
			now = next
		}
	}
}
