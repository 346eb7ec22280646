package watchfeed

import (
	"fmt"
	"maps"
	"math/rand"
	"slices"
	"testing"
)

// A registry finds what a list of its places finds.
func TestRegistryTwin(t *testing.T) {
	for seed := range int64(12) {
		rng := rand.New(rand.NewSource(seed))
		var r registry
		list := map[string]*place{}
		key := func() string { return fmt.Sprint(rng.Intn(1 << (2 + seed%6))) }
		for range 800 {
			k, end := key(), key()
			p := &place{key: k}
			name := k
			if rng.Intn(2) == 0 {
				if end <= k {
					end = ""
				}
				p.tree, name = &treeNode{end: end}, k+"-"+end
			}
			if old := list[name]; old == nil {
				list[name] = p
				r.add(p)
			} else if rng.Intn(3) > 0 {
				delete(list, name)
				r.remove(old)
			}
			at := key()
			var got, want []string
			r.at([]byte(at), func(p *place) { got = append(got, fmt.Sprintf("%p", p)) })
			for _, p := range list {
				if p.contains([]byte(at)) {
					want = append(want, fmt.Sprintf("%p", p))
				}
			}
			if slices.Sort(got); !slices.Equal(got, slices.Sorted(slices.Values(want))) {
				t.Fatalf("seed %d: %d places at %s, want %d", seed, len(got), at, len(want))
			}
		}
		n := 0
		r.all(func(p *place) { n++ })
		if n != len(list) || r.n != n {
			t.Fatalf("seed %d: %d places, says %d, want %d", seed, n, r.n, len(list))
		}
		for _, name := range slices.Sorted(maps.Keys(list)) {
			r.remove(list[name])
		}
		if r.n != 0 || r.spans != nil || r.keys.n != 0 {
			t.Fatalf("seed %d: %d places are left", seed, r.n)
		}
	}
}

// Whose scan is first must not depend on how the table of keys was seeded.
func TestAllArePokedInOrder(t *testing.T) {
	c, g := &Core{}, &group{}
	var want []string
	for i := range 40 {
		k := fmt.Sprintf("k%02d", i)
		g.places.add(&place{key: k, more: &crowd{catching: []*watcher{{}}}})
		g.places.add(&place{key: k, tree: &treeNode{}, more: &crowd{catching: []*watcher{{}}}})
		g.places.add(&place{key: k, tree: &treeNode{end: "x"}, more: &crowd{catching: []*watcher{{}}}})
		g.places.add(&place{key: k + "+"}) // catches up with nothing
		want = append(want, k, k+"-", k+"-x")
	}
	c.pokeAll(g)
	var got []string
	for _, p := range c.poked {
		name := p.key
		if p.tree != nil {
			name += "-" + p.tree.end
		}
		got = append(got, name)
	}
	if !slices.Equal(got, want) {
		t.Fatalf("poked in the order %v", got)
	}
}

// Ids that clients choose and ids that are chosen for them.
func TestIDTableTwin(t *testing.T) {
	for seed := range int64(20) {
		rng := rand.New(rand.NewSource(seed))
		var tab idTable
		twin := map[int64]*watcher{}
		for range 3000 {
			id := rng.Int63n(40)
			switch rng.Intn(3) {
			case 0:
				id = rng.Int63n(5000) - 100
			case 1:
				id = rng.Int63() - 1<<62
			}
			if w := twin[id]; w != nil {
				tab.remove(id)
				delete(twin, id)
			} else {
				twin[id] = &watcher{id: id}
				tab.add(twin[id])
			}
			if id = rng.Int63n(5000) - 100; tab.get(id) != twin[id] || tab.n != len(twin) {
				t.Fatalf("seed %d: id %d is %v, want %v", seed, id, tab.get(id), twin[id])
			}
		}
		all := tab.all()
		if len(all) != len(twin) || !slices.IsSortedFunc(all, func(a, b *watcher) int { return int(max(-1, min(1, a.id/2-b.id/2))) }) {
			t.Fatalf("seed %d: %d watchers, want %d", seed, len(all), len(twin))
		}
	}
}
