package node

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/internal/clock"
	"github.com/flotilladb/flotilla/internal/gossip"
	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/internal/stop"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/raftgroup"
	"github.com/flotilladb/flotilla/range"
	"github.com/flotilladb/flotilla/router"
	"github.com/flotilladb/flotilla/watchfeed"
)

// Node is one running node. Its goroutines are named in its Stopper: "loop"
// drives the core, "gc" removes compacted versions, "count" builds the index of
// live keys, "space" watches the disk, "announce" tells the cluster who this node
// is, "book" keeps the addresses of the others, "gossip" tells them of the load, "snapshots" are those that read
// and write snapshots, and "hash" goes over what replicas have, to compare it.
type Node struct {
	cfg       Config
	ident     *metapb.StoreIdent
	eng       engine.Engine
	core      *Core
	client    *router.Client
	counts    *Counts
	gc        *collector
	hub       *watchfeed.Hub
	book      *book
	peers     atomic.Pointer[peerLink] // nil where there are none
	snapshots *snapshotWorkers
	stop      *stop.Stopper // all but the loop
	loopIn    *stop.Stopper

	drains  atomic.Bool // Drain was called
	onTrial atomic.Bool // the folder may be an empty one in place of what the member had
	elected atomic.Uint64
	pub     Published
	refused chan struct{} // has room for one: a put was refused for want of space
	wakeup  chan struct{}
	inbox   struct {
		sync.Mutex
		calls, spare []*router.Call
		synced       []syncDone
		frames       []peerFrame
		jobs         []*SnapshotJob
		frameBytes   int
		funcs        []func()
		failure      error // why the node cannot go on; nothing else is taken then
		closed       bool
		// lazy: a call need not wake the loop, which comes by itself; hurried: one
		// that cannot wait for that has woken it.
		lazy, hurried bool
	}

	// turn is held by whoever drives the core: the loop, or who brings work while
	// it rests. It guards the core and what follows. The lock order is turn, inbox.
	turn          sync.Mutex
	turnErr       error // of a turn that was not the loop's
	ended         bool  // no more turns
	calls         map[uint64]*router.Call
	nextCall      uint64
	syncing       int
	isServing     bool
	drained       chan struct{} // closed when no leader is left; nil: nobody waits for it
	begun         uint64        // the store's start
	folder        nonce         // 0: it was made by a join, or by an older version
	earlier       time.Duration // the longest promise that a start before may have given
	gossip        atomic.Pointer[gossip.Gossip]
	gossipAddr    atomic.Pointer[string]
	announcedOnce sync.Once
	// noticed is the version of the members and alarms that the others were told.
	noticed uint64

	serving   chan struct{} // closed when the node can answer
	several   chan struct{} // closed when the cluster is one of several stores
	announced chan struct{} // closed when the cluster knows of this start
	failed    chan struct{} // closed when the node has failed; err says why
	loopDone  chan struct{}
	err       error
}

// errUnknownOutcome is what a call gets that was under way when the node failed.
var errUnknownOutcome = router.ErrTimeout

// Open starts a node on its data folder and returns when it can answer
// requests.
func Open(ctx context.Context, cfg Config) (*Node, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg.setDefaults()
	damaged := &damageNotice{}
	eng, err := engine.OpenPebble(engine.Config{
		Damaged:       damaged.found,
		Dir:           cfg.Dir,
		CacheBytes:    cfg.CacheBytes,
		MemtableBytes: cfg.MemtableBytes,
		Fatal:         cfg.Fatal,
		Logger:        cfg.Logger.With("part", "engine"),
		Registerer:    cfg.Registerer,
	})
	if err != nil {
		return nil, err
	}
	n, err := start(ctx, cfg, eng)
	if err != nil {
		return nil, errors.Join(err, eng.Close())
	}
	damaged.tell(n)
	return n, nil
}

// start starts a node on an open engine.
func start(ctx context.Context, cfg Config, eng engine.Engine) (*Node, error) {
	ident, err := identify(ctx, &cfg, eng)
	if err != nil {
		return nil, err
	}
	if err := clearSnapshots(cfg.Dir); err != nil {
		return nil, err
	}
	begun, err := NextStart(eng)
	if err != nil {
		return nil, fmt.Errorf("count the start: %w", err)
	}
	earlier, err := notePromise(eng, cfg.ElectionTimeout)
	if err != nil {
		return nil, err
	}
	core, err := coreOf(&cfg, ident, eng, begun, earlier)
	if err != nil {
		return nil, err
	}
	book, err := newBook(eng)
	if err != nil {
		return nil, fmt.Errorf("addresses of other nodes: %w", err)
	}
	if self := metapb.NodeID(ident.NodeId); book.removed(self) || removedFrom(core.System().Members(), self) {
		return nil, removedError(nil)
	}
	n := newNode(cfg, ident, eng, core)
	n.book, n.begun, n.earlier = book, begun, earlier
	if _, err := readRow(eng, keys.StoreRow(rowNonce), n.folder.decode); err != nil {
		return nil, fmt.Errorf("how the cluster was begun: %w", err)
	}
	if n.client, err = router.NewClient(router.ClientConfig{Local: n}); err != nil {
		return nil, err
	}
	if n.hub, err = n.newHub(); err != nil {
		return nil, err
	}
	core.Tick(clock.Now())
	core.Meet(book.stores())
	n.notice()
	n.onTrial.Store(n.folder != 0 && !core.Direct() && !n.book.knowsFolder(metapb.NodeID(ident.NodeId), n.folder))
	if err := n.startPeers(begun); err != nil {
		n.hub.Stop()
		return nil, err
	}
	if err := n.snapshots.run(); err != nil {
		n.hub.Stop()
		return nil, errors.Join(err, n.stopPeers(ctx))
	}
	n.wake()
	if err := n.stop.Go("same cluster", n.checkCluster); err != nil {
		n.hub.Stop()
		return nil, errors.Join(err, n.stopPeers(ctx))
	}
	if err := n.loopIn.Go("loop", n.loop); err != nil {
		n.hub.Stop()
		return nil, errors.Join(err, n.stopPeers(ctx))
	}
	if err := n.begin(ctx); err != nil {
		return nil, errors.Join(err, n.abandon())
	}
	return n, nil
}

// abandon ends a node whose start has failed when its loop ran already.
func (n *Node) abandon() error {
	n.stop.Quiesce()
	n.loopIn.Quiesce()
	<-n.loopDone
	n.hub.Stop()
	return errors.Join(n.stop.Wait(context.Background()), n.stopPeers(context.Background()), n.core.CloseSnapshots())
}

// coreOf makes the core of a start, behind starts that gave promises of some length.
func coreOf(cfg *Config, ident *metapb.StoreIdent, eng engine.Engine, begun uint64, earlier time.Duration) (*Core, error) {
	return NewCore(CoreConfig{
		NodeID:      metapb.NodeID(ident.NodeId),
		StoreID:     metapb.StoreID(ident.StoreId),
		StoreStart:  begun,
		Reader:      eng,
		NewBatch:    eng.NewBatch,
		NewView:     eng.NewView,
		Tables:      eng,
		SnapshotDir: snapshotDir(cfg.Dir),
		Logger:      raftgroup.NewLogger(cfg.Logger.With("part", "raft")),
		Random:      rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64())),
		Ranges:      ranges.Config{SyncsMax: cfg.SyncsMax, Liveness: cfg.liveness(earlier)},
		Router:      router.Config{LeaseTTLMin: cfg.leaseTTLMin()},
		Planner:     cfg.planner(), CheckInterval: cfg.CheckInterval, Reads: cfg.reads,
	})
}

// newNode returns a node around its core, of which nothing runs yet.
func newNode(cfg Config, ident *metapb.StoreIdent, eng engine.Engine, core *Core) *Node {
	n := &Node{
		cfg: cfg, ident: ident, eng: eng, core: core,
		counts:    NewCounts(eng),
		stop:      stop.New(context.Background()),
		loopIn:    stop.New(context.Background()),
		wakeup:    make(chan struct{}, 1),
		refused:   make(chan struct{}, 1),
		calls:     make(map[uint64]*router.Call),
		serving:   make(chan struct{}),
		several:   make(chan struct{}),
		announced: make(chan struct{}),
		failed:    make(chan struct{}),
		loopDone:  make(chan struct{}),
	}
	n.gossipAddr.Store(new(string))
	// Several nodes of a test may share a registry: the first shows.
	_ = cfg.Registerer.Register(prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "flotilla_leaders_elected_total",
		Help: "How often a replica of this node came to lead its range, planned or not.",
	}, func() float64 { return float64(n.elected.Load()) }))
	n.gc = newCollector(n)
	n.snapshots = newSnapshotWorkers(n)
	n.pub.init()
	n.pub.room.Store(n.room())
	if n.pub.direct.Store(core.Direct()); !core.Direct() {
		close(n.several)
	}
	return n
}

// begin waits until the node can answer, and starts what runs beside the loop.
func (n *Node) begin(ctx context.Context) error {
	select {
	case <-n.serving:
	case <-n.failed:
		return n.err
	case <-ctx.Done():
		return ctx.Err()
	}
	for name, f := range map[string]func(context.Context){
		"gc": n.gc.run, "count": n.counts.run, "space": n.watchSpace, "announce": n.announce, "book": n.keepBook, "gossip": n.runGossip,
		"promises": n.forgetPromises,
	} {
		if err := n.stop.Go(name, f); err != nil {
			return err
		}
	}
	// Nobody is served by a node that is no member any more.
	select {
	case <-n.announced:
	case <-n.failed:
		return n.err
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// Failed is closed when the node can no longer answer; Err says why.
func (n *Node) Failed() <-chan struct{} { return n.failed }

// Err returns why the node failed, after Failed.
func (n *Node) Err() error { return n.err }

// Stop ends the node in order: its leaders go to other stores, no new request is
// taken, those under way are answered, and the disk has everything.
func (n *Node) Stop(ctx context.Context) error {
	n.Drain(ctx)
	if g := n.gossip.Load(); g != nil {
		if err := g.Leave(); err != nil {
			n.cfg.Logger.Info("others were not told that this node leaves", "error", err)
		}
	}
	n.hub.Stop()
	n.stop.Quiesce()
	n.loopIn.Quiesce()
	select {
	case <-n.loopDone:
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := errors.Join(n.stop.Wait(ctx), n.stopPeers(ctx), n.core.CloseSnapshots()); err != nil {
		return err
	}
	return n.eng.Close()
}

// Current implements router.Local.
func (n *Node) Current() (current, compacted metapb.Revision) { return n.pub.Current() }

// Direct implements router.Local.
func (n *Node) Direct() bool { return n.pub.direct.Load() }

// publishDirect lets readers know that what is current has to be asked for from now
// on. It is called after Ranges, and before there is a second store.
func (n *Node) publishDirect() {
	if n.pub.direct.Load() && !n.core.Direct() {
		n.pub.direct.Store(false)
		close(n.several)
	}
}

// Leaderless implements router.Local.
func (n *Node) Leaderless() bool { return n.pub.leader.Load() == 0 }

// Pieces implements router.Local.
func (n *Node) Pieces(dst []router.Piece, span metapb.Span, s metapb.Revision) []router.Piece {
	return n.pub.Pieces(dst, span, s)
}

// Valid implements router.Local.
func (n *Node) Valid(p router.Piece, rev metapb.Revision) bool { return n.pub.Valid(p, rev) }

// Reader implements router.Local.
func (n *Node) Reader() engine.Reader { return n.eng }

// Count implements router.Local.
func (n *Node) Count(start, end []byte, rev metapb.Revision) (int64, error) {
	return n.counts.Count(start, end, rev)
}

// watchSpace tells the core whether the disk takes writes that need space, and
// raises the alarm of etcd's API when it does not.
func (n *Node) watchSpace(ctx context.Context) {
	t := time.NewTicker(spaceInterval)
	defer t.Stop()
	wasFull, wasNone, refused := false, false, false
	for {
		room := n.room()
		n.pub.room.Store(room)
		full := room <= 0
		if full != wasFull {
			if n.inLoop(ctx, func() { n.core.SetFull(full) }) != nil {
				return
			}
			if full {
				n.cfg.Logger.Warn("the disk, or the quota, is nearly full: leaders leave this node", "room_bytes", room)
			}
		}
		none := false // no store can take more
		if full && n.inLoop(ctx, func() { none = n.core.NoneTakes() }) != nil {
			return
		}
		if (none && !wasNone || refused) && !n.hasAlarm(pb.AlarmType_NOSPACE) {
			n.cfg.Logger.Warn("no space left: puts are refused until keys are removed and the alarm is disarmed")
			n.raiseNoSpace(ctx)
		}
		if wasFull && !full {
			n.cfg.Logger.Info("space is back: if there is a NOSPACE alarm, disarm it to take puts again")
		}
		wasFull, wasNone, refused = full, none, false
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		case <-n.refused:
			refused = true
		}
	}
}

const spaceInterval = time.Second
