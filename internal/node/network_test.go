package node

import (
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand"
	"slices"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/internal/clock"
	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/mvcc"
	"github.com/flotilladb/flotilla/placement"
	"github.com/flotilladb/flotilla/proto/cmdpb"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/peerpb"
	"github.com/flotilladb/flotilla/range"
	"github.com/flotilladb/flotilla/router"
)

var (
	netSeeds = flag.Int64("netseeds", 12, "how many seeds TestTxnsOverNetwork runs")
	netFrom  = flag.Int64("netfrom", 1, "the first of them")
)

// noSystem is the system range of a store that has none.
type noSystem struct{}

func (noSystem) Evaluate(any) ([]*cmdpb.Row, any, error) { return nil, nil, nil }
func (noSystem) Apply([]*cmdpb.Row)                      {}
func (noSystem) Reset()                                  {}

// netRun is a router and a store on two nodes with a bad network in between, where
// messages come late, twice, in any order or not at all. The router lives; the
// store crashes and starts again.
type netRun struct {
	rng    *rand.Rand
	eng    *engine.Mem
	store  *ranges.Store
	router *router.Router
	now    clock.Time
	start  uint64
	rev    metapb.Revision // the sequencer
	nextID metapb.RangeID
	err    error

	// lockAge and intentAge are the store's; one message in lateOne is late.
	lockAge, intentAge time.Duration
	lateOne            int

	mail    []mail
	waiting map[uint64]bool // the router's requests without a reply
	pushes  map[uint64]pushID
	ids     uint64
	done    map[uint64]func(resp any, err error)

	quiet  bool
	acked  metapb.Revision // the highest revision that any client saw
	writes []*netWrite
	reads  []netRead
}

// mail is something on its way.
type mail struct {
	at clock.Time
	do func()
}

// pushID is a question of one start of the store.
type pushID struct{ start, id uint64 }

// netWrite is a transaction that writes both hot keys and two keys of its own.
type netWrite struct {
	number int
	rev    int64 // in the answer
	low    metapb.Revision
}

// netRead is what a reader at s saw: the revision of both hot keys.
type netRead struct {
	s   metapb.Revision
	mod int64
	how string
}

func newNetRun(seed int64) *netRun {
	n := &netRun{
		rng: rand.New(rand.NewSource(seed)), eng: engine.NewMem(), now: clock.Time(time.Second), rev: 1, nextID: 100,
		waiting: map[uint64]bool{}, pushes: map[uint64]pushID{}, done: map[uint64]func(any, error){},
	}
	pick := func(of ...int) int { return of[n.rng.Intn(len(of))] }
	n.lockAge = time.Duration(pick(50, 300, 2000)) * time.Millisecond
	n.intentAge = time.Duration(pick(20, 100, 1000)) * time.Millisecond
	n.lateOne = pick(8, 20, 100)
	b := n.eng.NewBatch()
	r, err := router.New(router.Config{Store: 2, StoreStart: 1})
	n.fail(err)
	n.router = r
	for i, bounds := range [][2]string{{"l", "uk"}, {"uk", "uq"}, {"uq", ""}} {
		d := &metapb.Descriptor{RangeId: uint64(i + 2), Generation: 1, NextReplicaId: 2,
			Start: []byte(bounds[0]), End: []byte(bounds[1]),
			Replicas: []*metapb.Replica{{ReplicaId: 1, StoreId: 1, NodeId: 1}}}
		n.fail(ranges.Bootstrap(b, d, 1))
		r.Descriptors([]*metapb.Descriptor{d})
	}
	n.fail(n.eng.Commit(b, true))
	n.eng.DriveSyncs()
	n.open()
	return n
}

func (n *netRun) fail(err error) {
	if n.err == nil {
		n.err = err
	}
}

func (n *netRun) open() {
	n.start++
	store, err := ranges.NewStore(ranges.Config{
		NodeID: 1, StoreID: 1, StoreStart: n.start, Reader: n.eng, NewBatch: n.eng.NewBatch, System: noSystem{},
		LockAgeMax: n.lockAge, IntentAgeMax: n.intentAge,
	})
	n.fail(err)
	n.store = store
	store.Tick(n.now)
	n.fail(store.Campaign())
}

// crash loses the store's memory and a part of what was not synced. Who waits for
// an answer learns that there will be none.
func (n *netRun) crash() {
	n.eng = n.eng.Crash(func(unsynced int) int { return n.rng.Intn(unsynced + 1) })
	n.eng.DriveSyncs()
	n.open()
	for _, id := range slices.Sorted(maps.Keys(n.waiting)) {
		n.answer(peerpb.Reply{ID: id, Err: peerpb.ErrUnknown})
	}
}

// after lets something happen soon, now and then later.
func (n *netRun) after(do func()) {
	d := time.Duration(n.rng.Intn(4)) * time.Millisecond
	if !n.quiet && n.rng.Intn(n.lateOne) == 0 {
		d = time.Duration(n.rng.Intn(n.rng.Intn(2500)+1)) * time.Millisecond
	}
	n.mail = append(n.mail, mail{n.now.Add(d), do})
}

// post is after for a message, which may come twice.
func (n *netRun) post(do func()) {
	n.after(do)
	for !n.quiet && n.rng.Intn(6) == 0 {
		n.after(do)
	}
}

func (n *netRun) deliver() {
	mails := n.mail
	n.mail = nil
	n.rng.Shuffle(len(mails), func(i, j int) { mails[i], mails[j] = mails[j], mails[i] })
	for _, m := range mails {
		if m.at.After(n.now) {
			n.mail = append(n.mail, m)
		} else {
			m.do()
		}
	}
}

// answer brings the router a reply. It knows a second one by its number.
func (n *netRun) answer(rep peerpb.Reply) {
	delete(n.waiting, rep.ID)
	n.router.Reply(rep, n.now)
}

func (n *netRun) send(req *peerpb.Request) {
	n.waiting[req.ID] = true
	if !n.quiet && n.rng.Intn(60) == 0 { // nobody knows whether it came
		if n.rng.Intn(2) == 0 {
			n.after(func() { n.store.Request(req) })
		}
		n.after(func() { n.answer(peerpb.Reply{ID: req.ID, Err: peerpb.ErrUnknown}) })
		return
	}
	n.post(func() { n.store.Request(req) })
}

// step is a millisecond, or more when there is no traffic any more.
func (n *netRun) step() {
	n.now = n.now.Add(time.Millisecond)
	if n.quiet {
		n.now = n.now.Add(9 * time.Millisecond)
	}
	n.store.Tick(n.now)
	n.router.Tick(n.now)
	n.deliver()
	rd := n.router.Ready()
	for _, req := range rd.Sends {
		n.send(req)
	}
	for _, ask := range rd.Asks {
		a := placement.Answer{Name: ask.Name, N: ask.N, First: n.rev, Epoch: 1, Compacted: -1}
		if ask.N > 0 {
			a.First = n.rev + 1
			n.rev += metapb.Revision(ask.N)
		}
		n.after(func() { n.router.Granted(a, n.now) })
	}
	for _, res := range rd.Results {
		n.result(res)
	}
	n.stepStore()
}

func (n *netRun) result(res router.Result) {
	if p, ok := n.pushes[res.ID]; ok {
		delete(n.pushes, res.ID)
		if p.start == n.start {
			n.store.Reply(peerpb.Reply{ID: p.id, Body: res.Resp, Err: res.Err})
		}
		return
	}
	done := n.done[res.ID]
	delete(n.done, res.ID)
	done(res.Resp, res.Err)
}

func (n *netRun) stepStore() {
	s := n.store
	s.Evaluate()
	for _, a := range s.Asks() {
		g := ranges.Grant{Ask: a, First: n.rev + 1, Current: n.rev, Epoch: 1, Compacted: -1}
		n.rev += metapb.Revision(a.N)
		n.after(func() { n.store.Granted(g) })
	}
	rd, err := s.Collect()
	n.fail(err)
	if rd.Apply != nil {
		n.fail(n.eng.Commit(rd.Apply, false))
	}
	s.Advance()
	if rd.Append != nil {
		n.fail(n.eng.CommitAsync(rd.Append, func(err error) { n.fail(errors.Join(err, s.Synced(rd.Token))) }))
	}
	if n.eng.PendingSyncs() > 0 && n.rng.Intn(3) == 0 {
		n.eng.CompleteSync(1)
	}
	out := s.Output()
	for _, rep := range out.Replies {
		if rep.ID != 0 {
			n.post(func() { n.answer(rep) })
		}
	}
	for _, q := range out.Sends {
		n.ids++
		n.pushes[n.ids] = pushID{n.start, q.ID}
		n.router.Request(n.ids, &router.AddressRequest{Address: q.Address, Body: q.Body}, n.now)
	}
}

func (n *netRun) ask(req any, done func(resp any, err error)) {
	n.ids++
	n.done[n.ids] = done
	n.router.Request(n.ids, req, n.now)
}

const hotA, hotB = "h", "t"

func putOp(key, value string) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte(key), Value: []byte(value)}}}
}

func rangeOp(key string) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: []byte(key)}}}
}

// write begins a transaction over two ranges or three; some compare a span of the
// one in the middle, where nothing is written.
func (n *netRun) write() {
	w := &netWrite{number: len(n.writes), low: n.acked}
	n.writes = append(n.writes, w)
	req := &pb.TxnRequest{Success: []*pb.RequestOp{
		putOp(hotA, fmt.Sprint(w.number)), putOp(hotB, fmt.Sprint(w.number)),
		putOp(fmt.Sprintf("a%d", w.number), "x"), putOp(fmt.Sprintf("z%d", w.number), "x"),
	}}
	if n.rng.Intn(3) == 0 {
		req.Compare = []*pb.Compare{{Key: []byte("l"), RangeEnd: []byte("n"), Target: pb.Compare_VERSION,
			Result: pb.Compare_GREATER, TargetUnion: &pb.Compare_Version{Version: -1}}}
	}
	n.ask(req, func(resp any, err error) {
		switch {
		case err == nil:
			w.rev = resp.(*pb.TxnResponse).Header.Revision
			if metapb.Revision(w.rev) <= w.low {
				n.fail(fmt.Errorf("write %d at %d, but %d was seen before it began", w.number, w.rev, w.low))
			}
			n.acked = max(n.acked, metapb.Revision(w.rev))
		case !errors.Is(err, peerpb.ErrUnknown) && !errors.Is(err, router.ErrTimeout):
			n.fail(fmt.Errorf("write %d: %w", w.number, err))
		}
	})
}

// readTxn reads both hot keys by a transaction that may write and does not.
func (n *netRun) readTxn() {
	req := &pb.TxnRequest{
		Compare: []*pb.Compare{{Key: []byte(hotB), Target: pb.Compare_VERSION, Result: pb.Compare_LESS,
			TargetUnion: &pb.Compare_Version{Version: 0}}},
		Success: []*pb.RequestOp{putOp(hotA, "never")},
		Failure: []*pb.RequestOp{rangeOp(hotA), rangeOp(hotB)},
	}
	low := n.acked
	n.ask(req, func(resp any, err error) {
		if err != nil {
			return
		}
		r := resp.(*pb.TxnResponse)
		var mods [2]int64
		for i := range mods {
			if kvs := r.Responses[i].GetResponseRange().Kvs; len(kvs) == 1 {
				mods[i] = kvs[0].ModRevision
			}
		}
		n.saw(metapb.Revision(r.Header.Revision), low, mods, "transaction")
	})
}

// read reads both hot keys at the last revision given out.
func (n *netRun) read() {
	s, low := n.rev, n.acked
	span := metapb.Span{Start: keys.User([]byte(hotA)), End: keys.User([]byte(hotB + "\x00"))}
	n.ask(&router.CloseTicket{S: s, Span: span}, func(_ any, err error) {
		if err != nil {
			return
		}
		var mods [2]int64
		for i, key := range []string{hotA, hotB} {
			kv, err := mvcc.Get(n.eng, []byte(key), s)
			n.fail(err)
			if kv != nil {
				mods[i] = kv.ModRevision
			}
		}
		n.saw(s, low, mods, "read")
	})
}

func (n *netRun) saw(s, low metapb.Revision, mods [2]int64, how string) {
	if mods[0] != mods[1] || s < low || metapb.Revision(mods[0]) > s {
		n.fail(fmt.Errorf("a %s at %d, after %d was seen, shows the hot keys at %v", how, s, low, mods))
	}
	n.acked = max(n.acked, s)
	n.reads = append(n.reads, netRead{s, mods[0], how})
}

func (n *netRun) split() {
	d := n.store.Replica(n.store.IDs()[n.rng.Intn(len(n.store.IDs()))]).Descriptor()
	at := keys.User(fmt.Appendf(nil, "%c%d", 'a'+rune(n.rng.Intn(26)), n.rng.Intn(100)))
	if d.Contains(at) {
		n.nextID++
		n.store.Request(&peerpb.Request{Range: d.ID(), Generation: d.Generation, Body: &peerpb.Split{At: at, RightID: n.nextID}})
	}
}

// traffic begins something, or nothing.
func (n *netRun) traffic() {
	switch x := n.rng.Intn(400); {
	case x < 12:
		n.write()
	case x < 18:
		n.read()
	case x < 21:
		n.readTxn()
	case x < 24:
		n.ask(&pb.PutRequest{Key: fmt.Appendf(nil, "m%d", x)}, func(any, error) {})
	case x == 24:
		n.split()
	case x == 25 && n.rng.Intn(6) == 0:
		n.crash()
	}
}

// check looks at everything when all is over.
func (n *netRun) check() error {
	committed := map[int64]int{}
	for _, w := range n.writes {
		var mods [2]int64
		for i, key := range []string{"a", "z"} {
			kv, err := mvcc.Get(n.eng, fmt.Appendf(nil, "%s%d", key, w.number), mvcc.Latest)
			if err != nil {
				return err
			}
			if kv != nil {
				mods[i] = kv.ModRevision
				if kv.Version != 1 {
					return fmt.Errorf("write %d was done %d times", w.number, kv.Version)
				}
			}
		}
		if mods[0] != mods[1] || (w.rev != 0 && w.rev != mods[0]) {
			return fmt.Errorf("write %d was answered with %d and is at %v", w.number, w.rev, mods)
		}
		if mods[0] != 0 {
			committed[mods[0]]++
		}
	}
	for _, r := range n.reads {
		want := int64(0)
		for rev, count := range committed {
			if count != 1 {
				return fmt.Errorf("revision %d was used %d times", rev, count)
			}
			if metapb.Revision(rev) <= r.s {
				want = max(want, rev)
			}
		}
		if r.mod != want {
			return fmt.Errorf("a %s at %d saw %d and missed %d", r.how, r.s, r.mod, want)
		}
	}
	for _, id := range n.store.IDs() {
		span := n.store.Replica(id).Descriptor().Span()
		for _, rows := range []keys.Span{keys.IntentSpan(span), keys.RecordSpan(span)} {
			it, err := n.eng.NewIter(engine.IterOptions{Lower: rows.Start, Upper: rows.End})
			if err != nil {
				return err
			}
			if it.First() {
				err = fmt.Errorf("%s is left", keys.Format(it.Key()))
			}
			if err = errors.Join(err, it.Close()); err != nil {
				return err
			}
		}
	}
	return nil
}

// settle waits until nothing is under way, and then until every record that was
// left must have been swept.
func (n *netRun) settle() {
	n.quiet = true
	for left, rounds := 3500, 0; left > 0 && rounds < 50000 && n.err == nil; rounds++ {
		if n.step(); n.router.Len() == 0 {
			left--
		}
	}
}

// Transactions over ranges are done once or not at all, whole, and readers see
// them so, whatever the network and the disk do to their messages.
func TestTxnsOverNetwork(t *testing.T) {
	total, answered, reads, starts := 0, 0, 0, uint64(0)
	for seed := *netFrom; seed < *netFrom+*netSeeds; seed++ {
		n := newNetRun(seed)
		for range 6000 {
			n.traffic()
			n.step()
		}
		n.settle()
		if n.router.Len() != 0 {
			n.fail(fmt.Errorf("%d operations are left", n.router.Len()))
		}
		if n.err == nil {
			n.err = n.check()
		}
		if n.err != nil {
			t.Fatalf("seed %d: %v", seed, n.err)
		}
		total, reads, starts = total+len(n.writes), reads+len(n.reads), starts+n.start
		for _, w := range n.writes {
			if w.rev != 0 {
				answered++
			}
		}
	}
	t.Logf("%d of %d writes answered, %d reads, %d starts", answered, total, reads, starts)
	if answered == 0 || reads == 0 {
		t.Error("nothing was done")
	}
}
