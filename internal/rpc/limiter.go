package rpc

import (
	"sync"
	"time"
)

// limiter paces the bytes of a lane over all receivers. The bytes of burst may
// leave at once after a rest.
type limiter struct {
	perSecond int64
	burst     time.Duration

	mu struct {
		sync.Mutex
		free time.Time // when all that was reserved has had its time
	}
}

// limiterBurst is small: bytes that leave at once are what the other lanes meet.
const limiterBurst = 10 * time.Millisecond

func newLimiter(perSecond int64) *limiter {
	return &limiter{perSecond: perSecond, burst: limiterBurst}
}

// reserve takes n bytes' time and returns how long to wait before they leave.
func (l *limiter) reserve(now time.Time, n int) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if earliest := now.Add(-l.burst); l.mu.free.Before(earliest) {
		l.mu.free = earliest
	}
	wait := max(0, l.mu.free.Sub(now))
	l.mu.free = l.mu.free.Add(time.Duration(float64(n) / float64(l.perSecond) * float64(time.Second)))
	return wait
}
