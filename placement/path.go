package placement

import (
	"slices"

	"github.com/flotilladb/flotilla/proto/metapb"
)

// path is what the sequencer keeps of one store's way to it: the answers that
// the store has not acknowledged. They are repeated when it asks again, since a
// revision given out a second time for the same ask would turn the order of two
// versions of a key around.
type path struct {
	start uint64 // of the store
	first uint64 // Seq of asks[0]; what is before was acknowledged
	asks  []pathAsk
}

type pathAsk struct {
	name     AskName
	n        int64
	answered bool
	answer   Answer
}

func (p *path) next() uint64 { return p.first + uint64(len(p.asks)) }

func (p *path) keep(seq uint64, a *Answer) {
	q := &p.asks[seq-p.first]
	q.answered, q.answer = true, *a
}

// cut forgets an ask, and those after it: none of them is answered.
func (p *path) cut(seq uint64) {
	p.asks = p.asks[:min(seq-p.first, uint64(len(p.asks)))]
}

// enter takes an ask into its store's path. known says that it was there
// before, with its answer if it has one.
func (s *Sequencer) enter(ask *Ask) (known bool, a *Answer, err error) {
	p := s.paths[ask.Name.Store]
	if p == nil || p.start < ask.Name.StoreStart {
		// A sequencer that is new to the store takes over at any place: what the
		// old one answered, it answered under its own epoch. Nobody waits any more for
		// what an earlier start of the store asked.
		s.leave(ask.Name.Store)
		p = &path{start: ask.Name.StoreStart, first: ask.Seq}
		s.paths[ask.Name.Store] = p
	}
	switch {
	case p.start > ask.Name.StoreStart || ask.Seq < p.first:
		return false, nil, ErrStaleAsk
	case ask.Seq > p.next():
		return false, nil, ErrAskOrder
	case ask.Seq == p.next():
		if len(p.asks) >= s.cfg.UnackedMax {
			return false, nil, ErrTooManyUnacked
		}
		p.asks = append(p.asks, pathAsk{name: ask.Name, n: ask.N})
		return false, nil, nil
	}
	q := &p.asks[ask.Seq-p.first]
	if q.name != ask.Name || q.n != ask.N {
		return false, nil, ErrStaleAsk
	}
	if !q.answered {
		return true, nil, nil
	}
	return true, &q.answer, nil
}

// leave drops what waits on a store's path.
func (s *Sequencer) leave(store metapb.StoreID) {
	s.waiting = slices.DeleteFunc(s.waiting, func(a Ask) bool { return a.Seq != 0 && a.Name.Store == store })
}

// Ack says that a store has the answers up to and including a place.
func (s *Sequencer) Ack(name AskName, seq uint64) {
	p := s.paths[name.Store]
	if p == nil || p.start != name.StoreStart || seq < p.first {
		return
	}
	if seq >= p.next() {
		// Another sequencer answered what came here late, and what came after it.
		s.leave(name.Store)
		p.first, p.asks = seq+1, p.asks[:0]
		return
	}
	n := seq - p.first + 1
	for i := range p.asks[:n] {
		if !p.asks[i].answered {
			n = uint64(i) // an answer that was never given cannot have arrived
			break
		}
	}
	p.asks = append(p.asks[:0], p.asks[n:]...)
	p.first += n
}
