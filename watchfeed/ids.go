package watchfeed

import "slices"

// idTable finds the watchers of a stream by id. Clients mostly let their ids be
// chosen, from 0 on, so most are in a slice.
type idTable struct {
	dense  []*watcher
	sparse map[int64]*watcher
	n      int
}

// denseSlack is how far ahead of their number ids in the slice may be.
const denseSlack = 1024

func (t *idTable) get(id int64) *watcher {
	if id >= 0 && id < int64(len(t.dense)) {
		if w := t.dense[id]; w != nil {
			return w
		}
	}
	return t.sparse[id]
}

func (t *idTable) add(w *watcher) {
	t.n++
	if w.id >= 0 && w.id < int64(2*t.n+denseSlack) {
		for int64(len(t.dense)) <= w.id {
			t.dense = append(t.dense, nil)
		}
		t.dense[w.id] = w
		return
	}
	if t.sparse == nil {
		t.sparse = make(map[int64]*watcher)
	}
	t.sparse[w.id] = w
}

func (t *idTable) remove(id int64) {
	t.n--
	if id >= 0 && id < int64(len(t.dense)) && t.dense[id] != nil {
		t.dense[id] = nil
		return
	}
	delete(t.sparse, id)
}

// all returns the watchers in order of id.
func (t *idTable) all() []*watcher {
	out := make([]*watcher, 0, t.n)
	for _, w := range t.dense {
		if w != nil {
			out = append(out, w)
		}
	}
	for _, w := range t.sparse {
		out = append(out, w)
	}
	slices.SortFunc(out, func(a, b *watcher) int {
		if a.id < b.id {
			return -1
		}
		return 1
	})
	return out
}
