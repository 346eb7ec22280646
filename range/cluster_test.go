package ranges

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/internal/clock"
	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/proto/cmdpb"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/peerpb"
	"github.com/flotilladb/flotilla/raftgroup"
)

// storeCluster is three stores with a replica of every range on each, in one
// thread from one seed: a network that loses, doubles and reorders, disks that
// take their time and forget at a crash, clocks that drift. The sequencer is ideal.
// It notes what was acknowledged and checks, step by step, what must be true.
type storeCluster struct {
	rng   *rand.Rand
	now   time.Duration // real time, which no store sees
	calm  bool          // no faults any more
	plant plantedBug
	nodes []*clusterStore
	net   []clusterPacket
	cut   map[[2]metapb.StoreID]bool

	issued Revision
	lastID metapb.RangeID
	ids    uint64
	asked  map[uint64]*clusterRequest
	// truth is what was applied at each revision, as whoever applied it first.
	truth   map[Revision]string
	keyRevs map[string][]Revision // acknowledged, by key
	numbers map[int]bool          // that operations of the system range got
	refused map[string]bool       // values that must never appear
	closed  map[metapb.RangeID]Revision

	raftMessages                                     int
	last                                             Message
	acked, unknown, reads, crashes, splits, handover int
	changes, snapshots, lost                         int
	moves                                            bool // replicas are moved

	// checks: what stores have is hashed and compared, but for that of damaged.
	checks   bool
	damaged  metapb.StoreID
	sums     map[CheckID]map[metapb.StoreID]checkSum
	compared int
}

type clusterPacket struct {
	at       time.Duration
	from, to metapb.StoreID
	start    uint64 // of from
	live     *raftgroup.LivenessMessage
	raft     *Message
	chunk    *SnapshotChunk
	answer   *SnapshotAnswer
	gone     *Gone
	present  *Gone
}

type clusterRequest struct {
	key, value string
	rangeID    metapb.RangeID
	at         Revision // what was issued when it began
	seen       Revision // the last acknowledged change of key then
	body       peerpb.Body
	told       func(peerpb.Reply) // of a test; may be nil
}

type clusterStore struct {
	c      *storeCluster
	id     metapb.StoreID
	start  uint64
	eng    *engine.Mem
	store  *Store // nil while it is down
	system *counterSystem
	reads  metapb.Format // 0: the newest
	halted []Halted
	rate   float64
	offset time.Duration
	paused time.Duration // until then
	tickAt time.Duration
	syncAt time.Duration // the oldest sync under way ends then
	err    error
	snapshotTraffic
}

// plantedBug is what a run must find.
type plantedBug int

const (
	soundCluster plantedBug = iota
	diskLies                // a sync is over before it began
	clocksDrift             // more than the stores are told
)

func newStoreCluster(seed uint64, plant plantedBug) (*storeCluster, error) {
	return newStoreClusterOf(seed, plant, 3)
}

// newStoreClusterOf makes a cluster of more stores; the first three have the ranges.
func newStoreClusterOf(seed uint64, plant plantedBug, stores metapb.StoreID) (*storeCluster, error) {
	c := &storeCluster{
		rng: rand.New(rand.NewPCG(seed, 3)), plant: plant, issued: 1, lastID: 2,
		cut:     make(map[[2]metapb.StoreID]bool),
		asked:   make(map[uint64]*clusterRequest),
		truth:   make(map[Revision]string),
		keyRevs: make(map[string][]Revision),
		numbers: make(map[int]bool),
		refused: make(map[string]bool),
		closed:  make(map[metapb.RangeID]Revision),
	}
	for id := metapb.StoreID(1); id <= stores; id++ {
		n := &clusterStore{c: c, id: id, eng: engine.NewMem(), rate: 1 + 0.04*c.rng.Float64()}
		if plant == clocksDrift {
			n.rate = 1 + 0.8*c.rng.Float64()
		}
		n.offset = time.Duration(c.rng.Int64N(int64(time.Hour)))
		n.eng.DriveSyncs()
		border := []byte{byte(keys.KindLease)}
		b := n.eng.NewBatch()
		for _, d := range []*metapb.Descriptor{{RangeId: 1, End: border}, {RangeId: 2, Start: border}} {
			d.Generation, d.NextReplicaId = 1, 4
			for i := uint64(1); i <= 3; i++ {
				d.Replicas = append(d.Replicas, &metapb.Replica{ReplicaId: i, StoreId: i, NodeId: i})
			}
			if id > 3 {
				break
			}
			if err := Bootstrap(b, d, 1); err != nil {
				return nil, err
			}
		}
		if err := n.eng.Commit(b, true); err != nil {
			return nil, err
		}
		c.nodes = append(c.nodes, n)
		if err := n.open(); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func (n *clusterStore) clock() clock.Time {
	return clock.Time(n.offset + time.Duration(float64(n.c.now)*n.rate))
}

func (n *clusterStore) open() error {
	n.start++
	n.system = &counterSystem{}
	if row, closer, err := n.eng.Get(keys.Row(keys.System("counter"))); err == nil {
		n.system.applied, _ = strconv.Atoi(string(row))
		closer.Close()
	}
	behind, held := uint64(0), uint64(0)
	if n.c.moves {
		behind, held = 8192, 3000
	}
	store, err := NewStore(Config{
		NewView: n.eng.NewView, LogBehindBytesMax: behind, LogHeldBytesMax: held,
		NodeID: metapb.NodeID(n.id), StoreID: n.id, StoreStart: n.start,
		Reader: n.eng, NewBatch: n.eng.NewBatch, System: n.system,
		LogBytesMax: 4096, LogRestBytesMax: 1, SyncsMax: 1 + n.c.rng.IntN(2), Reads: n.reads,
	})
	if err != nil {
		return err
	}
	n.store, n.paused, n.syncAt = store, 0, 0
	store.SetFormat(metapb.FormatNewest)
	n.snapshotTraffic = newSnapshotTraffic()
	store.Tick(n.clock())
	return store.Campaign()
}

func (n *clusterStore) crash() {
	n.c.crashes++
	n.store = nil
	n.eng = n.eng.Crash(func(unsynced int) int { return n.c.rng.IntN(unsynced + 1) })
	for id, req := range n.c.asked { // any order: each is only forgotten
		if id>>32 == uint64(n.id) {
			n.c.forget(req)
			delete(n.c.asked, id)
		}
	}
}

// forget is called for a request whose outcome nobody will hear.
func (c *storeCluster) forget(*clusterRequest) { c.unknown++ }

func (n *clusterStore) busy() bool { return n.store == nil || n.c.now < n.paused }

func (c *storeCluster) send(p clusterPacket) {
	p.start = c.nodes[p.from-1].start
	copies := 1
	if !c.calm {
		switch c.rng.IntN(30) {
		case 0:
			copies = 0
		case 1:
			copies = 2
		}
	}
	for range copies {
		delay := 100*time.Microsecond + time.Duration(c.rng.Int64N(int64(3*time.Millisecond)))
		if !c.calm && c.rng.IntN(20) == 0 {
			delay *= 50
		}
		p.at = c.now + delay
		c.net = append(c.net, p)
	}
}

func (c *storeCluster) step() error {
	c.now += time.Duration(c.rng.Int64N(int64(3 * time.Millisecond)))
	if !c.calm {
		if err := c.fault(); err != nil {
			return err
		}
		c.traffic()
	}
	for i := 0; i < len(c.net); {
		p := c.net[i]
		to := c.nodes[p.to-1]
		if p.at > c.now || c.now < to.paused {
			i++
			continue
		}
		c.net = slices.Delete(c.net, i, i+1)
		if to.store == nil || c.cut[[2]metapb.StoreID{p.from, p.to}] {
			continue
		}
		to.store.SetNow(to.clock())
		if err := to.deliver(p); err != nil {
			return fmt.Errorf("store %d: %w", to.id, err)
		}
	}
	for _, n := range c.nodes {
		if n.busy() {
			continue
		}
		if err := n.turn(); err != nil {
			return fmt.Errorf("store %d: %w", n.id, err)
		}
	}
	if err := c.checkOverlap(); err != nil {
		return err
	}
	return c.checkLeases()
}

// turn is what a node's loop does.
func (n *clusterStore) turn() error {
	s := n.store
	s.SetNow(n.clock())
	if n.eng.PendingSyncs() > 0 && n.c.now >= n.syncAt {
		n.eng.CompleteSync(1)
		if n.err != nil {
			return n.err
		}
		n.syncAt = n.c.now + n.c.diskTime()
	}
	if n.c.now >= n.tickAt {
		n.tickAt = n.c.now + 20*time.Millisecond
		s.Tick(n.clock())
	}
	n.sendChunks()
	if err := n.ingest(nil); err != nil || n.store != s {
		return err
	}
	for range 50 {
		if !s.HasWork() && !s.HasOutput() {
			return nil
		}
		if err := n.round(); err != nil || n.store != s {
			return err
		}
	}
	return nil
}

func (c *storeCluster) diskTime() time.Duration {
	if !c.calm && c.rng.IntN(2000) == 0 {
		return 2 * time.Second
	}
	return time.Duration(c.rng.Int64N(int64(4 * time.Millisecond)))
}

func (n *clusterStore) round() error {
	s, c := n.store, n.c
	s.Evaluate()
	for asks := s.Asks(); len(asks) > 0; asks = s.Asks() {
		for _, a := range asks {
			g := Grant{Ask: a, First: c.issued + 1, Current: c.issued, Epoch: 1, Compacted: -1}
			c.issued += Revision(a.N)
			s.Granted(g)
		}
	}
	if err := c.replies(n); err != nil {
		return err
	}
	rd, err := s.Collect()
	if err != nil {
		return err
	}
	for _, out := range rd.Liveness {
		c.send(clusterPacket{from: n.id, to: out.To, live: out.Message})
	}
	for i := range rd.Messages {
		c.raftMessages++
		c.last = rd.Messages[i]
		c.send(clusterPacket{from: n.id, to: rd.Messages[i].To, raft: &rd.Messages[i]})
	}
	if rd.Apply != nil {
		if err := n.eng.Commit(rd.Apply, false); err != nil {
			return err
		}
	}
	if err := c.applied(n, rd.Applied); err != nil {
		return err
	}
	s.Advance()
	if rd.Append != nil {
		if n.eng.PendingSyncs() == 0 {
			n.syncAt = c.now + c.diskTime()
		}
		token := rd.Token
		err := n.eng.CommitAsync(rd.Append, func(error) {
			if n.store == s && c.plant != diskLies {
				n.err = s.Synced(token)
			}
		})
		if err != nil {
			return err
		}
		if c.plant == diskLies {
			if err := s.Synced(token); err != nil {
				return err
			}
		}
	}
	if err := n.ingest(rd.Ingests); err != nil || n.store != s {
		return err
	}
	s.Touched(func(*Replica) {})
	return c.replies(n)
}

// applied checks what a store applied against what others did.
func (c *storeCluster) applied(n *clusterStore, all []Applied) error {
	for _, a := range all {
		for _, u := range a.Updates {
			text := describeUpdate(u)
			rev := Revision(u.Revision)
			if was, ok := c.truth[rev]; ok {
				if was != text {
					return fmt.Errorf("at %d it applied %s, another one %s", rev, text, was)
				}
				continue
			}
			if rev <= c.closed[a.Range] {
				return fmt.Errorf("range %d was closed at %d, then came %d: %s", a.Range, c.closed[a.Range], rev, text)
			}
			for _, m := range u.Mutations {
				if c.refused[string(m.Value)] {
					return fmt.Errorf("at %d it applied %s, which was refused", rev, text)
				}
			}
			c.truth[rev] = text
		}
	}
	return nil
}

func describeUpdate(u *cmdpb.Update) (text string) {
	for _, m := range u.Mutations {
		text += fmt.Sprintf("%s=%s ", m.Key, m.Value)
	}
	return text
}

// checkLeases looks who could answer from memory at this moment, paused stores too.
func (c *storeCluster) checkLeases() error {
	holders := make(map[metapb.RangeID]metapb.StoreID)
	for _, n := range c.nodes {
		if n.store == nil {
			continue
		}
		now := n.clock()
		for id, r := range n.store.replicas { // any order: all are looked at
			if r.leading == 0 || !r.single() && !r.lead.Holds(now) {
				continue
			}
			if other := holders[id]; other != 0 {
				return fmt.Errorf("range %d: stores %d and %d hold the lease", id, other, n.id)
			}
			holders[id] = n.id
		}
	}
	return nil
}

// replies takes a store's answers.
func (c *storeCluster) replies(n *clusterStore) error {
	out := n.store.Output()
	n.halted = append(n.halted, out.Halted...)
	if err := n.output(&out); err != nil {
		return err
	}
	for _, rep := range out.Replies {
		req := c.asked[rep.ID]
		if req == nil {
			if rep.ID == 0 {
				continue
			}
			return fmt.Errorf("second reply to %d", rep.ID)
		}
		delete(c.asked, rep.ID)
		if err := c.replied(req, rep); err != nil {
			return err
		}
	}
	return nil
}

func (c *storeCluster) replied(req *clusterRequest, rep peerpb.Reply) error {
	if req.told != nil {
		req.told(rep)
	}
	if rep.Err != nil {
		if errors.Is(rep.Err, peerpb.ErrUnknown) {
			c.forget(req)
		} else if req.value != "" {
			c.refused[req.value] = true
			for rev, text := range c.truth { // any order
				if bytes.Contains([]byte(text), []byte("="+req.value+" ")) {
					return fmt.Errorf("%s was refused (%v) and applied at %d", req.value, rep.Err, rev)
				}
			}
		}
		return nil
	}
	switch body := rep.Body.(type) {
	case *pb.PutResponse:
		c.acked++
		rev := Revision(body.Header.Revision)
		if rev <= req.at {
			return fmt.Errorf("put of %s got %d, %d was issued before it began", req.value, rev, req.at)
		}
		c.keyRevs[req.key] = append(c.keyRevs[req.key], rev)
	case *pb.TxnResponse:
		c.reads++
		var mod Revision
		for _, op := range body.Responses {
			for _, kv := range op.GetResponseRange().GetKvs() {
				mod = Revision(kv.ModRevision)
			}
		}
		if mod < req.seen {
			return fmt.Errorf("a read of %s saw %d, %d was acknowledged before it began", req.key, mod, req.seen)
		}
	case *peerpb.Closed:
		c.closed[req.rangeID] = max(c.closed[req.rangeID], body.S)
	case *peerpb.ReplicasChanged:
		c.changes++
	case *peerpb.SplitDone:
		c.splits++
	case int:
		if c.numbers[body] {
			return fmt.Errorf("number %d was given twice", body)
		}
		c.numbers[body] = true
	}
	return nil
}
