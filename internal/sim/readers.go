package sim

import (
	"math/rand/v2"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/flotilladb/flotilla/internal/model"
	"github.com/flotilladb/flotilla/proto/metapb"
)

// What a leader says that was deposed and does not know it is wrong for a few
// milliseconds only, on a node that is cut off, whose usual clients all wait for an
// answer by then. So there are clients that only read, again and again, and give a
// read up that takes long; and faults that depose leaders in the ways that promises,
// epochs, votes and transfers are there for.

// ReadersConfig is who reads all the time, and how leaders are deposed meanwhile.
type ReadersConfig struct {
	// PerNode is how many there are; each thinks for up to ThinkMax between two
	// reads, and gives a request up after Patience.
	PerNode            int
	ThinkMax, Patience time.Duration
	// DeposeEvery is the mean time between two faults.
	DeposeEvery time.Duration
	// Clings has readers ask about one lease for a while, also when it is gone: who only
	// asks for what there is never sees that it is said to be there too long.
	Clings bool
	// LateMax is by how much a frame may be late that is doubled.
	LateMax time.Duration
}

// drawReaders makes the configuration of a seed with readers.
func drawReaders(seed uint64, nodes int) Config {
	c := drawCluster(seed, nodes)
	rng := rand.New(rand.NewPCG(seed, 14))
	timeout := pick(rng, 300*time.Millisecond, 300*time.Millisecond, time.Second)
	c.Ranges.Liveness.ElectionTimeout = timeout
	c.Readers = ReadersConfig{
		PerNode:     1 + rng.IntN(2),
		ThinkMax:    pick(rng, 2*time.Millisecond, 10*time.Millisecond),
		Patience:    pick(rng, timeout/20, timeout/5),
		DeposeEvery: pick(rng, timeout, 2*timeout, 4*timeout),
		LateMax:     pick(rng, 0, timeout/2, 2*timeout),
	}
	// The others write until the end, to few keys.
	c.OpsMax, c.Duration = 4000, 2*time.Second+10*timeout
	c.Clients = max(3, c.Clients)
	c.ThinkMax = pick(rng, 5*time.Millisecond, 20*time.Millisecond)
	c.Traffic.Keys = pick(rng, 4, 20)
	c.SyncStall = 0
	disk := pick(rng, 50*time.Microsecond, time.Millisecond)
	c.SyncMin, c.SyncMax = disk/4, 2*disk
	// What depose does is enough, most of the time.
	off := func(d *time.Duration) {
		if rng.IntN(4) != 0 {
			*d = 0
		}
	}
	for _, d := range []*time.Duration{
		&c.CrashEvery, &c.StopEvery, &c.StallEvery, &c.FullEvery, &c.Network.CutEvery,
		&c.Swarm.FreezeEvery, &c.Swarm.SlowEvery, &c.Swarm.TransferEvery, &c.Swarm.BlackoutEvery,
	} {
		off(d)
	}
	return c
}

// planReaders plans the first fault.
func (s *Sim) planReaders() { s.every(s.cfg.Readers.DeposeEvery, s.depose) }

// newReaders makes the clients that only read.
func (s *Sim) newReaders() error {
	for i := range s.cfg.Readers.PerNode * s.cfg.Nodes {
		c := newClient(s, len(s.clients), s.nodes[i%len(s.nodes)])
		gen, err := model.NewGenerator(s.cfg.Traffic, rand.New(rand.NewPCG(s.cfg.Seed, 100+uint64(i))))
		if err != nil {
			return err
		}
		c.reads = gen
		s.clients = append(s.clients, c)
	}
	return nil
}

// read draws a read that has to show all that was acknowledged.
func (c *client) read() any {
	for {
		switch r := c.reads.Next(c.s.hist.known).(type) {
		case *pb.RangeRequest:
			if len(r.Key) > 0 {
				return &pb.RangeRequest{Key: r.Key, RangeEnd: r.RangeEnd}
			}
		case *pb.LeaseKeepAliveRequest:
			return c.cling(r)
		case *pb.LeaseTimeToLiveRequest:
			return r
		}
	}
}

// clingFor is how many questions in turn are about one lease.
const clingFor = 20

// cling has a request be about the lease of those before it.
func (c *client) cling(r *pb.LeaseKeepAliveRequest) *pb.LeaseKeepAliveRequest {
	if !c.s.cfg.Readers.Clings {
		return r
	}
	if c.clings%clingFor == 0 {
		c.clingsTo = r.ID
	}
	c.clings++
	return &pb.LeaseKeepAliveRequest{ID: c.clingsTo}
}

// depose has a leader replaced that does not know it.
func (s *Sim) depose() {
	timeout := s.cfg.Ranges.Liveness.ElectionTimeout
	d := timeout/2 + between(s.faults, 0, 2*timeout)
	x := s.net.leader(s.someNode().id)
	if q := s.net.sequencer(); q != 0 && s.faults.IntN(2) == 0 {
		x = q
	}
	y := s.other(x)
	switch s.faults.IntN(7) {
	case 0:
		s.net.cutFor(s.net.isolate(x), d)
	case 1: // and those that promised it something begin anew
		s.net.cutFor(s.net.isolate(x), d)
		for _, n := range s.nodes {
			if n.id != x {
				s.crashLater(n)
			}
		}
	case 2:
		s.net.cutFor([]way{{x, y}, {y, x}}, d)
	case 3: // and a third one begins anew
		s.net.cutFor([]way{{x, y}, {y, x}}, d)
		s.after(between(s.faults, 0, d), func() { s.crashLater(s.nodes[s.other(x)-1]) })
	case 4:
		s.transferUnheard(x, y, d)
	case 5: // it stands still, and nothing comes meanwhile
		n := s.nodes[x-1]
		n.tracef("stands still for %v, and hears nothing", d)
		s.stats.Freezes++
		n.frozenUntil = max(n.frozenUntil, s.now.Add(d))
		s.net.cutFor(s.net.isolate(x), d-between(s.faults, 0, timeout/50))
	default: // two see each other again before the third one does
		s.net.cutFor(s.net.isolate(x), d)
		s.net.cutFor([]way{{x, y}, {y, x}}, d+between(s.faults, 0, timeout))
	}
}

// other draws another store.
func (s *Sim) other(x metapb.StoreID) metapb.StoreID {
	return (x+metapb.StoreID(s.faults.IntN(len(s.nodes)-1)))%metapb.StoreID(len(s.nodes)) + 1
}

// crashLater ends a node soon.
func (s *Sim) crashLater(n *simNode) {
	life := n.life
	s.after(between(s.faults, 0, 20*time.Millisecond), func() {
		if n.up && n.life == life {
			n.crash()
		}
	})
}

// transferUnheard has a store hand leaderships over, and hear nothing of who takes
// them.
func (s *Sim) transferUnheard(x, y metapb.StoreID, d time.Duration) {
	n := s.nodes[x-1]
	if !n.serving || s.now < n.frozenUntil {
		return
	}
	for _, id := range n.core.Store().IDs() {
		if s.faults.IntN(2) == 0 && n.core.Store().Transfer(id, y) == nil {
			n.tracef("range %d is to be led by store %d", id, y)
			s.stats.Transfers++
		}
	}
	n.wake()
	s.after(between(s.faults, 0, 4*s.cfg.Network.DelayMax), func() { s.net.cutFor([]way{{y, x}}, d) })
}
