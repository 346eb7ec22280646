package mvcc

import (
	"math/rand"
	"slices"
	"testing"
)

func TestHistory(t *testing.T) {
	for seed := range int64(40) {
		rng := rand.New(rand.NewSource(seed))
		w := randomWorld(t, rng, 80)
		from := Revision(rng.Intn(int(w.rev)))
		to := from + Revision(rng.Intn(int(w.rev-from)+3))
		var want []Version
		for _, v := range w.versions {
			if v.Revision > from && v.Revision <= to {
				want = append(want, v)
			}
		}
		bytesMax, prev := rng.Intn(2000), rng.Intn(2) == 0
		var got []Version
		for at := from; at < to; {
			win, err := History(w.eng, HistoryOptions{From: at, To: to, BytesMax: bytesMax, Prev: prev})
			must(t, err)
			if win.Through <= at {
				t.Fatalf("seed %d: window from %d ends at %d", seed, at, win.Through)
			}
			size := 0
			for _, v := range win.Versions {
				if v.Revision <= at || v.Revision > win.Through {
					t.Fatalf("seed %d: revision %d in window (%d, %d]", seed, v.Revision, at, win.Through)
				}
				size += v.bytes()
				checkPrev(t, w, &v, prev)
			}
			if n := len(win.Versions); !prev && size > bytesMax && win.Versions[0].Revision != win.Versions[n-1].Revision {
				t.Fatalf("seed %d: %d bytes in a window of %d", seed, size, bytesMax)
			}
			got = append(got, win.Versions...)
			at = win.Through
		}
		if !slices.EqualFunc(got, want, sameVersion) {
			t.Fatalf("seed %d, (%d, %d]:\ngot  %v\nwant %v", seed, from, to, got, want)
		}
	}
}

// checkPrev compares what a version says was before it with a read.
func checkPrev(t *testing.T, w *world, v *Version, asked bool) {
	t.Helper()
	var want []Row
	if asked {
		want = w.live(v.Key, append(slices.Clone(v.Key), 0), v.Revision-1)
	}
	if (v.Prev != nil) != (len(want) == 1) {
		t.Fatalf("version %v has %v before it, want %v", v, v.Prev, want)
	}
	if v.Prev != nil {
		got := Row{Key: v.Prev.Key, Value: v.Prev.Value, CreateRevision: v.Prev.CreateRevision,
			ModRevision: v.Prev.ModRevision, Version: v.Prev.Version, Lease: v.Prev.Lease}
		checkRows(t, "before a version", []Row{got}, want)
	}
}
