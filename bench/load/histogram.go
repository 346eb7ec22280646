package load

import (
	"math/bits"
	"time"
)

// Histogram counts durations in buckets that are at most 1/64 of their value
// wide. Not safe for concurrent use: each goroutine has its own, and they are
// added up.
type Histogram struct {
	counts [64 * 60]int64
	total  int64
	max    time.Duration
}

// bucketOf numbers the buckets: below 64 ns each value is its own, then 64
// buckets for each power of two.
func bucketOf(d time.Duration) int {
	n := uint64(max(d, 0))
	shift := max(bits.Len64(n)-7, 0)
	return shift*64 + int(n>>shift)
}

// upper is the highest duration in a bucket.
func upper(bucket int) time.Duration {
	shift := max(bucket/64-1, 0)
	return time.Duration((uint64(bucket-shift*64)+1)<<shift - 1)
}

// Add counts a duration; one below 0 counts as 0.
func (h *Histogram) Add(d time.Duration) {
	h.counts[bucketOf(d)]++
	h.total++
	h.max = max(h.max, d)
}

// Merge adds what another histogram counted.
func (h *Histogram) Merge(o *Histogram) {
	for i, n := range o.counts {
		h.counts[i] += n
	}
	h.total += o.total
	h.max = max(h.max, o.max)
}

// Len is how many durations were counted.
func (h *Histogram) Len() int64 { return h.total }

// Quantile returns a duration that a part q of all did not exceed.
func (h *Histogram) Quantile(q float64) time.Duration {
	rank := int64(q * float64(h.total-1))
	for i, n := range h.counts {
		if rank -= n; rank < 0 {
			return min(upper(i), h.max)
		}
	}
	return h.max
}
