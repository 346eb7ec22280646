package sim

import (
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"github.com/flotilladb/flotilla/internal/clock"
	"github.com/flotilladb/flotilla/internal/config"
	"github.com/flotilladb/flotilla/internal/frame"
	"github.com/flotilladb/flotilla/internal/node"
	"github.com/flotilladb/flotilla/internal/wire"
	"github.com/flotilladb/flotilla/proto/metapb"
)

// NetworkConfig is how nodes hear of each other.
type NetworkConfig struct {
	// DelayMin and DelayMax bound how long a frame is under way; a frame may
	// overtake those before it.
	DelayMin, DelayMax time.Duration
	// LossPerMille and DoublePerMille are of all frames.
	LossPerMille, DoublePerMille int
	// CutEvery is the mean time between cuts, which last up to CutMax: of a way from
	// one node to another, of both ways, of a node from all, of the leader of some
	// range from all, or of a node from the sequencer.
	CutEvery, CutMax time.Duration
}

// network carries frames.
type network struct {
	s   *Sim
	rng *rand.Rand
	cut map[way]int // by how many cuts
	// last is when the last frame of requests arrives that was sent at the end of a run.
	last map[way]clock.Time
	// healed counts the times that all cuts were ended.
	healed int
}

// way is from one store to another.
type way struct{ from, to metapb.StoreID }

func newNetwork(s *Sim) *network {
	return &network{s: s, rng: rand.New(rand.NewPCG(s.cfg.Seed, 8)), cut: make(map[way]int), last: make(map[way]clock.Time)}
}

// send takes a frame on its way.
func (w *network) send(f *frame.Frame) {
	cfg := &w.s.cfg.Network
	times := 1
	switch {
	case w.s.ending: // what is under way is to end
	case w.rng.IntN(1000) < cfg.LossPerMille:
		times = 0
	case w.rng.IntN(1000) < cfg.DoublePerMille:
		times = 2
	}
	var bytes []byte
	if w.s.cfg.Swarm.Bytes {
		var err error
		if bytes, err = wire.Append(nil, f); err != nil {
			w.s.fail(err)
			return
		}
	}
	for i := range times {
		delay := between(w.rng, cfg.DelayMin, cfg.DelayMax)
		if late := w.s.cfg.Readers.LateMax; i > 0 && late > 0 {
			delay += between(w.rng, 0, late)
		}
		w.s.after(w.inTurn(f, delay), func() {
			if w.cut[way{f.From, f.To}] == 0 {
				w.arrive(f, bytes)
			}
		})
	}
}

// inTurn has frames of requests arrive in their order when a run is to become quiet. One that
// overtakes another is dropped by who gets it, and repeated much later: that never ends where
// more is sent meanwhile. Real links keep the order.
func (w *network) inTurn(f *frame.Frame, delay time.Duration) time.Duration {
	if !w.s.ending || f.Lane != frame.Requests {
		return delay
	}
	x := way{f.From, f.To}
	w.last[x] = max(w.last[x], w.s.now.Add(delay))
	return w.last[x].Sub(w.s.now)
}

// arrive hands a frame over.
func (w *network) arrive(f *frame.Frame, bytes []byte) {
	if bytes != nil {
		var err error
		// What is taken apart points into the bytes, which both copies have.
		if f, err = wire.Decode(slices.Clone(bytes)); err != nil {
			w.s.fail(err)
			return
		}
	}
	w.s.nodes[f.To-1].deliver(f)
}

// cutSome cuts ways for a while.
func (w *network) cutSome() {
	if len(w.s.nodes) == 1 {
		return
	}
	a, b := w.s.someNode().id, w.s.someNode().id
	var ways []way
	switch kind := w.s.faults.IntN(5); kind {
	case 0:
		ways = []way{{a, b}}
	case 1:
		ways = []way{{a, b}, {b, a}}
	case 2:
		ways = w.isolate(a)
	case 3:
		ways = w.isolate(w.leader(a))
	default:
		if b = w.sequencer(); b == 0 {
			return
		}
		ways = []way{{a, b}, {b, a}}
	}
	w.cutFor(ways, between(w.s.faults, 0, w.s.cfg.Network.CutMax))
}

// cutFor cuts ways for a while.
func (w *network) cutFor(ways []way, d time.Duration) {
	w.s.tracef("cut %v for %v", ways, d)
	w.s.stats.Cuts++
	for _, x := range ways {
		w.cut[x]++
	}
	healed := w.healed
	w.s.after(d, func() {
		for _, x := range ways {
			if w.healed == healed {
				w.cut[x]--
			}
		}
	})
}

// isolate are the ways between a node and all others.
func (w *network) isolate(a metapb.StoreID) (ways []way) {
	for _, n := range w.s.nodes {
		if n.id != a {
			ways = append(ways, way{a, n.id}, way{n.id, a})
		}
	}
	return ways
}

// leader draws a node that leads a range as a says; it is a if that knows none.
func (w *network) leader(a metapb.StoreID) metapb.StoreID {
	n := w.s.nodes[a-1]
	if !n.up {
		return a
	}
	ids := n.core.Store().IDs()
	if len(ids) == 0 {
		return a
	}
	if led := n.core.Store().Replica(ids[w.s.faults.IntN(len(ids))]).Leader(); led != 0 {
		return led
	}
	return a
}

// sequencer is the node that leads the system range, 0 if none does.
func (w *network) sequencer() metapb.StoreID {
	for _, n := range w.s.nodes {
		if n.up {
			if r := n.core.Store().Replica(metapb.SystemRange); r != nil && r.Leads() {
				return n.id
			}
		}
	}
	return 0
}

// heal ends all cuts.
func (w *network) heal() {
	w.healed++
	clear(w.cut)
}

// cluster is what the nodes begin with. Each is named after the id that its store
// gets.
func (s *Sim) cluster() *node.Static {
	st := &node.Static{Token: "sim"}
	for id, first := 1, s.first(); id <= first && first > 1; id++ {
		st.Members = append(st.Members, config.Member{Name: strconv.Itoa(id), PeerURLs: []string{"sim"}})
	}
	return st
}
