// Package clock is the time that cores are told.
//
// A core never reads a clock: Time and Duration are arguments. The shell reads
// CLOCK_BOOTTIME, which counts the time that the machine was suspended, so that
// a promise made before a suspend is not thought fresh after it.
package clock

import "time"

// Time is nanoseconds on a clock that only goes forward. Its zero is arbitrary;
// it is not comparable between processes or machines.
type Time int64

// Add returns t + d.
func (t Time) Add(d time.Duration) Time { return t + Time(d) }

// Sub returns the duration t - u.
func (t Time) Sub(u Time) time.Duration { return time.Duration(t - u) }

// After reports whether t is later than u.
func (t Time) After(u Time) bool { return t > u }

// Before reports whether t is earlier than u.
func (t Time) Before(u Time) bool { return t < u }
