// Package invariant checks what must always be true of our own logic.
//
// Check costs nothing in a release build: it is active under the build tag
// "invariants" and under the race detector. Must is always active and is for
// what would make replicas differ if the process went on. Bytes from disk or
// network are never checked here: they are errors.
package invariant

import "fmt"

// Must panics with the message if ok is false.
func Must(ok bool, format string, args ...any) {
	if !ok {
		panic("invariant: " + fmt.Sprintf(format, args...))
	}
}

// Check panics with the message if ok is false and Enabled.
func Check(ok bool, format string, args ...any) {
	if Enabled && !ok {
		panic("invariant: " + fmt.Sprintf(format, args...))
	}
}
