//go:build cgo

package main

import (
	"bytes"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// The engine's memory is in large pages, unless the user does not wish that. Without the C
// library it is on Go's heap.
func TestEngineHasLargePages(t *testing.T) {
	mode, err := os.ReadFile("/sys/kernel/mm/transparent_hugepage/enabled")
	if err != nil || !bytes.Contains(mode, []byte("[madvise]")) {
		t.Skipf("this machine has no large pages for who asks: %q, %v", mode, err)
	}
	for _, test := range []struct {
		users []string
		want  bool
	}{
		{nil, true},
		{[]string{tunables + "="}, true},
		{[]string{tunables + "=glibc.malloc.tcache_count=7"}, true},
		{[]string{tunables + "=" + largeInC + "=0"}, false},
	} {
		said := howBegun(t, test.users...)
		n, err := strconv.Atoi(strings.Join(said["large"], " "))
		if err != nil || (n >= 8<<20) != test.want {
			t.Errorf("with %q: %d bytes in large pages (%v)", test.users, n, err)
		}
		var left []string
		for _, name := range []string{begunAgain, tunables} {
			for _, value := range said[name] {
				left = append(left, name+"="+value)
			}
		}
		if !slices.Equal(left, test.users) {
			t.Errorf("the environment is left with %q, was %q", left, test.users)
		}
	}
}
