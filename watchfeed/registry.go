package watchfeed

// registry finds the places that a key lies in.
type registry struct {
	keys  keyTable
	spans *place // root of the tree
	n     int    // of places
}

// get returns the place of a key (end nil) or span, or nil.
func (r *registry) get(key, end []byte) *place {
	if end == nil {
		return r.keys.get(key)
	}
	return treeGet(r.spans, string(key), string(end))
}

// add enters a place that is not there.
func (r *registry) add(p *place) {
	r.n++
	if p.tree == nil {
		r.keys.add(p)
		return
	}
	p.tree.left, p.tree.right, p.tree.max = nil, nil, p
	p.tree.prio = priority(p.key, p.tree.end)
	r.spans = treeAdd(r.spans, p)
}

func (r *registry) remove(p *place) {
	r.n--
	if p.tree == nil {
		r.keys.remove(p)
		return
	}
	r.spans = treeRemove(r.spans, p)
}

// at calls fn for the places that a key lies in.
func (r *registry) at(key []byte, fn func(*place)) {
	if p := r.keys.get(key); p != nil {
		fn(p)
	}
	treeAt(r.spans, string(key), fn)
}

// all calls fn for every place, in no order. fn does not change the registry.
func (r *registry) all(fn func(*place)) {
	for _, p := range r.keys.slots {
		if p != nil {
			fn(p)
		}
	}
	treeAll(r.spans, fn)
}

// The spans are a treap by (key, end): a search tree by those and a heap by
// priority, which is a hash of them, so that its shape does not depend on the
// order in which they came. Each node knows the highest end below it.

func priority(key, end string) uint32 {
	const offset, prime = 2166136261, 16777619
	h := uint32(offset)
	for _, s := range [2]string{key, end} {
		for i := range len(s) {
			h = (h ^ uint32(s[i])) * prime
		}
		h = (h ^ 0xff) * prime
	}
	h ^= h >> 15
	h *= 0x2c1b3c6d
	return h ^ h>>12
}

// endsAfter compares ends; the empty one is the end of the keyspace.
func endsAfter(a, b string) bool { return b != "" && (a == "" || a > b) }

// before is the order of the tree.
func before(p *place, key, end string) bool {
	return p.key < key || p.key == key && endsAfter(end, p.tree.end)
}

func treeGet(t *place, key, end string) *place {
	for t != nil {
		switch {
		case t.key == key && t.tree.end == end:
			return t
		case before(t, key, end):
			t = t.tree.right
		default:
			t = t.tree.left
		}
	}
	return nil
}

// measure sets a node's max from its children.
func measure(t *place) *place {
	x := t.tree
	x.max = t
	for _, c := range [2]*place{x.left, x.right} {
		if c != nil && endsAfter(c.tree.max.tree.end, x.max.tree.end) {
			x.max = c.tree.max
		}
	}
	return t
}

func treeAdd(t, p *place) *place {
	switch {
	case t == nil:
		return p
	case p.tree.prio > t.tree.prio:
		p.tree.left, p.tree.right = treeSplit(t, p.key, p.tree.end)
		return measure(p)
	case before(t, p.key, p.tree.end):
		t.tree.right = treeAdd(t.tree.right, p)
	default:
		t.tree.left = treeAdd(t.tree.left, p)
	}
	return measure(t)
}

// treeSplit divides a tree at a span that is not in it.
func treeSplit(t *place, key, end string) (left, right *place) {
	if t == nil {
		return nil, nil
	}
	if before(t, key, end) {
		t.tree.right, right = treeSplit(t.tree.right, key, end)
		return measure(t), right
	}
	left, t.tree.left = treeSplit(t.tree.left, key, end)
	return left, measure(t)
}

func treeRemove(t, p *place) *place {
	switch {
	case t == p:
		return treeJoin(t.tree.left, t.tree.right)
	case before(t, p.key, p.tree.end):
		t.tree.right = treeRemove(t.tree.right, p)
	default:
		t.tree.left = treeRemove(t.tree.left, p)
	}
	return measure(t)
}

// treeJoin makes one tree of two; all of left is before all of right.
func treeJoin(left, right *place) *place {
	switch {
	case left == nil:
		return right
	case right == nil:
		return left
	case left.tree.prio > right.tree.prio:
		left.tree.right = treeJoin(left.tree.right, right)
		return measure(left)
	default:
		right.tree.left = treeJoin(left, right.tree.left)
		return measure(right)
	}
}

func treeAt(t *place, key string, fn func(*place)) {
	for t != nil {
		if end := t.tree.max.tree.end; end != "" && end <= key {
			return
		}
		treeAt(t.tree.left, key, fn)
		if t.key > key {
			return
		}
		if t.tree.end == "" || t.tree.end > key {
			fn(t)
		}
		t = t.tree.right
	}
}

func treeAll(t *place, fn func(*place)) {
	if t == nil {
		return
	}
	right := t.tree.right
	treeAll(t.tree.left, fn)
	fn(t)
	treeAll(right, fn)
}
