package sim

import (
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/flotilladb/flotilla/internal/config"
	"github.com/flotilladb/flotilla/internal/frame"
	"github.com/flotilladb/flotilla/internal/node"
	"github.com/flotilladb/flotilla/proto/metapb"
)

// NetworkConfig is how nodes hear of each other.
type NetworkConfig struct {
	// DelayMin and DelayMax bound how long a frame is under way; a frame may
	// overtake those before it.
	DelayMin, DelayMax time.Duration
	// LossPerMille and DoublePerMille are of all frames.
	LossPerMille, DoublePerMille int
	// CutEvery is the mean time between cuts of a way from one node to another, or
	// of both ways, or of a node from all; they last up to CutMax.
	CutEvery, CutMax time.Duration
}

// network carries frames.
type network struct {
	s   *Sim
	rng *rand.Rand
	cut map[way]int // by how many cuts
}

// way is from one store to another.
type way struct{ from, to metapb.StoreID }

func newNetwork(s *Sim) *network {
	return &network{s: s, rng: rand.New(rand.NewPCG(s.cfg.Seed, 8)), cut: make(map[way]int)}
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
	for range times {
		w.s.after(between(w.rng, cfg.DelayMin, cfg.DelayMax), func() {
			if w.cut[way{f.From, f.To}] == 0 {
				w.s.nodes[f.To-1].deliver(f)
			}
		})
	}
}

// cutSome cuts ways for a while.
func (w *network) cutSome() {
	a := w.s.someNode().id
	b := w.s.someNode().id
	var ways []way
	switch w.s.faults.IntN(3) {
	case 0:
		ways = []way{{a, b}}
	case 1:
		ways = []way{{a, b}, {b, a}}
	default:
		for _, n := range w.s.nodes {
			ways = append(ways, way{a, n.id}, way{n.id, a})
		}
	}
	d := between(w.s.faults, 0, w.s.cfg.Network.CutMax)
	w.s.tracef("cut %v for %v", ways, d)
	w.s.stats.Cuts++
	for _, x := range ways {
		w.cut[x]++
	}
	w.s.after(d, func() {
		for _, x := range ways {
			w.cut[x]--
		}
	})
}

// DrawCluster makes the configuration of a seed with several nodes.
func DrawCluster(seed uint64, nodes int) Config {
	c := Draw(seed)
	rng := rand.New(rand.NewPCG(seed, 9))
	c.Nodes = nodes
	delay := pick(rng, 50*time.Microsecond, 500*time.Microsecond, 5*time.Millisecond)
	c.Network = NetworkConfig{
		DelayMin: delay / 4, DelayMax: delay * 2,
		LossPerMille: pick(rng, 0, 0, 5, 50), DoublePerMille: pick(rng, 0, 0, 5, 50),
	}
	c.Duration += 3 * time.Second // until there are leaders
	c.Ranges.Liveness.ElectionTimeout = pick(rng, 300*time.Millisecond, time.Second)
	c.Ranges.Seed = seed
	return c
}

// cluster is what the nodes begin with. Each is named after the id that its store
// gets.
func (s *Sim) cluster() *node.Static {
	st := &node.Static{Token: "sim"}
	for id := 1; id <= s.cfg.Nodes && s.cfg.Nodes > 1; id++ {
		st.Members = append(st.Members, config.Member{Name: strconv.Itoa(id), PeerURLs: []string{"sim"}})
	}
	return st
}
