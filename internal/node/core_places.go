package node

// places keeps values under numbers until they are taken out; a number is used
// again after that.
type places[T any] struct {
	items []T
	free  []uint32 // places in items that hold nothing
}

func (p *places[T]) put(v T) uint32 {
	if n := len(p.free); n > 0 {
		i := p.free[n-1]
		p.free = p.free[:n-1]
		p.items[i] = v
		return i
	}
	p.items = append(p.items, v)
	return uint32(len(p.items) - 1)
}

// take returns what is at a place and frees it.
func (p *places[T]) take(i uint32) T {
	v := p.items[i]
	var none T
	p.items[i] = none
	p.free = append(p.free, i)
	return v
}

// len is how many places hold something.
func (p *places[T]) len() int { return len(p.items) - len(p.free) }
