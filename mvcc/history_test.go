package mvcc

import (
	"bytes"
	"fmt"
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

// A revision that takes more than a window may be read key by key, and nothing is missed.
func TestHistoryByKeys(t *testing.T) {
	cuts := 0
	for seed := range int64(40) {
		rng := rand.New(rand.NewSource(seed))
		w := randomWorld(t, rng, 80)
		bytesMax := 1 + rng.Intn(400)
		keysBytesMax := bytesMax + rng.Intn(200)
		var got []Version
		for at := Revision(0); at < w.rev; {
			var all []Version
			to := w.rev
			for start, more := []byte(nil), true; more; {
				win, err := History(w.eng, HistoryOptions{
					Start: start, From: at, To: to, BytesMax: bytesMax, KeysBytesMax: keysBytesMax, Prev: true,
				})
				must(t, err)
				for i := range win.Versions {
					v := &win.Versions[i]
					checkPrev(t, w, v, v.hadPrev())
					if win.Next != nil && (v.Revision != win.Versions[0].Revision || bytes.Compare(v.Key, win.Next) >= 0) {
						t.Fatalf("seed %d: cut at %q: %v", seed, win.Next, win.Versions)
					}
				}
				all = append(all, win.Versions...)
				to, start, more = win.Through, win.Next, win.Next != nil
				if more {
					cuts++
				}
			}
			if to <= at {
				t.Fatalf("seed %d: windows from %d end at %d", seed, at, to)
			}
			all = slices.DeleteFunc(all, func(v Version) bool { return v.Revision > to })
			slices.SortFunc(all, func(a, b Version) int { return compareVersions(&a, &b) })
			got = append(got, all...)
			at = to
		}
		if !slices.EqualFunc(got, w.versions, sameVersion) {
			t.Fatalf("seed %d:\ngot  %v\nwant %v", seed, got, w.versions)
		}
	}
	if cuts == 0 {
		t.Error("no window ended before a key")
	}
}

// What a revision takes that is larger than a window is not looked through again with each
// version of it.
func TestHistoryOfLargeRevision(t *testing.T) {
	const count, bytesMax = 20000, 64 << 10
	c := historyCollector{HistoryScratch: &HistoryScratch{}, opts: HistoryOptions{To: 9, BytesMax: bytesMax}, through: 9, low: 9, newer: -1}
	c.begin()
	looked := 0
	for i := range count {
		c.add(Version{Key: fmt.Appendf(nil, "key%05d", i), Revision: 5, Sub: uint32(i), Value: Value{Tombstone: true}})
		if len(c.order) == len(c.rows) {
			looked += len(c.rows)
		}
	}
	if looked == 0 || looked > 4*count {
		t.Errorf("%d versions were looked at to keep %d", looked, count)
	}
	if rows := c.inOrder(); len(rows) != count {
		t.Errorf("%d versions are left of %d", len(rows), count)
	}
}
