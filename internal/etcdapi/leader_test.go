package etcdapi

import (
	"testing"
	"time"
)

// Looks are a second apart: l sees a leader, n none, and P is one that sees none after a
// pause of three seconds. X ends streams.
func TestLeaderless(t *testing.T) {
	for _, row := range []struct{ looks, want string }{
		{"nnnn", "..X."},
		{"nnnnnn", "..X..X"},
		{"nnlnnn", ".....X"},
		{"llnnPnnn", ".......X"},
		{"llnnPl", "......"},
		{"Pnnl", "..X."}, // the first of all knows of no pause
	} {
		l, now, got := leaderless{interval: time.Second}, time.Unix(1, 0), ""
		for _, look := range row.looks {
			now = now.Add(time.Second)
			if look == 'P' {
				now = now.Add(3 * time.Second)
			}
			if l.look(now, look == 'l') {
				got += "X"
			} else {
				got += "."
			}
		}
		if got != row.want {
			t.Errorf("%s: %s, want %s", row.looks, got, row.want)
		}
	}
}
