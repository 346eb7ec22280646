package sim

import (
	"fmt"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/router"
)

// cutOff is a node that leads a range and hears nothing of the sequencer, nor the
// sequencer of it, while both are there for all others. What is written to that range
// has to be answered all the same.
type cutOff struct {
	node, sequencer *simNode
	id              metapb.RangeID
	key             []byte
	oneWay          bool
	over            bool
	puts            int
}

// DrawCutOff makes the configuration of a seed in which nothing fails but the way
// from a node to the sequencer.
func DrawCutOff(seed uint64, nodes int) Config {
	c := drawCluster(seed, nodes)
	swarm := SwarmConfig{Drift: c.Swarm.Drift, Bytes: c.Swarm.Bytes}
	c.CrashEvery, c.StopEvery, c.StallEvery, c.FullEvery, c.SplitEvery = 0, 0, 0, 0, 0
	c.Network.CutEvery, c.Network.LossPerMille = 0, min(c.Network.LossPerMille, 5)
	c.Swarm = swarm
	c.CutOffFor = 3*c.Ranges.Liveness.ElectionTimeout + 3*time.Second + c.locksOfOthers()
	c.Duration += c.CutOffFor
	// Puts with leases wait for the homes of these, which may be out of reach, and are not
	// to take the room of all others.
	c.Ranges.QueueBytesMax = 64 << 20
	c.OpsMax = 1 << 20
	c.ThinkMax = max(c.ThinkMax, 20*time.Millisecond)
	return c
}

// cutOffBound is how long a write may take at a node that is cut off: the sequencer
// must have been silent for an election time-out, and each node that is asked on the
// way may be the wrong one, and costs a while. What it writes to may be locked by a
// transaction that goes on at the sequencer's node, which it does not hear of any more.
func (s *Sim) cutOffBound() time.Duration {
	trips := 10*s.cfg.Network.DelayMax + 10*s.cfg.SyncMax + s.cfg.SyncStall
	return 3*s.cfg.Ranges.Liveness.ElectionTimeout/2 + time.Duration(len(s.nodes))*250*time.Millisecond + trips + s.cfg.locksOfOthers()
}

// locksOfOthers is how long a transaction that came to a stop may hold up others.
func (c *Config) locksOfOthers() time.Duration { return c.Ranges.LockAgeMax + c.Ranges.IntentAgeMax }

// planCutOff waits until a node that is not the sequencer's leads a range, and cuts it
// off.
func (s *Sim) planCutOff() {
	if s.cfg.CutOffFor == 0 {
		return
	}
	s.after(20*time.Millisecond, func() {
		x := s.findCutOff()
		if x == nil {
			s.transfer()
			s.planCutOff()
			return
		}
		ways := []way{{x.sequencer.id, x.node.id}, {x.node.id, x.sequencer.id}}
		if x.oneWay = s.faults.IntN(3) == 0; x.oneWay {
			i := s.faults.IntN(2)
			ways = ways[i : i+1]
		}
		s.tracef("cut %v from the sequencer; range %d is led there", ways, x.id)
		s.stats.Cuts++
		for _, w := range ways {
			s.net.cut[w]++
		}
		s.after(s.cfg.CutOffFor, func() {
			x.over = true
			s.net.heal()
		})
		s.probe(x)
	})
}

// findCutOff draws whom to cut off; nil if nobody fits.
func (s *Sim) findCutOff() *cutOff {
	seq := s.net.sequencer()
	n := s.someNode()
	if seq == 0 || n.id == seq || !n.serving {
		return nil
	}
	for _, id := range n.core.Store().IDs() {
		r := n.core.Store().Replica(id)
		key := s.gen.SplitKey(s.faults)
		if id != metapb.SystemRange && r.Leads() && !r.Transferring() && r.Descriptor().Contains(keys.User(key)) {
			return &cutOff{node: n, sequencer: s.nodes[seq-1], id: id, key: key}
		}
	}
	return nil
}

// holds reports whether it is as it was at the beginning: a transfer that was begun
// before may have moved one of the leaders.
func (x *cutOff) holds() bool {
	led := x.node.core.Store().Replica(x.id)
	return !x.over && led != nil && led.Leads() && x.sequencer.core.Store().Replica(metapb.SystemRange).Leads()
}

// probeEvery is about how far two writes to the range are apart.
const probeEvery = 100 * time.Millisecond

// probe writes to the range, and has that answered in time.
func (s *Sim) probe(x *cutOff) {
	if s.ending || s.failed != nil || !x.holds() {
		return
	}
	s.after(between(s.faults, 0, 2*probeEvery), func() { s.probe(x) })
	x.puts++
	req := &pb.PutRequest{Key: x.key, Value: fmt.Appendf(nil, "probe %d", x.puts)}
	op := s.hist.begin(len(s.clients), req)
	op.beganAt = s.now
	s.stats.Ops++
	done := false
	call := &router.Call{Req: req, Done: make(chan struct{}, 1)}
	x.node.submit(call, func() {
		done = true
		op.endedAt = s.now
		s.stats.CutOffPuts++
		var resp proto.Message
		if call.Err == nil {
			resp = call.Resp.(*pb.PutResponse)
		} else if !s.ending && x.holds() {
			s.fail(fmt.Errorf("#%d: a node that is cut off from the sequencer answers: %w", op.number, call.Err))
		}
		s.fail(s.hist.end(op, resp, call.Err, s.shown(x.node)))
	})
	s.after(s.cutOffBound(), func() {
		if !done && !s.ending && x.holds() {
			s.fail(fmt.Errorf("#%d: a node that is cut off from the sequencer did not answer for %v", op.number, s.cutOffBound()))
		}
	})
}
