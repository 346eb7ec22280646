package effort

import (
	"testing"
	"testing/synctest"
	"time"
)

// told notes that a test would have failed.
type told struct {
	testing.TB
	failed bool
}

func (t *told) Errorf(string, ...any) { t.failed = true }

// Work costs what the test says: in the bubble's time, nothing else does.
func TestTellsWhatGrows(t *testing.T) {
	for name, c := range map[string]struct {
		cost             func(n int) int
		linear, constant bool // it is taken for
	}{
		"constant":  {func(int) int { return 1 }, true, true},
		"linear":    {func(n int) int { return n }, true, false},
		"quadratic": {func(n int) int { return n * n }, false, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			prepare := func(n int) func() {
				time.Sleep(time.Duration(n*n) * time.Second) // is not measured
				return func() { time.Sleep(time.Duration(c.cost(n)) * time.Second) }
			}
			linear, constant := &told{TB: t}, &told{TB: t}
			Linear(linear, 1<<4, 1<<8, prepare)
			Constant(constant, 1<<4, 1<<8, prepare)
			if linear.failed == c.linear || constant.failed == c.constant {
				t.Errorf("%s: linear %v, constant %v", name, !linear.failed, !constant.failed)
			}
		})
	}
}

// One time that is good is enough: the machine may have been busy.
func TestBusyMachine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, got := 0, &told{TB: t}
		Constant(got, 1, 2, func(of int) func() {
			return func() {
				if time.Sleep(time.Second); of == 2 {
					if n++; n < tries {
						time.Sleep(time.Minute)
					}
				}
			}
		})
		if got.failed {
			t.Error("one of ten was good, and the test fails")
		}
	})
}
