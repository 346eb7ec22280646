// Package effort compares what work costs within one run of a test.
//
// How long something takes says more of the machine, and of what else runs there, than of
// the code. Whether it takes longer for many than it should, next to a few, is of the code.
package effort

import (
	"testing"
	"time"
)

const (
	// longer is how often as long as the other one may take. Caches and maps cost more
	// where there is more, and one of two may be held up.
	longer = 5
	// tries is how often it is measured until one time is good: a busy machine makes the
	// same work look slow now and then, but not ten times in a row.
	tries = 10
)

// Linear has a test fail if work on many takes a multiple of work on the same number in
// several parts, each of few. prepare is not measured, the work that it returns is.
func Linear(t testing.TB, few, many int, prepare func(n int) (work func())) {
	t.Helper()
	parts := func() time.Duration {
		var took time.Duration
		for range many / few {
			took += measure(prepare(few))
		}
		return took
	}
	compare(t, few, many, parts, func() time.Duration { return measure(prepare(many)) })
}

// Constant has a test fail if the same work takes a multiple where there is much, of what it
// takes where there is little.
func Constant(t testing.TB, few, many int, prepare func(n int) (work func())) {
	t.Helper()
	compare(t, few, many,
		func() time.Duration { return measure(prepare(few)) },
		func() time.Duration { return measure(prepare(many)) })
}

func compare(t testing.TB, few, many int, ofFew, ofMany func() time.Duration) {
	t.Helper()
	var all [][2]time.Duration
	for range tries {
		a, b := ofFew(), ofMany()
		if b <= longer*a {
			return
		}
		all = append(all, [2]time.Duration{a, b})
	}
	t.Errorf("with %d, and with %d at once: %v", few, many, all)
}

func measure(work func()) time.Duration {
	begin := time.Now()
	work()
	return time.Since(begin)
}
