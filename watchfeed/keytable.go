package watchfeed

import "hash/maphash"

// keyTable finds places of single keys. It holds nothing but pointers to them,
// which is a third of what a map of strings would take: there may be millions.
// What it finds does not depend on its seed; the order of its slots does.
type keyTable struct {
	seed  maphash.Seed
	slots []*place // a power of two; a place is in the first free slot from its hash on
	n     int
}

func (t *keyTable) home(key string) int {
	return int(maphash.String(t.seed, key)) & (len(t.slots) - 1)
}

func (t *keyTable) homeOf(key []byte) int {
	return int(maphash.Bytes(t.seed, key)) & (len(t.slots) - 1)
}

// get returns the place of a key, or nil.
func (t *keyTable) get(key []byte) *place {
	if t.n == 0 {
		return nil
	}
	for i := t.homeOf(key); ; i = (i + 1) & (len(t.slots) - 1) {
		if p := t.slots[i]; p == nil || p.key == string(key) {
			return p
		}
	}
}

// add enters a place whose key is not there.
func (t *keyTable) add(p *place) {
	if 4*(t.n+1) > 3*len(t.slots) {
		t.resize(max(8, 2*len(t.slots)))
	}
	t.n++
	t.put(p)
}

func (t *keyTable) put(p *place) {
	i := t.home(p.key)
	for t.slots[i] != nil {
		i = (i + 1) & (len(t.slots) - 1)
	}
	t.slots[i] = p
}

// remove takes a place out, and moves up those that a search would have passed
// it for.
func (t *keyTable) remove(p *place) {
	mask := len(t.slots) - 1
	i := t.home(p.key)
	for t.slots[i] != p {
		i = (i + 1) & mask
	}
	t.n--
	for j := i; ; {
		t.slots[i] = nil
		for {
			j = (j + 1) & mask
			q := t.slots[j]
			if q == nil {
				if len(t.slots) > 8 && 8*t.n < len(t.slots) {
					t.resize(len(t.slots) / 2)
				}
				return
			}
			if (j-t.home(q.key))&mask >= (j-i)&mask {
				t.slots[i] = q
				i = j
				break
			}
		}
	}
}

func (t *keyTable) resize(n int) {
	if t.slots == nil {
		t.seed = maphash.MakeSeed()
	}
	old := t.slots
	t.slots = make([]*place, n)
	for _, p := range old {
		if p != nil {
			t.put(p)
		}
	}
}
