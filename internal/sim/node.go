package sim

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/internal/clock"
	"github.com/flotilladb/flotilla/internal/frame"
	"github.com/flotilladb/flotilla/internal/node"
	"github.com/flotilladb/flotilla/mvcc"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/router"
	"github.com/flotilladb/flotilla/watchfeed"
)

// simNode is a node: its disk, and while it is up its core and what its loop has
// in hand. It does what internal/node/run.go does, in the same order.
type simNode struct {
	s    *Sim
	id   metapb.StoreID
	eng  *engine.Mem
	life int // counts starts; what was planned in an earlier life does not happen
	membership

	up       bool
	serving  bool
	stopping bool
	draining clock.Time // since when its leaders leave; 0: they stay
	parting  bool       // its API takes nothing more
	doomed   bool       // dies at one of the next points
	full     bool

	core    *node.Core
	pub     *node.Published
	counts  *node.Counts
	removal *node.Removal // under way; nil: none
	// removeAgain: a snapshot came meanwhile, which may have brought garbage.
	removeAgain bool
	hub         *simHub

	inbox    []*job
	frames   []*frame.Frame      // that came from others
	jobs     []*node.SnapshotJob // that were run
	wants    []watchfeed.Want
	feedsOut []watchfeed.FeedOutput
	calls    map[uint64]*job
	nextCall uint64
	synced   []uint64 // tokens of ended syncs that the core has not heard of
	syncing  int
	// written is the token of the last sync that had rows, heard that of the last one that
	// the core has heard of. Those without rows, for promises, never end.
	written, heard uint64
	syncEnd        clock.Time // of the last one begun: they end in order
	awake          bool       // the loop's next turn is planned
	stalledUntil   clock.Time
	frozenUntil    clock.Time // nothing of the process goes on
	// Its clock showed clockBase at clockFrom.
	clockFrom, clockBase clock.Time
	clockRate            float64
}

// job is a call on its way, and what to do when it is answered.
type job struct {
	call *router.Call
	done func()
}

// Times of the node's shell.
const (
	tickEvery    = 20 * time.Millisecond
	turnDelayMax = 50 * time.Microsecond
	removalPause = 5 * time.Millisecond
	countEvery   = 10 * time.Millisecond
	stepsMax     = 1_000_000 // a run has some thousand
)

func newNode(s *Sim, id metapb.StoreID) *simNode {
	n := &simNode{s: s, id: id, eng: engine.NewMem()}
	n.eng.DriveSyncs()
	return n
}

// boot starts the node on its disk.
func (n *simNode) boot() {
	n.life++
	n.startClock()
	n.tracef("boot %d", n.life)
	if err := n.open(); err != nil {
		n.s.fail(fmt.Errorf("boot: %w", err))
		return
	}
	n.up = true
	n.core.Meet(n.book)
	n.core.Tick(n.clock())
	n.core.SetFull(n.full)
	n.planTick()
	n.hub.planTick()
	n.wake()
}

func (n *simNode) open() error {
	ident, err := n.identify()
	if err != nil {
		return err
	}
	begun, err := node.NextStart(n.eng)
	if err != nil {
		return err
	}
	n.core, err = node.NewCore(node.CoreConfig{
		NodeID: metapb.NodeID(ident.NodeId), StoreID: metapb.StoreID(ident.StoreId), StoreStart: begun,
		Reader: n.eng, NewBatch: n.eng.NewBatch, NewView: n.eng.NewView, Tables: n.eng,
		CheckInterval: n.s.cfg.Check.Every, SnapshotChunkBytes: n.s.cfg.Moves.ChunkBytes, Ranges: n.s.cfg.Ranges,
		Planner: n.s.planner(), Router: n.s.routerConfig(),
		Reads:  n.reads(),
		Random: rand.New(rand.NewPCG(n.s.cfg.Seed, 7+begun+1000*uint64(n.id-1))),
	})
	n.pub, n.counts, n.removal = node.NewPublished(), node.NewCounts(n.eng), nil
	n.frames, n.wants, n.jobs, n.feedsOut = nil, nil, nil, nil
	n.inbox, n.calls, n.synced, n.syncing, n.syncEnd = nil, make(map[uint64]*job), nil, 0, 0
	n.written, n.heard = 0, 0
	n.serving, n.stopping, n.doomed, n.awake, n.stalledUntil = false, false, false, false, 0
	n.draining, n.parting = 0, false
	if err != nil {
		return err
	}
	return n.openHub()
}

// planned wraps what is to happen in this life only, and while the process goes on.
func (n *simNode) planned(do func()) func() {
	life := n.life
	return func() {
		switch {
		case !n.up || n.life != life:
		case n.s.now < n.frozenUntil:
			n.s.after(n.thawed(), n.planned(do))
		default:
			do()
		}
	}
}

// thawed is how long it is until the process goes on, in no order.
func (n *simNode) thawed() time.Duration {
	return n.frozenUntil.Sub(n.s.now) + between(n.s.disk, 0, turnDelayMax)
}

func (n *simNode) planTick() {
	n.s.after(tickEvery, n.planned(func() {
		n.planTick()
		if n.s.now >= n.stalledUntil {
			n.core.Tick(n.clock())
			n.tickDrain()
			n.wake()
		}
	}))
}

// submit gives the loop a call.
func (n *simNode) submit(call *router.Call, done func()) {
	n.inbox = append(n.inbox, &job{call, done})
	n.wake()
}

// deliver takes a frame of another node.
func (n *simNode) deliver(f *frame.Frame) {
	if n.up {
		n.frames = append(n.frames, f)
		n.wake()
	}
}

// tracef names the node, where there are several.
func (n *simNode) tracef(format string, args ...any) {
	if n.s.trace == nil {
		return
	}
	if len(n.s.nodes) > 1 {
		format, args = "node %d: "+format, append([]any{n.id}, args...)
	}
	n.s.tracef(format, args...)
}

// wake plans the loop's next turn.
func (n *simNode) wake() {
	if !n.awake {
		n.awake = true
		n.s.after(between(n.s.disk, 0, turnDelayMax), n.planned(n.turn))
	}
}

// turn is what the loop does when it was woken.
func (n *simNode) turn() {
	n.awake = false
	if n.s.now < n.stalledUntil {
		n.awake = true
		n.s.after(n.stalledUntil.Sub(n.s.now), n.planned(n.turn))
		return
	}
	n.receive()
	n.steps()
}

// steps takes steps while there are any. Where processes are stopped it may be
// stopped between any two of them.
func (n *simNode) steps() {
	life := n.life
	for n.core.HasReady() {
		if n.s.cfg.Swarm.FreezeEvery > 0 && n.s.disk.IntN(8) == 0 {
			n.awake = true
			n.s.after(between(n.s.disk, 0, turnDelayMax), n.planned(func() {
				n.awake = false
				n.steps()
			}))
			return
		}
		n.step()
		if !n.up || n.life != life || n.s.failed != nil {
			return
		}
		n.receive()
	}
	switch {
	case !n.stopping || !n.drained():
	case n.core.MayEnd() && !n.core.HasReady():
		n.shut()
	case n.core.HasReady():
		n.wake()
	}
}

// receive hands what came in to the core.
func (n *simNode) receive() {
	if len(n.synced)+len(n.inbox)+len(n.frames) > 0 {
		n.core.SetNow(n.clock())
	}
	for _, token := range n.synced {
		n.syncing--
		n.heard = max(n.heard, token)
		if err := n.core.Synced(token); err != nil {
			n.s.fail(err)
		}
	}
	n.synced = n.synced[:0]
	for _, f := range n.frames {
		if err := n.core.Step(f); err != nil {
			n.s.fail(err)
		}
	}
	n.frames = n.frames[:0]
	n.takeJobs()
	for _, w := range n.wants {
		n.core.Want(w.Range, w.Revision)
	}
	n.wants = n.wants[:0]
	n.core.Feeds(n.feedsOut)
	n.feedsOut = n.feedsOut[:0]
	for _, j := range n.inbox {
		n.nextCall++
		n.calls[n.nextCall] = j
		n.core.Request(n.nextCall, j.call.Req)
	}
	n.inbox = n.inbox[:0]
}

// step takes one Ready through the engine. Readers run at its points, and it may
// die there.
func (n *simNode) step() {
	if n.s.stats.Steps++; n.s.stats.Steps > stepsMax {
		n.s.fail(errors.New("the loop steps for ever"))
		return
	}
	rd, err := n.core.Ready()
	if err != nil {
		n.s.fail(err)
		return
	}
	if n.point() {
		return
	}
	if rd.Apply != nil {
		if err := n.commitApply(&rd); err != nil {
			n.s.fail(err)
			return
		}
	}
	if n.point() {
		return
	}
	n.core.Advance(&rd)
	n.foundCorrupt(&rd)
	n.checkFormat(&rd)
	n.pub.Leave(n.core, &rd)
	n.pub.Ranges(n.core, rd.Descriptors)
	if n.point() {
		return
	}
	if n.pub.Revisions(n.core.Current(), n.core.Compacted()) {
		n.startRemoval()
	}
	n.s.current = max(n.s.current, int64(n.core.Current()))
	if n.beforeFeed() {
		return
	}
	n.feed(&rd)
	n.notice()
	n.s.hist.descriptors(rd.Descriptors)
	n.serve()
	if n.point() {
		return
	}
	for _, res := range rd.Results {
		n.result(res)
	}
	if n.point() {
		return
	}
	for _, f := range rd.Frames {
		n.s.net.send(f)
	}
	if rd.Append != nil {
		n.append(&rd)
	}
	n.startJobs(&rd)
}

// feed tells the hub of the step.
func (n *simNode) feed(rd *node.Ready) {
	step := n.pub.Step(rd)
	n.s.compacted = max(n.s.compacted, int64(step.Compacted))
	for _, in := range step.Feeds {
		if in.News != nil {
			n.s.stats.follows(in.News)
		}
	}
	n.hub.feed(step)
}

// point is a place in the loop's step where another goroutine may run: a reader
// that stands still may take its next look. It reports that the node crashed
// there.
func (n *simNode) point() (crashed bool) {
	s := n.s
	for len(s.pausing) > 0 && s.load.IntN(4) == 0 {
		if c := s.pausing[s.load.IntN(len(s.pausing))]; s.now >= c.node.frozenUntil {
			c.resume()
		}
	}
	if n.doomed && s.faults.IntN(6) == 0 {
		n.crash()
		return true
	}
	return false
}

// beforeFeed is where readers may know of a step, and tell of it, of which the hub does
// not: a watch may begin there.
func (n *simNode) beforeFeed() (crashed bool) {
	s := n.s
	if !n.core.Direct() || len(s.watchers) == 0 {
		return false
	}
	if n.point() {
		return true
	}
	if w := s.watchers[s.watching.IntN(len(s.watchers))]; w.node == n && w.connected && len(w.all) < watchesMax && s.watching.IntN(8) == 0 {
		w.create()
		n.hub.turn()
	}
	return false
}

func (n *simNode) commitApply(rd *node.Ready) error {
	if n.s.trace != nil {
		n.traceApplied(rd)
	}
	if err := n.s.hist.apply(rd.Applied, n.s.now); err != nil {
		return err
	}
	return n.counts.Commit(rd.Applied, func() error { return n.eng.Commit(rd.Apply, false) })
}

func (n *simNode) traceApplied(rd *node.Ready) {
	for _, a := range rd.Applied {
		for _, u := range a.Updates {
			for _, m := range u.Mutations {
				n.tracef("range %d applies (%d, %d): %q version %d", a.Range, u.Revision, m.Sub, m.Key, m.Version)
			}
		}
	}
}

// result answers a call.
func (n *simNode) result(res router.Result) {
	j := n.calls[res.ID]
	if j == nil {
		n.s.fail(fmt.Errorf("call %d is answered twice, or was never made", res.ID))
		return
	}
	delete(n.calls, res.ID)
	j.call.Resp, j.call.Err = res.Resp, res.Err
	j.call.Done <- struct{}{}
	if j.done != nil {
		j.done()
	}
}

// append gives the log's rows to the disk, which takes its time.
func (n *simNode) append(rd *node.Ready) {
	if !rd.Append.Empty() {
		n.written = rd.Token
	}
	n.syncing++
	token := rd.Token
	err := n.eng.CommitAsync(rd.Append, func(err error) {
		if err != nil {
			n.s.fail(err)
		}
		n.synced = append(n.synced, token)
		n.wake()
	})
	if err != nil {
		n.s.fail(err)
		return
	}
	takes := between(n.s.disk, n.s.cfg.SyncMin, n.s.cfg.SyncMax)
	if n.s.disk.IntN(100) == 0 && !n.s.ending { // else one as long as an election timeout ends leaderships for ever
		takes += between(n.s.disk, 0, n.s.cfg.SyncStall)
	}
	n.syncEnd = max(n.syncEnd, n.s.now.Add(takes))
	n.s.after(n.syncEnd.Sub(n.s.now), n.planned(func() { n.eng.CompleteSync(1) }))
}

// serve lets the clients in when the node can answer.
func (n *simNode) serve() {
	if n.serving || !n.core.Serving() {
		return
	}
	n.serving = true
	n.tracef("serving at revision %d", n.core.Current())
	for _, c := range n.s.clients {
		if c.node == n && !n.s.ending {
			c.begin()
		}
	}
	n.startRemoval()
	n.planCount()
	n.planMembership()
}

// startRemoval begins to remove what the compacted revision allows.
func (n *simNode) startRemoval() {
	_, compacted := n.pub.Current()
	if n.removal != nil || compacted < 0 || !n.serving {
		return
	}
	n.removal, n.removeAgain = node.NewRemoval(n.pub, compacted), false
	n.planRemoval(compacted)
}

func (n *simNode) planRemoval(to metapb.Revision) {
	n.s.after(between(n.s.disk, 0, removalPause), n.planned(func() {
		if n.stopping {
			return
		}
		step, err := n.removal.Step(n.eng, mvcc.CollectBudget{RowsMax: n.s.cfg.RemovalRows})
		switch {
		case err != nil:
			n.s.fail(fmt.Errorf("removal: %w", err))
		case step != node.RemovalDone:
			n.planRemoval(to)
		default:
			n.tracef("removal up to %d done", to)
			n.s.stats.Compactions++
			n.removal = nil
			if _, compacted := n.pub.Current(); compacted > to || n.removeAgain {
				n.startRemoval()
			}
		}
	}))
}

// planCount builds the index of live keys, part by part, each beside what the
// loop does meanwhile.
func (n *simNode) planCount() {
	n.s.after(between(n.s.disk, 0, countEvery), n.planned(func() {
		task := n.counts.Begin()
		if task == nil {
			n.planCount()
			return
		}
		n.s.after(between(n.s.disk, 0, countEvery), n.planned(func() {
			runErr := task.Run()
			n.s.after(between(n.s.disk, 0, countEvery), n.planned(func() {
				if !n.counts.Finish(task, runErr) {
					n.s.fail(errors.New("the index of live keys could not be built"))
				}
				n.planCount()
			}))
		}))
	}))
}

func (n *simNode) setFull(full bool) {
	n.full = full
	if n.up {
		n.tracef("disk full: %v", full)
		n.core.SetFull(full)
	}
}

// crash ends the node at once. A random part of what was not synced is lost.
func (n *simNode) crash() {
	n.s.stats.Crashes++
	unsynced, kept := n.eng.Unsynced(), 0
	n.down()
	n.eng = n.eng.Crash(func(unsynced int) int {
		kept = n.s.disk.IntN(unsynced + 1)
		return kept
	})
	n.tracef("crash: %d of %d unsynced batches are left", kept, unsynced)
	for _, c := range n.s.clients {
		if c.node == n {
			c.kill()
			c.goOn()
		}
	}
	n.rebootLater()
}

func (n *simNode) down() {
	n.hub.end()
	n.up, n.serving, n.stopping, n.core = false, false, false, nil
}

func (n *simNode) rebootLater() {
	n.s.after(n.awayFor+between(n.s.faults, time.Millisecond, 50*time.Millisecond), func() {
		if !n.gone {
			n.boot()
		}
	})
	n.awayFor = 0
}

// shutDown begins an orderly stop.
func (n *simNode) shutDown() {
	if n.serving && !n.stopping {
		n.tracef("stop")
		n.stopping = true
		n.core.Stop()
		n.wake()
	}
}

// asked reports whether a client waits for the node.
func (n *simNode) asked() bool {
	return slices.ContainsFunc(n.s.clients, func(c *client) bool { return c.node == n && c.op != nil })
}

// drained reports whether nothing is under way.
func (n *simNode) drained() bool {
	if n.asked() {
		n.s.after(time.Millisecond, n.planned(n.wake))
		return false
	}
	return len(n.calls)+len(n.inbox)+len(n.synced)+n.syncing == 0
}

// shut ends an orderly stop.
func (n *simNode) shut() {
	n.s.stats.Stops++
	n.tracef("stopped")
	n.down()
	if err := n.eng.Close(); err != nil {
		n.s.fail(err)
	}
	n.eng = n.eng.Reopen()
	n.rebootLater()
}

// routerConfig is the routers'. A transaction over many ranges takes more round trips
// than a lock lives through that nobody keeps alive.
func (s *Sim) routerConfig() router.Config {
	return router.Config{
		LeaseTTLMin: s.cfg.Traffic.Limits.LeaseTTLMin,
		TouchEvery:  s.cfg.Ranges.LockAgeMax / 4,
		HoldMin:     s.holdMin(),
	}
}
