package node

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"math/rand"
	"slices"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/internal/clock"
	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/lease"
	"github.com/flotilladb/flotilla/mvcc"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/router"
)

// leaseWorld issues random requests about leases, several at a time, over ranges
// that are being split, with crashes, and checks what must hold of them.
type leaseWorld struct {
	*coreRun
	rng  *rand.Rand
	seed int64

	leases  map[int64]*leaseLife
	grants  []int64
	open    map[uint64]func(resp any, err error) // requests without a result
	deleted map[metapb.Revision]bool             // revisions of client's deletions
	unknown bool                                 // a deletion's outcome is not known
	splits  int
	// published is what renewals go through since the last crash, direct how many
	// did.
	published []*lease.Renewals
	direct    int
	acked     int // puts with a lease
}

// leaseLife is what clients know of a lease. An id is granted once.
type leaseLife struct {
	ttl     clock.Time
	granted bool       // known to clients
	renewed clock.Time // the last renewal that a client knows of was asked for then
	ending  bool       // a revoke was asked for
	// revokedTwice: more than one was.
	revokedTwice bool
	ended        bool // it was told that the lease is gone
}

// mayBeGone reports whether the lease may have ended by now.
func (l *leaseLife) mayBeGone(now clock.Time) bool {
	return l.ending || now >= l.renewed+l.ttl
}

func (w *leaseWorld) issue(req any, done func(resp any, err error)) {
	w.open[w.request(req)] = done
}

func (w *leaseWorld) key() []byte { return leaseKey(w.rng.Intn(32)) }

// lease returns a lease, mostly one that exists; sometimes none.
func (w *leaseWorld) lease() int64 {
	if len(w.grants) == 0 || w.rng.Intn(5) == 0 {
		return 0
	}
	return w.grants[max(0, len(w.grants)-1-w.rng.Intn(8))]
}

func (w *leaseWorld) grant() {
	id := w.rng.Int63n(400) - 200
	if w.leases[id] != nil || id == 0 {
		return
	}
	ttl := int64(2 + w.rng.Intn(6))
	l := &leaseLife{ttl: clock.Time(ttl) * clock.Time(time.Second), renewed: w.now}
	w.leases[id] = l
	w.grants = append(w.grants, id)
	w.issue(&pb.LeaseGrantRequest{ID: id, TTL: ttl}, func(_ any, err error) {
		l.granted = l.granted || err == nil
		if errors.Is(err, lease.ErrExists) {
			w.t.Errorf("seed %d: lease %d exists, and nobody granted it", w.seed, id)
		}
	})
}

// attached checks the outcome of a request that attaches keys to leases.
func (w *leaseWorld) attached(ids []int64) func(any, error) {
	known, dead := true, false
	for _, id := range ids {
		if id != 0 {
			known = known && w.leases[id].granted
			dead = dead || w.leases[id].ended
		}
	}
	return func(_ any, err error) {
		gone := false
		for _, id := range ids {
			gone = gone || id != 0 && w.leases[id].mayBeGone(w.now)
		}
		switch {
		case errors.Is(err, lease.ErrNotFound) && known && !gone:
			w.t.Errorf("seed %d: a lease of %v was not found, and lives", w.seed, ids)
		case err == nil && dead:
			w.t.Errorf("seed %d: keys were attached to one of %v, which had ended", w.seed, ids)
		case err == nil:
			w.acked++
		}
	}
}

func (w *leaseWorld) op() {
	switch n := w.rng.Intn(20); {
	case n < 3:
		w.grant()
	case n < 10:
		id := w.lease()
		w.issue(&pb.PutRequest{Key: w.key(), Value: []byte("v"), Lease: id}, w.attached([]int64{id}))
	case n < 13:
		req, ids := &pb.TxnRequest{}, []int64{}
		for i := range 3 {
			id := w.lease()
			ids = append(ids, id)
			req.Success = append(req.Success, &pb.RequestOp{Request: &pb.RequestOp_RequestPut{
				RequestPut: &pb.PutRequest{Key: leaseKey(w.rng.Intn(10) + i*11), Lease: id}}})
		}
		if w.rng.Intn(2) == 0 {
			req.Compare = []*pb.Compare{{Key: w.key(), Target: pb.Compare_VERSION, Result: pb.Compare_GREATER,
				TargetUnion: &pb.Compare_Version{Version: -1}}}
		}
		w.issue(req, w.attached(ids))
	case n < 15:
		w.issue(&pb.DeleteRangeRequest{Key: w.key()}, func(resp any, err error) {
			if err != nil {
				w.unknown = true
			} else {
				w.deleted[metapb.Revision(resp.(*pb.DeleteRangeResponse).Header.Revision)] = true
			}
		})
	case n < 17:
		w.revoke()
	case n < 19:
		w.renew()
	default:
		w.split()
	}
}

func (w *leaseWorld) revoke() {
	id := w.lease()
	if id == 0 {
		return
	}
	l := w.leases[id]
	alone := l.granted && !l.mayBeGone(w.now)
	l.revokedTwice, l.ending = l.ending, true
	w.issue(&router.RevokeRequest{ID: id}, func(_ any, err error) {
		if errors.Is(err, lease.ErrNotFound) && alone && !l.revokedTwice && w.now < l.renewed+l.ttl {
			w.t.Errorf("seed %d: lease %d was not found for its only revoke, and lives", w.seed, id)
		}
		l.ended = l.ended || err == nil
	})
}

func (w *leaseWorld) renew() {
	id := w.lease()
	if id == 0 {
		return
	}
	l, at := w.leases[id], w.now
	dead := l.ended
	known := l.granted && !l.mayBeGone(w.now)
	done := func(_ any, err error) {
		switch {
		case err == nil && dead:
			w.t.Errorf("seed %d: lease %d was renewed after its end", w.seed, id)
		case err == nil:
			l.renewed = max(l.renewed, at)
		case errors.Is(err, lease.ErrNotFound) && known && !l.mayBeGone(w.now):
			w.t.Errorf("seed %d: lease %d was not found for renewal, and lives", w.seed, id)
		}
	}
	if w.rng.Intn(2) == 0 && w.renewDirectly(id) {
		done(nil, nil)
		return
	}
	w.issue(&router.RenewRequest{ID: id}, done)
}

// renewDirectly renews a lease as the handlers of streams do, through what ranges
// published, or one of them some time ago.
func (w *leaseWorld) renewDirectly(id int64) bool {
	for _, rangeID := range w.core.Store().IDs() {
		if r := w.core.Store().Replica(rangeID).Renewals(); r != nil && !slices.Contains(w.published, r) {
			w.published = append(w.published, r)
		}
	}
	for _, r := range w.published {
		if _, ok := r.Renew(lease.ID(id), w.now, func() clock.Time { return w.now }); ok {
			w.direct++
			return true
		}
	}
	return false
}

func (w *leaseWorld) split() {
	if w.splits > 12 {
		return
	}
	w.splits++
	req := &router.SplitRequest{Key: w.key()}
	if w.rng.Intn(3) == 0 {
		req.Address = keys.Lease(w.rng.Int63n(400) - 200)
	}
	w.issue(req, func(any, error) {})
}

// some lets the core work for a while.
func (w *leaseWorld) some() {
	for range w.rng.Intn(6) {
		switch {
		case w.eng.PendingSyncs() > 0 && w.rng.Intn(2) == 0:
			w.eng.CompleteSync(1)
		case w.core.HasReady():
			w.step()
		}
	}
	if w.rng.Intn(3) == 0 {
		w.now += clock.Time(w.rng.Intn(60)) * clock.Time(time.Millisecond)
		w.core.Tick(w.now)
	}
	w.collect()
}

func (w *leaseWorld) collect() {
	for id := uint64(1); id <= w.coreRun.ids; id++ {
		if res, ok := w.results[id]; ok && w.open[id] != nil {
			w.open[id](res.Resp, res.Err)
			delete(w.open, id)
		}
	}
}

// rest lets everything come to its end.
func (w *leaseWorld) rest() {
	for range 600 {
		w.run()
		w.collect()
		if len(w.open) == 0 && !w.unfinished() {
			return
		}
		w.tick(clock.Time(20 * time.Millisecond))
	}
	w.t.Fatalf("seed %d: %d requests have no result", w.seed, len(w.open))
}

// unfinished reports whether a transaction left intents behind that are not ended.
func (w *leaseWorld) unfinished() bool {
	span := keys.IntentSpan(metapb.Span{})
	it, err := w.eng.NewIter(engine.IterOptions{Lower: span.Start, Upper: span.End})
	if err != nil {
		w.t.Fatal(err)
	}
	defer it.Close()
	return it.First()
}

func (w *leaseWorld) crash() {
	w.coreRun.crash(func(n int) int { return w.rng.Intn(n + 1) })
	w.published = nil
	for id, done := range w.open {
		done(nil, router.ErrTimeout)
		delete(w.open, id)
	}
	w.results = make(map[uint64]router.Result)
}

// crash loses what is not synced, but for a part, and starts again.
func (r *coreRun) crash(keep func(int) int) {
	r.eng = r.eng.Crash(keep)
	r.eng.DriveSyncs()
	start, err := NextStart(r.eng)
	if err != nil {
		r.t.Fatal(err)
	}
	cfg := CoreConfig{NodeID: 1, StoreID: 1, StoreStart: start, Reader: r.eng, NewBatch: r.eng.NewBatch}
	if r.core, err = NewCore(cfg); err != nil {
		r.t.Fatal(err)
	}
	r.core.Tick(r.now)
	r.run()
}

// check looks at what is left when nothing is under way.
func (w *leaseWorld) check() {
	w.rest()
	list := w.must(&pb.LeaseLeasesRequest{}).(*pb.LeaseLeasesResponse)
	exists := make(map[int64]bool)
	for _, l := range list.Leases {
		exists[l.ID] = true
		if w.leases[l.ID].ended {
			w.t.Errorf("seed %d: lease %d is listed, and was ended", w.seed, l.ID)
		}
	}
	for _, id := range w.grants {
		if l := w.leases[id]; l.granted && !exists[id] && !l.mayBeGone(w.now) {
			w.t.Errorf("seed %d: lease %d ended early", w.seed, id)
		}
	}
	for key, row := range w.live() {
		if row.Lease != 0 && !exists[row.Lease] {
			w.t.Errorf("seed %d: %s is attached to lease %d, which does not exist", w.seed, key, row.Lease)
		}
		got := w.leased([]byte(key))
		if got != row.Lease {
			w.t.Errorf("seed %d: the row of %s says lease %d, the key %d", w.seed, key, got, row.Lease)
		}
	}
	w.checkKeys(list)
	w.checkEnds()
}

func (w *leaseWorld) leased(key []byte) int64 {
	value, closer, err := w.eng.Get(keys.Leased(key))
	if err != nil {
		return 0
	}
	defer closer.Close()
	id, err := lease.DecodeLeased(value)
	if err != nil {
		w.t.Fatal(err)
	}
	return int64(id)
}

// checkKeys compares the keys that each lease is said to have with the live ones.
func (w *leaseWorld) checkKeys(list *pb.LeaseLeasesResponse) {
	for _, l := range list.Leases {
		got := w.must(&pb.LeaseTimeToLiveRequest{ID: l.ID, Keys: true}).(*pb.LeaseTimeToLiveResponse)
		var want [][]byte
		live := w.live()
		for i := range 32 {
			if live[string(leaseKey(i))].Lease == l.ID {
				want = append(want, leaseKey(i))
			}
		}
		if got.TTL >= 0 && fmt.Sprintf("%s", got.Keys) != fmt.Sprintf("%s", want) {
			w.t.Errorf("seed %d: lease %d has keys %s, want %s", w.seed, l.ID, got.Keys, want)
		}
	}
}

// checkEnds sees that the keys of each lease that ended went at one revision.
func (w *leaseWorld) checkEnds() {
	if w.unknown {
		return
	}
	win, err := mvcc.History(w.eng, mvcc.HistoryOptions{To: mvcc.Latest - 1, BytesMax: 1 << 30})
	if err != nil {
		w.t.Fatal(err)
	}
	ends := make(map[int64]metapb.Revision)
	for i, v := range win.Versions {
		if !v.Tombstone || w.deleted[v.Revision] {
			continue
		}
		for j := i - 1; j >= 0; j-- {
			before := win.Versions[j]
			if !bytes.Equal(before.Key, v.Key) {
				continue
			}
			if end, ok := ends[before.Lease]; ok && end != v.Revision || before.Lease == 0 {
				w.t.Errorf("seed %d: %s of lease %d was deleted at %d, others at %d", w.seed, v.Key, before.Lease, v.Revision, end)
			}
			ends[before.Lease] = v.Revision
			break
		}
	}
}

var leaseSeeds = flag.Int64("lease-seeds", 60, "how many worlds of leases")

func TestRandomLeases(t *testing.T) {
	acked, direct := 0, 0
	for seed := range *leaseSeeds {
		w := &leaseWorld{
			coreRun: newCoreRun(t, CoreConfig{}), rng: rand.New(rand.NewSource(seed)), seed: seed,
			leases: make(map[int64]*leaseLife), open: make(map[uint64]func(any, error)), deleted: make(map[metapb.Revision]bool),
		}
		for round := range 6 {
			for range 60 {
				if len(w.open) < 12 {
					w.op()
				}
				w.some()
			}
			if round%2 == 1 && seed%3 == 0 {
				w.crash()
			}
			w.check()
		}
		acked += w.acked
		direct += w.direct
		if t.Failed() {
			return
		}
	}
	if *leaseSeeds >= 60 && (acked < 1000 || direct < 300) {
		t.Errorf("only %d puts with a lease, %d renewals beside the core", acked, direct)
	}
}
