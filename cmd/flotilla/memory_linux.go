package main

import (
	"os"

	"golang.org/x/sys/unix"
)

// adviseLarge asks for large pages. It is a wish: without them all works as well.
func adviseLarge(room []byte) {
	page := os.Getpagesize()
	_ = unix.Madvise(room[page:len(room)-page], unix.MADV_HUGEPAGE)
}
