package node

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/internal/clock"
	"github.com/flotilladb/flotilla/internal/config"
	"github.com/flotilladb/flotilla/internal/frame"
	"github.com/flotilladb/flotilla/internal/wire"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/range"
	"github.com/flotilladb/flotilla/router"
)

// trio is three cores on one thread, in virtual time.
type trio struct {
	t     testing.TB
	now   clock.Time
	nodes []*trioNode
	// Of what was done since they were last set to 0:
	messages, syncs int
	most            int // ranges that one step said something of
	ranges          ranges.Config
	// deaf, if not 0, is the node that hears nothing of the third any more; lost counts
	// what it would have.
	deaf metapb.StoreID
	lost int
	// frameMax, if not 0, is how large a frame may be that arrives; largest is how large
	// they were.
	frameMax, largest int
}

type trioNode struct {
	id      metapb.StoreID
	eng     *engine.Mem
	core    *Core
	in      []*frame.Frame // to be taken in the next millisecond
	synced  []uint64
	next    uint64
	results map[uint64]router.Result
	down    bool
}

func newTrio(t testing.TB, cfg ranges.Config) *trio {
	c := &trio{t: t, now: clock.Time(time.Second), ranges: cfg}
	st := &Static{Token: "trio"}
	for id := 1; id <= 3; id++ {
		st.Members = append(st.Members, config.Member{Name: fmt.Sprint(id), PeerURLs: []string{"trio"}})
	}
	for id := 1; id <= 3; id++ {
		n := &trioNode{id: metapb.StoreID(id), eng: engine.NewMem(), results: make(map[uint64]router.Result)}
		ident, err := IdentifyStatic(n.eng, st, fmt.Sprint(id))
		if err != nil {
			t.Fatal(err)
		}
		n.id = metapb.StoreID(ident.StoreId)
		c.open(n)
		c.nodes = append(c.nodes, n)
	}
	return c
}

func (c *trio) open(n *trioNode) {
	begun, err := NextStart(n.eng)
	if err != nil {
		c.t.Fatal(err)
	}
	n.core, err = NewCore(CoreConfig{
		NodeID: metapb.NodeID(n.id), StoreID: n.id, StoreStart: begun,
		Reader: n.eng, NewBatch: n.eng.NewBatch, NewView: n.eng.NewView, Tables: n.eng,
		Random: rand.New(rand.NewPCG(1, uint64(n.id))), Ranges: c.ranges,
	})
	if err != nil {
		c.t.Fatal(err)
	}
}

// step is a millisecond of all nodes.
func (c *trio) step() {
	c.now += clock.Time(time.Millisecond)
	for _, n := range c.nodes {
		if n.down {
			continue
		}
		n.core.SetNow(c.now)
		synced, in := n.synced, n.in
		n.synced, n.in = nil, nil
		for _, token := range synced {
			c.must(n.core.Synced(token))
		}
		for _, f := range in {
			c.must(n.core.Step(f))
		}
		if int64(c.now)/1e6%20 == int64(n.id) {
			n.core.Tick(c.now)
		}
		for n.core.HasReady() {
			c.ready(n)
		}
	}
}

func (c *trio) must(err error) {
	if err != nil {
		c.t.Helper()
		c.t.Fatal(err)
	}
}

func (c *trio) ready(n *trioNode) {
	rd, err := n.core.Ready()
	c.must(err)
	if rd.Apply != nil {
		c.must(n.eng.Commit(rd.Apply, false))
	}
	n.core.Advance(&rd)
	for _, res := range rd.Results {
		n.results[res.ID] = res
	}
	said := 0
	for _, f := range rd.Frames {
		raw, err := wire.Append(nil, f)
		c.must(err)
		said += len(f.Raft)
		if f, err = wire.Decode(raw); err != nil {
			c.t.Fatal(err)
		}
		if c.largest = max(c.largest, len(raw)); c.frameMax != 0 && len(raw) > c.frameMax {
			continue
		}
		if c.deaf != 0 && f.To == c.deaf && n.id == 3 {
			c.lost++
			continue
		}
		if to := c.nodes[f.To-1]; !to.down {
			to.in = append(to.in, f)
		}
	}
	c.messages += said
	of := make(map[metapb.RangeID]bool)
	for _, m := range rd.Messages {
		of[m.Range] = true
	}
	c.most = max(c.most, len(of))
	if rd.Append != nil {
		c.must(n.eng.Commit(rd.Append, true))
		n.synced = append(n.synced, rd.Token)
		c.syncs++
	}
}

// request asks a node and returns the request's number.
func (n *trioNode) request(req any) uint64 {
	n.next++
	n.core.Request(n.next, req)
	return n.next
}

// until runs until that is true, for a minute at most, and returns how long it took.
func (c *trio) until(what string, done func() bool) time.Duration {
	begin := c.now
	for !done() {
		if c.now.Sub(begin) > time.Minute {
			c.t.Fatalf("not after a minute: %s", what)
		}
		c.step()
	}
	return c.now.Sub(begin)
}

// answered runs until the requests are.
func (c *trio) answered(n *trioNode, ids ...uint64) time.Duration {
	return c.until("answers", func() bool {
		for _, id := range ids {
			if _, ok := n.results[id]; !ok {
				return false
			}
		}
		return true
	})
}

func trioKey(i int) []byte { return fmt.Appendf(nil, "k%06d", i) }

// cut cuts the keyspace into about so many ranges.
func (c *trio) cut(count int) {
	a := c.nodes[0]
	c.until("serving", func() bool {
		for _, n := range c.nodes {
			if !n.core.Serving() {
				return false
			}
		}
		return true
	})
	step := 1
	for step < count {
		step *= 2
	}
	for ; step >= 1; step /= 2 {
		var ids []uint64
		for i := step; i < count; i += 2 * step {
			ids = append(ids, a.request(&router.SplitRequest{Key: trioKey(i)}))
		}
		c.answered(a, ids...)
		for _, id := range ids {
			c.must(a.results[id].Err)
		}
	}
	c.until("leaders", c.led)
}

// grow cuts the keyspace into about so many ranges, and spreads the leaders.
func (c *trio) grow(count int) {
	c.cut(count)
	for _, n := range c.nodes {
		for _, id := range n.core.Store().IDs() {
			if to := metapb.StoreID(uint64(id)%3 + 1); to != n.id && n.core.Store().HoldsLease(id) {
				_ = n.core.Store().Transfer(id, to)
			}
		}
	}
	c.until("spread", func() bool {
		for _, n := range c.nodes {
			for _, id := range n.core.Store().IDs() {
				if n.core.Store().Replica(id).Leads() != (metapb.StoreID(uint64(id)%3+1) == n.id) {
					return false
				}
			}
		}
		return c.led()
	})
	for range 2000 {
		c.step()
	}
}

// led reports whether every range has a leader that may answer.
func (c *trio) led() bool { return c.leaderless() == 0 }

func (c *trio) leaderless() (n int) {
	var up []*trioNode
	for _, x := range c.nodes {
		if !x.down {
			up = append(up, x)
		}
	}
	for _, id := range up[0].core.Store().IDs() {
		ok := false
		for _, x := range up {
			ok = ok || x.core.Store().HoldsLease(id)
		}
		if !ok {
			n++
		}
	}
	return n
}

// The node that leads a third of all ranges dies. What its ranges need until they are
// led again is few messages each, few syncs altogether, and hardly more time than
// the promises to it took to run out.
func TestElections(t *testing.T) {
	const count = 300
	c := newTrio(t, ranges.Config{})
	c.grow(count)
	c.messages, c.syncs = 0, 0
	for range 2000 {
		c.step()
	}
	if c.messages > 0 {
		t.Errorf("idle ranges sent %d messages", c.messages)
	}
	c.nodes[2].down = true
	c.messages, c.syncs = 0, 0
	c.until("the leases end", func() bool { return c.leaderless() > 0 })
	lost := c.leaderless()
	if lost < count/4 {
		t.Errorf("only %d of %d ranges lost their leader", lost, count)
	}
	took := c.until("leaders", c.led)
	if took > 1200*time.Millisecond {
		t.Errorf("led again %v after the last heartbeat but one", took)
	}
	if c.messages > 12*lost {
		t.Errorf("%d messages for %d elections", c.messages, lost)
	}
	if c.syncs > 120 { // ten a second of each store are heartbeats'
		t.Errorf("%d syncs for %d elections", c.syncs, lost)
	}
	// All of them take writes.
	a := c.nodes[0]
	var ids []uint64
	for i := range count {
		ids = append(ids, a.request(&pb.PutRequest{Key: trioKey(i), Value: []byte("v")}))
	}
	c.answered(a, ids...)
	for _, id := range ids {
		c.must(a.results[id].Err)
	}
}

// One of the survivors heard of the node that dies for the last time a while before the
// other: it stands for election while the other is still bound by its promise. That keeps
// the requests, and votes when it may; nobody stands in vain, and waits for that.
func TestEarlyVotes(t *testing.T) {
	c := newTrio(t, ranges.Config{})
	c.grow(100)
	c.deaf = 2
	c.until("a heartbeat that one does not hear", func() bool { return c.lost > 0 })
	for range 90 {
		c.step()
	}
	c.nodes[2].down = true
	if took := c.until("leaders", c.led); took > 1100*time.Millisecond { // a second is the promise
		t.Errorf("led again %v after the node died", took)
	}
}

// However many ranges have something to do, a step is about some of them only:
// heartbeats pass between two steps, and must not wait for all the others.
func TestStepsAreBounded(t *testing.T) {
	const most = 8
	c := newTrio(t, ranges.Config{StepReplicasMax: most, TicksMax: most, StandsMax: most})
	c.grow(100)
	c.nodes[2].down = true
	c.most = 0
	c.until("the leases end", func() bool { return c.leaderless() > 0 })
	c.until("leaders", c.led)
	a := c.nodes[0]
	var ids []uint64
	for i := range 100 {
		ids = append(ids, a.request(&pb.PutRequest{Key: trioKey(i), Value: []byte("v")}))
	}
	c.answered(a, ids...)
	if c.most == 0 || c.most > most {
		t.Errorf("a step said something of %d ranges, not of 1 to %d", c.most, most)
	}
}
