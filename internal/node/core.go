package node

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/internal/clock"
	"github.com/flotilladb/flotilla/internal/frame"
	"github.com/flotilladb/flotilla/placement"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/peerpb"
	"github.com/flotilladb/flotilla/raftgroup"
	"github.com/flotilladb/flotilla/range"
	"github.com/flotilladb/flotilla/router"
	"github.com/flotilladb/flotilla/watchfeed"
)

// CoreConfig describes a node's core.
type CoreConfig struct {
	NodeID  metapb.NodeID
	StoreID metapb.StoreID
	// StoreStart counts the starts of the store.
	StoreStart uint64
	Reader     engine.Reader
	NewBatch   func() engine.Batch
	// NewView shows spans of the engine as they are at the moment, Tables begins table
	// files there. Without them no snapshot is sent, or taken.
	NewView func([]engine.Span) engine.View
	Tables  ranges.TableMaker
	// SnapshotDir is what the paths of snapshots' files begin with; SnapshotChunkBytes
	// bounds a piece of one, 0: 256 KiB.
	SnapshotDir        string
	SnapshotChunkBytes int
	// Logger is given to raft. May be nil.
	Logger raftgroup.Logger
	// Random chooses ids of leases. May be nil.
	Random *rand.Rand
	// Planner are the rules by which this node moves replicas and leaders when it
	// leads the system range; nil: it does not.
	Planner *placement.Limits
	// CheckInterval is in what time each range is compared with its replicas that is
	// led here, and that a range is after a move; 0: only what is asked for.
	CheckInterval time.Duration
	// Reads is the highest format that this node reads; 0: that of this version.
	Reads metapb.Format
	// Ranges and Router tune the parts; the fields above are filled in.
	Ranges ranges.Config
	Router router.Config
}

// Ready is what the driver of a Core must do, in this order: commit Apply
// without sync, call Advance, publish, give Results out, commit Append with sync
// and report Token through Synced. A nil batch is nothing to do.
type Ready struct {
	Apply    engine.Batch
	Append   engine.Batch
	Token    uint64
	Applied  []ranges.Applied
	Messages []ranges.Message
	Liveness []raftgroup.LivenessOutput
	Results  []router.Result
	// Frames are to be sent to other stores. Advance fills them in.
	Frames []*frame.Frame
	// Reached is the highest revision of what was applied here, with several stores.
	Reached metapb.Revision
	// Asks says that how far ranges are closed is known only when it was asked for.
	Asks bool
	// Descriptors are of ranges that changed or are new.
	Descriptors []*metapb.Descriptor
	// Removed are ranges that lost their replica here, even if they have another one by
	// now, or a part of what it had. Readers hear of it before Append is committed, with
	// which the rows go. Advance fills it in.
	Removed []metapb.RangeID
	// Lost are ranges that came by a snapshot: what happened there is not in Applied.
	Lost []metapb.RangeID
	// RemovalMark is up to where a snapshot that comes may lack what was compacted,
	// -1: nowhere. Readers hear of it before Jobs begin.
	RemovalMark metapb.Revision
	// Feeds are for the hub. Advance fills them in.
	Feeds []watchfeed.FeedInput
	// Jobs are to be run beside the loop, each then handed to SnapshotDone; those
	// that ingest not before Append is committed. Advance fills them in.
	Jobs []*SnapshotJob
	// Unused are table files to be removed.
	Unused []string
	// Corrupt are replicas that were found to be. Advance fills it in.
	Corrupt []Corrupt
	// Halted are replicas that met what only a newer version knows. Advance fills it in.
	Halted []ranges.Halted
	// Forgotten are stores that are not talked to any more. Advance fills it in.
	Forgotten []metapb.StoreID
}

// Core is everything of a node that decides: a router, a store's replicas, and
// where the node leads the system range, the sequencer. It is driven by one
// loop, and is not safe for concurrent use.
type Core struct {
	cfg    CoreConfig
	now    clock.Time
	store  *ranges.Store
	router *router.Router
	system *placement.System
	// seq is nil until this node leads the system range and knows how far the
	// revisions have gone.
	seq *placement.Sequencer
	// unled is a range that was not led here when seq was to begin last, 0: none.
	unled metapb.RangeID

	results []router.Result
	changed []*metapb.Descriptor // since the last Ready
	// ownLearnt counts what learn took in.
	ownLearnt uint64
	// compacted is the highest compacted revision that was seen.
	compacted metapb.Revision
	// report are descriptors that the directory has to hear of; reporting is what
	// it is being told.
	report    map[metapb.RangeID]*metapb.Descriptor
	reporting *placement.DirectoryOp
	// reportAt is when the directory is told again after it was not reached.
	reportAt clock.Time
	stopping bool
	sends    map[uint64]uint64 // ids of the store's questions, by ours
	// expiries are the revokes of expired leases that are under way, by our ids.
	expiries map[uint64]ranges.Expired
	internal uint64 // the last id of our own requests
	// ceilings are those of seq on their way into the log, by our ids.
	ceilings map[uint64]*placement.CeilingOp

	// many: the cluster has several stores. ending: it has one, and that is about to
	// end.
	many, ending bool
	// reached is the highest revision of what was applied here, if there are.
	reached metapb.Revision
	// removed and lost are for the next Ready.
	removed, lost []metapb.RangeID
	failed        error // the first; the next Ready returns it
	peers
	stores
	planning
	operations operations
	asking
	closings
	reads
	moves
	space
	snapshots
	checks
	feeds
	formats
}

// Ids of requests that the core itself makes have this bit; the driver's have
// not.
const internalBit = 1 << 63

// Our own requests besides the store's questions.
const (
	reportID = internalBit | iota
	lookupID // a page of the directory
	firstSendID
)

// NewCore starts a node's core on what its engine holds. Bootstrap must have
// been called for the engine once.
func NewCore(cfg CoreConfig) (*Core, error) {
	system := placement.NewSystem()
	if err := system.Load(cfg.Reader); err != nil {
		return nil, fmt.Errorf("system rows: %w", err)
	}
	cfg.Ranges.NodeID, cfg.Ranges.StoreID, cfg.Ranges.StoreStart = cfg.NodeID, cfg.StoreID, cfg.StoreStart
	cfg.Ranges.Reader, cfg.Ranges.NewBatch = cfg.Reader, cfg.NewBatch
	cfg.Ranges.System, cfg.Ranges.Logger = system, cfg.Logger
	cfg.Ranges.NewView = cfg.NewView
	if cfg.Reads == 0 {
		cfg.Reads = metapb.FormatNewest
	}
	if system.Format() > cfg.Reads {
		return nil, oldVersion(system.Format(), cfg.Reads)
	}
	cfg.Ranges.Reads = cfg.Reads
	if cfg.SnapshotChunkBytes == 0 {
		cfg.SnapshotChunkBytes = snapshotChunkBytes
	}
	if cfg.Router.Random == nil {
		cfg.Router.Random = cfg.Random
	}
	cfg.Router.Store, cfg.Router.StoreStart = cfg.StoreID, cfg.StoreStart
	store, err := ranges.NewStore(cfg.Ranges)
	if err != nil {
		return nil, err
	}
	rt, err := router.New(cfg.Router)
	if err != nil {
		return nil, err
	}
	c := &Core{
		cfg: cfg, store: store, router: rt, system: system,
		report:    make(map[metapb.RangeID]*metapb.Descriptor),
		sends:     make(map[uint64]uint64),
		expiries:  make(map[uint64]ranges.Expired),
		ceilings:  make(map[uint64]*placement.CeilingOp),
		internal:  firstSendID,
		compacted: -1,
		many:      !system.OneStore(),
		peers:     newPeers(),
		snapshots: newSnapshots(),
		closings:  closings{closing: make(map[metapb.RangeID]*closing)},
	}
	system.SetLives(c.reaches, c.cfg.Planner != nil)
	system.SetReads(c.readsAndStays)
	c.knowFormat()
	c.detour = placement.NewDetour(placement.DetourConfig{After: store.ElectionTimeout()})
	if c.many {
		store.SetMany()
		c.reached = store.Revision()
	}
	for _, id := range store.IDs() {
		c.learn(store.Replica(id).Descriptor())
	}
	store.SetCompacted(system.Compacted())
	c.knowSystem()
	c.loadCorrupts()
	return c, store.Campaign()
}

// learn takes in a range as its own replica has it.
func (c *Core) learn(d *metapb.Descriptor) {
	c.ownLearnt++
	c.meet(d)
	if c.many {
		c.bornClosing(d)
		c.unpark(d.ID(), func(*read) bool { return true }) // what they read may be another's by now
		c.watchMoves(d)
	}
	c.router.Descriptors([]*metapb.Descriptor{d})
	c.changed = append(c.changed, d)
	c.report[d.ID()] = d
}

// Request begins a client's request, named id by the driver; the top bit of id
// must be clear. Its result comes with a later Ready.
func (c *Core) Request(id uint64, req any) {
	if c.many && c.requestRead(id, req) {
		return
	}
	if c.requestByHand(id, req) {
		return
	}
	c.router.Request(id, req, c.now)
}

// Synced says that the Append of a Ready is durable.
func (c *Core) Synced(token uint64) error { return c.store.Synced(token) }

// SetNow tells the time and nothing else. The driver calls it before requests: a
// lease that is renewed lives from then on, and not from the last Tick.
func (c *Core) SetNow(now clock.Time) {
	c.now = max(c.now, now)
	c.store.SetNow(now)
}

// Tick tells the time.
func (c *Core) Tick(now clock.Time) {
	c.now = now
	c.store.Tick(now)
	c.router.Tick(now)
	if c.seq != nil {
		c.seq.Tick(now)
	}
	c.tickFormat()
	if c.many {
		c.tickLinks()
		c.retryClosings()
		c.dropClosings()
		c.tickReads()
		c.tickDetour()
		c.tickDrain()
		c.tickFull()
		c.advanceMoves()
		if c.mayLookUp() {
			c.lookUp()
		}
		c.tickOperations()
		c.tickPlan()
		c.tickSnapshots()
		c.tickChecks()
		c.tickFeeds()
	}
}

// fail ends the node: the next Ready returns the first error.
func (c *Core) fail(err error) {
	if c.failed == nil {
		c.failed = err
	}
}

// tickPause is about how far two calls of Tick are apart.
const tickPause = clock.Time(20 * time.Millisecond)

// Serving reports whether requests can be answered: there is a sequencer, and
// this node has heard of it.
func (c *Core) Serving() bool {
	if c.many {
		return c.serves
	}
	return c.seq != nil
}

// Direct reports whether a read may begin at Current: the cluster has one store.
func (c *Core) Direct() bool { return !c.many }

// SystemLeader returns the store that leads the system range in a term, 0 if it is
// not known. The node of a store has its id.
//
// A leader that is not heard of, or that hears of too few others, is none any more.
func (c *Core) SystemLeader() (metapb.StoreID, uint64) {
	hint, _ := c.leaderOf(metapb.SystemRange)
	if !c.many {
		return hint.store, hint.term
	}
	switch r, l := c.store.Replica(metapb.SystemRange), c.links[hint.store]; {
	case hint.store == c.cfg.StoreID:
		if r == nil || r.Deserted() {
			hint.store = 0
		}
	case l == nil || !l.ready(), r != nil && !c.store.Live(hint.store):
		hint.store = 0
	}
	return hint.store, hint.term
}

// Current is the revision at which a read that begins now reads; 0 before
// Serving. In a cluster of several stores it is the highest that is known to be
// given out, and whoever wants to read has to ask.
func (c *Core) Current() metapb.Revision {
	switch {
	case c.many:
		return c.current
	case c.seq == nil:
		return 0
	}
	return c.seq.Current()
}

// Compacted is the highest compacted revision that this node knows of, -1 if there is
// none. Without a replica of the system range it hears of it in the sequencer's answers.
func (c *Core) Compacted() metapb.Revision { return c.store.Compacted() }

// System is what the system range says.
func (c *Core) System() *placement.System { return c.system }

// Store is the node's store.
func (c *Core) Store() *ranges.Store { return c.store }

// Stop refuses new requests; those under way go on.
func (c *Core) Stop() {
	c.stopping = true
	c.stopMoves()
	c.router.Stop()
}

// Ready runs everything that needs no disk, and hands out the rest.
func (c *Core) Ready() (Ready, error) {
	c.run()
	rd, err := c.store.Collect()
	if err == nil {
		err = c.failed
	}
	if err != nil {
		return Ready{}, err
	}
	if c.many {
		c.reach(rd.Applied)
	}
	out := Ready{
		Reached: c.reached,
		Apply:   rd.Apply, Append: rd.Append, Token: rd.Token, Applied: rd.Applied, Messages: rd.Messages, Liveness: rd.Liveness,
		Results: c.results, Descriptors: c.changed, Asks: c.many,
		Lost: c.lost, RemovalMark: c.ingestLater(rd.Ingests),
	}
	c.results, c.changed, c.lost = nil, nil, nil
	return out, nil
}

// reach notes how far what was applied goes.
func (c *Core) reach(applied []ranges.Applied) {
	for i := range applied {
		for _, u := range applied[i].Updates {
			c.reached = max(c.reached, metapb.Revision(u.Revision))
		}
	}
}

// HasReady reports whether Ready would do anything.
func (c *Core) HasReady() bool {
	return c.store.HasWork() || c.store.HasOutput() || len(c.results) > 0 || len(c.changed) > 0 || c.router.HasReady() || c.mayTell() ||
		len(c.jobs)+len(c.removed)+len(c.lost)+len(c.unused)+len(c.found)+len(c.feedsIn)+len(c.halted)+len(c.forgotten) > 0 || c.failed != nil ||
		c.many && c.hasPeerWork()
}

// hasPeerWork reports whether there is something to ask of, or tell, other stores.
func (c *Core) hasPeerWork() bool {
	if c.hasFrames() || c.advanced || len(c.wanting) > 0 || !c.askingS && (len(c.fresh) > 0 || !c.serves) {
		return true
	}
	_, ok := c.mayAsk()
	return ok
}

// Advance says that the Apply of the last Ready is committed. What it made
// readable is current from now on; results of it come with the next Ready.
func (c *Core) Advance(rd *Ready) {
	c.store.Advance()
	c.checkSequencer()
	if rev := c.system.Compacted(); rev >= 0 {
		c.store.SetCompacted(rev)
		if c.seq != nil {
			c.seq.Compacted(rev)
		}
	}
	if rev := c.Compacted(); c.many && rev > c.compacted {
		c.compacted = rev
		c.wantAll(rev) // what is removed waits for that
	}
	if led := c.store.Led(); len(led) > 0 {
		c.router.Led(led, c.now)
	}
	c.pump()
	if c.isMany() {
		c.becomeMany()
		rd.Asks = true
	}
	if c.many {
		c.sawCurrent(c.store.Visible())
		c.advanceMoves()
		c.countClosings()
		c.checkReads()
		rd.Frames = c.outbox(rd)
	}
	rd.Results = append(rd.Results, c.results...)
	rd.Removed, rd.Jobs, rd.Unused, rd.Corrupt, rd.Feeds, rd.Halted, rd.Forgotten = c.removed, c.jobs, c.unused, c.found, c.feedsIn, c.halted, c.forgotten
	c.results, c.removed, c.jobs, c.unused, c.found, c.feedsIn, c.halted, c.forgotten = nil, nil, nil, nil, nil, nil, nil, nil
}

// run lets requests, replies and grants go back and forth until all wait for
// the disk.
func (c *Core) run() {
	for {
		moved := c.pump()
		c.store.Evaluate()
		asks := c.store.Asks()
		if c.seq == nil && !c.many {
			c.store.PutBack(asks)
			asks = nil
		}
		for i := range asks {
			c.askFor(&asks[i])
		}
		peers := c.many && c.flushPeers()
		if !moved && !peers && len(asks) == 0 && !c.store.HasOutput() {
			return
		}
	}
}

// flushPeers asks what there is to ask of the sequencer and of other stores. It
// reports whether something here has got on.
func (c *Core) flushPeers() bool {
	c.checkReads()
	asked := c.flushReads()
	for c.flushAsks() {
		asked = asked || c.seq != nil
	}
	return c.flushClosings() || asked
}

// pump carries replies to the router and its requests to the store, until
// neither has any.
func (c *Core) pump() (moved bool) {
	for {
		if c.seq != nil && (c.many || c.ending) {
			c.pumpSequencer()
		}
		rd := c.router.Ready()
		if !c.store.HasOutput() && rd.Empty() && !c.tellDirectory() {
			return moved
		}
		moved = true
		for _, req := range rd.Sends {
			c.send(req)
		}
		for i := range rd.Asks {
			c.alloc(rd.Asks[i])
		}
		for _, res := range rd.Results {
			c.result(res)
		}
		out := c.store.Output()
		for _, rep := range out.Replies {
			c.reply(rep)
		}
		for _, s := range out.Sends {
			c.internal++
			id := internalBit | c.internal
			c.sends[id] = s.ID
			c.router.RequestOwn(id, &router.AddressRequest{Address: s.Address, Body: s.Body}, c.now)
		}
		for _, d := range out.Descriptors {
			c.learn(d)
		}
		for _, w := range out.Transfers {
			c.wantTransfer(w)
		}
		c.changes(&out)
		for _, e := range out.Expired {
			c.internal++
			id := internalBit | c.internal
			c.expiries[id] = e
			c.router.Request(id, &router.RevokeRequest{ID: e.ID, Expired: true}, c.now)
		}
	}
}

// result gives a result to who asked.
func (c *Core) result(res router.Result) {
	if res.ID&internalBit == 0 {
		c.sawDone(&res)
		c.results = append(c.results, res)
		return
	}
	switch res.ID {
	case reportID:
		c.reported(res.Err)
	case lookupID:
		c.lookedUp(res.Resp, res.Err)
	default:
		if op := c.ceilings[res.ID]; op != nil {
			delete(c.ceilings, res.ID)
			if res.Err != nil {
				c.seq.PersistFailed(op)
			} else {
				c.seq.Persisted(op)
			}
			return
		}
		if e, ok := c.expiries[res.ID]; ok {
			delete(c.expiries, res.ID)
			c.store.Revoked(e, res.Err)
			return
		}
		if c.formatRaised(res.ID) || c.leavingEnded(res.ID) || c.operated(res.ID, res.Resp, res.Err) || c.corruptNoted(res.ID, res.Resp, res.Err) {
			return
		}
		id, ok := c.sends[res.ID]
		if !ok {
			return // the ceiling of a sequencer that is gone
		}
		delete(c.sends, res.ID)
		c.store.Reply(peerpb.Reply{ID: id, Body: res.Resp, Err: res.Err})
	}
}
