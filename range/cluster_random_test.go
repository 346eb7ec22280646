package ranges

import (
	"errors"
	"flag"
	"fmt"
	"slices"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/peerpb"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/raftgroup"
)

// fault breaks something, or mends it.
func (c *storeCluster) fault() error {
	n := c.nodes[c.rng.IntN(len(c.nodes))]
	switch x := c.rng.IntN(8000); {
	case n.store == nil:
		if x < 200 {
			return n.open()
		}
	case x < 12:
		n.crash()
	case x < 24:
		n.paused = c.now + time.Duration(c.rng.Int64N(int64(2*time.Second)))
	case x < 44:
		c.cut[[2]metapb.StoreID{n.id, metapb.StoreID(c.rng.IntN(len(c.nodes)) + 1)}] = true
	case x < 64:
		clear(c.cut)
	case x < 90:
		return c.transfer(n)
	case x < 200 && c.moves && !n.busy():
		c.change(n)
	case x < 300 && c.checks && !n.busy():
		c.beginCheck(n)
	}
	return nil
}

func (c *storeCluster) transfer(n *clusterStore) error {
	if n.busy() {
		return nil
	}
	ids := n.store.IDs()
	if len(ids) == 0 {
		return nil
	}
	err := n.store.Transfer(ids[c.rng.IntN(len(ids))], metapb.StoreID(c.rng.IntN(len(c.nodes))+1))
	switch {
	case err == nil:
		c.handover++
	case !errors.Is(err, peerpb.ErrNotLeader) && !errors.Is(err, peerpb.ErrRefused):
		return err
	}
	return nil
}

// traffic sends a request to a store, which may not be the right one.
func (c *storeCluster) traffic() {
	n := c.nodes[c.rng.IntN(len(c.nodes))]
	if n.busy() || c.rng.IntN(3) > 0 {
		return
	}
	key := fmt.Sprintf("k%02d", c.rng.IntN(40))
	req := &clusterRequest{key: key, at: c.issued}
	addr := keys.User([]byte(key))
	if revs := c.keyRevs[key]; len(revs) > 0 {
		for _, rev := range revs {
			req.seen = max(req.seen, rev)
		}
	}
	switch x := c.rng.IntN(100); {
	case x < 60:
		req.value = fmt.Sprintf("v%d", c.ids+1)
		req.body = &peerpb.Write{Req: &pb.PutRequest{Key: []byte(key), Value: []byte(req.value)}}
	case x < 80:
		get := &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: []byte(key)}}}
		req.body = &peerpb.Write{Req: &pb.TxnRequest{Success: []*pb.RequestOp{get}}}
	case x < 90:
		req.body = &peerpb.Close{S: c.issued}
	case x < 99 || c.lastID > 12:
		addr = keys.System("")
		req.body = &peerpb.System{Op: "next"}
	default:
		c.lastID++
		req.body = &peerpb.Split{At: addr, RightID: c.lastID}
	}
	c.request(n, addr, req)
}

// request hands a request to the store's own replica.
func (c *storeCluster) request(n *clusterStore, addr []byte, req *clusterRequest) {
	for _, id := range n.store.IDs() {
		r := n.store.Replica(id)
		if !r.desc.Contains(addr) {
			continue
		}
		c.ids++
		req.rangeID = id
		rid := uint64(n.id)<<32 + c.ids
		c.asked[rid] = req
		n.store.SetNow(n.clock())
		n.store.Request(&peerpb.Request{ID: rid, Range: id, Generation: r.desc.Generation, Body: req.body})
		return
	}
}

// play lets the cluster live through faults, and then looks whether it mends.
func (c *storeCluster) play(steps int) error {
	for i := range steps {
		if err := c.step(); err != nil {
			return fmt.Errorf("step %d: %w", i, err)
		}
	}
	c.calm = true
	clear(c.cut)
	for _, n := range c.nodes {
		n.paused = 0
		if n.store == nil {
			if err := n.open(); err != nil {
				return err
			}
		}
	}
	if err := c.run(8 * time.Second); err != nil {
		return err
	}
	if err := c.checkServing(); err != nil {
		return err
	}
	for i := 0; i == 0 || c.incomplete() && i < 10; i++ {
		if err := c.run(2 * time.Second); err != nil {
			return err
		}
	}
	if err := c.run(restedAfter + time.Second); err != nil {
		return err
	}
	before := c.raftMessages
	if err := c.run(2 * time.Second); err != nil {
		return err
	}
	if err := c.checkRested(); err != nil {
		return err
	}
	if n := c.raftMessages - before; n > 0 {
		return fmt.Errorf("idle ranges sent %d messages, the last of range %d: %s", n, c.last.Range, c.describe(c.last.Range))
	}
	if c.moves {
		return c.checkMoved()
	}
	return c.checkEqual()
}

// incomplete reports whether a replica still waits for its snapshot: one that was lost
// on its way is sent again after a while.
func (c *storeCluster) incomplete() bool {
	return slices.ContainsFunc(c.ranges(), func(id metapb.RangeID) bool {
		n := c.holder(id)
		if n == nil {
			return true
		}
		lacks := false
		g := n.store.Replica(id).group
		g.Progress(func(p raftgroup.PeerProgress) { lacks = lacks || p.Match < g.LastIndex() })
		return lacks
	})
}

// checkRested looks whether no replica of ranges at rest has a log.
func (c *storeCluster) checkRested() error {
	for _, id := range c.ranges() {
		for _, p := range c.holder(id).store.Replica(id).desc.Replicas {
			if r := c.nodes[p.StoreId-1].store.Replica(id); r != nil && r.group.LogBytes() > 0 {
				return fmt.Errorf("range %d is at rest, and store %d has %d bytes of its log: %s", id, p.StoreId, r.group.LogBytes(), c.describe(id))
			}
		}
	}
	return nil
}

func (c *storeCluster) run(d time.Duration) error {
	for end := c.now + d; c.now < end; {
		if err := c.step(); err != nil {
			return err
		}
	}
	return nil
}

// checkServing writes to every range, at its leader, and waits for the answers.
func (c *storeCluster) checkServing() error {
	before := c.acked
	want := 0
	for _, id := range c.ranges() {
		leader := (*clusterStore)(nil)
		for _, n := range c.nodes {
			if r := n.store.Replica(id); r != nil && r.holdsLease() {
				leader = n
			}
		}
		if leader == nil {
			return fmt.Errorf("range %d has no leader with a lease: %s", id, c.describe(id))
		}
		d := leader.store.Replica(id).desc
		if id == metapb.SystemRange {
			continue
		}
		key := "k"
		if len(d.Start) > 1 {
			key = string(d.Start[1:])
		}
		value := fmt.Sprintf("last%d", id)
		c.request(leader, keys.User([]byte(key)), &clusterRequest{key: key, value: value, at: c.issued,
			body: &peerpb.Write{Req: &pb.PutRequest{Key: []byte(key), Value: []byte(value)}}})
		want++
	}
	if err := c.run(time.Second); err != nil {
		return err
	}
	if c.acked-before < want {
		return fmt.Errorf("%d of %d writes were acknowledged", c.acked-before, want)
	}
	return nil
}

func (c *storeCluster) describe(id metapb.RangeID) (text string) {
	for _, n := range c.nodes {
		var r *Replica
		if n.store != nil {
			r = n.store.Replica(id)
		}
		if r == nil {
			text += fmt.Sprintf("\n%d: none", n.id)
			continue
		}
		text += fmt.Sprintf("\n%d: term %d leader %d leading %d last %d applied %d awake %v leaving %v lead %v armed %d", n.id,
			r.group.Term(), r.group.Leader(), r.leading, r.group.LastIndex(), r.state.index, r.awake, r.leaving, r.lead != nil, n.store.peers.elections.Len())
		if r.leading != 0 {
			text += describeProgress(r) + fmt.Sprint(" lagging ", n.store.peers.lagging)
			for _, o := range c.nodes {
				text += fmt.Sprint(" live ", n.store.Live(o.id))
			}
		}
		if r.lead != nil {
			text += fmt.Sprintf(" holds %v", r.lead.Holds(r.store.now))
		}
	}
	return text
}

// checkEqual compares what the stores hold, and looks for what was acknowledged.
func (c *storeCluster) checkEqual() error {
	var first map[string]string
	for _, n := range c.nodes {
		rows := make(map[string]string)
		local, steps := keys.LocalTable(), keys.AppliedSteps()
		it, err := n.eng.NewIter(engine.IterOptions{})
		if err != nil {
			return err
		}
		for ok := it.First(); ok; ok = it.Next() {
			k := string(it.Key())
			if k >= string(local.Start) && k < string(local.End) || k >= string(steps.Start) && k < string(steps.End) {
				continue
			}
			v, err := it.Value()
			if err != nil {
				return err
			}
			rows[k] = string(v)
		}
		it.Close()
		for _, id := range c.nodes[0].store.IDs() {
			a, b := c.nodes[0].store.Replica(id), n.store.Replica(id)
			if b == nil || a.state != b.state {
				return fmt.Errorf("range %d: stores 1 and %d differ: %s", id, n.id, c.describe(id))
			}
		}
		if first == nil {
			first = rows
			continue
		}
		if len(rows) != len(first) {
			return fmt.Errorf("store %d has %d rows, store 1 %d", n.id, len(rows), len(first))
		}
		for k, v := range first { // any order
			if rows[k] != v {
				return fmt.Errorf("stores 1 and %d differ at %s", n.id, keys.Format([]byte(k)))
			}
		}
	}
	for key, revs := range c.keyRevs { // any order
		for _, rev := range revs {
			if _, ok := first[string(keys.Version([]byte(key), rev, 0))]; !ok {
				return fmt.Errorf("%s was acknowledged at %d and is gone", key, rev)
			}
		}
	}
	return nil
}

func flags() (seeds *int, from *uint64) {
	return flag.Int("seeds", 12, "how many clusters to run"), flag.Uint64("from", 0, "the first seed")
}

var clusterSeeds, clusterFrom = flags()

// TestClusters lets three stores live through what happens.
func TestClusters(t *testing.T) {
	var sum storeCluster
	seeds := *clusterSeeds
	for seed := *clusterFrom; seed < *clusterFrom+uint64(seeds); seed++ {
		c, err := newStoreCluster(seed, soundCluster)
		if err == nil {
			err = c.play(12000)
		}
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		sum.acked += c.acked
		sum.reads += c.reads
		sum.crashes += c.crashes
		sum.splits += c.splits
		sum.handover += c.handover
		sum.unknown += c.unknown
	}
	t.Logf("%d acknowledged, %d unknown, %d reads, %d crashes, %d splits, %d transfers",
		sum.acked, sum.unknown, sum.reads, sum.crashes, sum.splits, sum.handover)
	if sum.acked < seeds*200 || sum.reads < seeds*50 || sum.crashes < seeds || sum.splits < seeds/2 || sum.handover < seeds {
		t.Fatal("too little happened")
	}
}

// TestClustersFindBugs plants what the stores cannot cope with.
func TestClustersFindBugs(t *testing.T) {
	for plant := diskLies; plant <= clocksDrift; plant++ {
		found := false
		for seed := uint64(0); seed < 200 && !found; seed++ {
			c, err := newStoreCluster(seed, plant)
			if err == nil {
				err = c.playGuarded(8000)
			}
			if found = err != nil; found {
				t.Logf("plant %d, seed %d: %v", plant, seed, err)
			}
		}
		if !found {
			t.Errorf("plant %d was not found", plant)
		}
	}
}

// playGuarded is play for a run in which raft itself may find the damage.
func (c *storeCluster) playGuarded(steps int) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return c.play(steps)
}

// calmCluster is a cluster without faults that has had time to find its leaders.
func calmCluster(t *testing.T, seed uint64) *storeCluster { return calmClusterOf(t, seed, 3) }

// calmClusterOf is one of as many stores as is said.
func calmClusterOf(t *testing.T, seed uint64, stores metapb.StoreID) *storeCluster {
	t.Helper()
	c, err := newStoreClusterOf(seed, soundCluster, stores)
	if err == nil {
		c.calm = true
		err = c.run(3 * time.Second)
	}
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// holder returns the store that holds the lease of a range, or nil.
func (c *storeCluster) holder(id metapb.RangeID) *clusterStore {
	for _, n := range c.nodes {
		if n.store != nil {
			if r := n.store.Replica(id); r != nil && r.holdsLease() {
				return n
			}
		}
	}
	return nil
}

// A planned transfer is done in a few messages, in the middle of requests, and
// leaves none of them without an outcome.
func TestTransfer(t *testing.T) {
	c := calmCluster(t, 1)
	for round := range 40 {
		id := metapb.RangeID(1 + round%2)
		from := c.holder(id)
		if from == nil {
			t.Fatalf("round %d: range %d has no leader: %s", round, id, c.describe(id))
		}
		to := metapb.StoreID(uint64(from.id)%3 + 1)
		for range 40 {
			c.traffic()
		}
		if err := from.store.Transfer(id, to); err != nil {
			t.Fatal(err)
		}
		began := c.now
		for {
			c.traffic()
			if err := c.step(); err != nil {
				t.Fatal(err)
			}
			if n := c.holder(id); n != nil && n.id == to {
				break
			}
			if c.now > began+100*time.Millisecond {
				t.Fatalf("round %d: not done in 100 ms: %s", round, c.describe(id))
			}
		}
		if err := c.run(50 * time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
	if c.unknown > 0 || c.acked < 100 {
		t.Fatalf("%d outcomes are unknown, %d requests acknowledged", c.unknown, c.acked)
	}
}

// When a store dies, its ranges have another leader soon after the promise to it
// has run out.
func TestFailover(t *testing.T) {
	worst := time.Duration(0)
	for seed := range uint64(10) {
		c := calmCluster(t, seed)
		dead := c.holder(2)
		dead.crash()
		began := c.now
		for c.holder(2) == nil {
			if err := c.step(); err != nil {
				t.Fatal(err)
			}
			if c.now > began+1600*time.Millisecond {
				t.Fatalf("seed %d: no leader after %v", seed, c.now-began)
			}
		}
		worst = max(worst, c.now-began)
		// It comes back before its own promises are over, and disturbs nobody.
		leader := c.holder(2)
		if err := dead.open(); err != nil {
			t.Fatal(err)
		}
		if err := c.run(3 * time.Second); err != nil {
			t.Fatal(err)
		}
		if c.holder(2) != leader {
			t.Fatalf("seed %d: the return of a store took the leader away: %s", seed, c.describe(2))
		}
	}
	t.Logf("at worst after %v", worst)
}
