package node

import (
	"cmp"
	"context"
	"errors"
	"runtime"
	"slices"
	"time"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/internal/clock"
	"github.com/flotilladb/flotilla/router"
)

// With fewer than fewCalls under way whoever brings work to a resting loop does
// it, up to turnsHere steps of it.
const (
	fewCalls  = 4
	turnsHere = 8
)

// With busyCalls under way the loop lets others run, yields times, before it
// looks at what came in.
const (
	busyCalls = 64
	yields    = 6
)

// tickInterval is how often the core is told the time.
const tickInterval = 20 * time.Millisecond

// Submit implements router.Local.
func (n *Node) Submit(c *router.Call) error {
	n.inbox.Lock()
	if n.inbox.closed || len(n.inbox.calls) >= n.cfg.CallsMax {
		closed := n.inbox.closed
		n.inbox.Unlock()
		if closed {
			return router.ErrStopping
		}
		return router.ErrTooManyRequests
	}
	n.inbox.calls = append(n.inbox.calls, c)
	wake := !n.inbox.lazy
	if wake {
		n.inbox.lazy = true // until the loop has looked
	} else if _, ticket := c.Req.(*router.CloseTicket); ticket && !n.inbox.hurried {
		n.inbox.hurried, wake = true, true
	}
	n.inbox.Unlock()
	if wake && !n.turnHere() {
		n.wake()
	}
	return nil
}

// turnHere takes turns of the loop on the goroutine of whoever brought work, if
// the loop rests and there is little to do: a hand-over to the loop costs switches
// of threads, which with one client are more than the turn itself. It reports
// whether nothing is left for the loop.
func (n *Node) turnHere() bool {
	if !n.turn.TryLock() {
		return false
	}
	defer n.turn.Unlock()
	return n.fewTurns()
}

// fewTurns is turnHere for who has the turn.
func (n *Node) fewTurns() bool {
	for range turnsHere {
		if n.ended || n.turnErr != nil || len(n.calls) >= fewCalls {
			return false
		}
		if n.turnErr = n.receive(); n.turnErr != nil {
			return false
		}
		if !n.core.HasReady() {
			return !n.rest()
		}
		n.turnErr = n.step()
	}
	return false
}

// locked runs f while nobody takes a turn.
func (n *Node) locked(f func()) {
	n.turn.Lock()
	defer n.turn.Unlock()
	f()
}

// wake makes the loop look at its inbox.
func (n *Node) wake() {
	select {
	case n.wakeup <- struct{}{}:
	default:
	}
}

// inLoop runs f on the loop and waits for it.
func (n *Node) inLoop(ctx context.Context, f func()) error {
	done := make(chan struct{})
	n.inbox.Lock()
	if n.inbox.closed {
		n.inbox.Unlock()
		return router.ErrStopping
	}
	n.inbox.funcs = append(n.inbox.funcs, func() { f(); close(done) })
	n.inbox.Unlock()
	n.wake()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-n.loopDone:
		return router.ErrStopping
	}
}

// loop drives the core until the node stops. It is the only goroutine that
// touches it.
func (n *Node) loop(ctx context.Context) {
	defer close(n.loopDone)
	ticker := time.NewTicker(tickInterval)
	defer ticker.Stop()
	stop := ctx.Done()
	for {
		select {
		case <-n.wakeup:
		case <-ticker.C:
			n.locked(func() { n.core.Tick(clock.Now()); n.ticked() })
		case <-stop:
			stop = nil
			n.locked(n.core.Stop)
		}
		if n.takeTurn(ticker.C, stop == nil) {
			return
		}
	}
}

// ticked does what need not wait for a step, which may not come. REQUIRES: turn is
// held.
func (n *Node) ticked() {
	n.noteDrained()
	n.elected.Store(n.core.Store().Elected())
	if !n.core.Direct() {
		n.pub.SystemLeader(n.core.SystemLeader())
	}
}

// takeTurn drives the core until there is nothing to do, and reports whether the
// loop is over.
func (n *Node) takeTurn(ticks <-chan time.Time, stopping bool) (over bool) {
	n.turn.Lock()
	defer n.turn.Unlock()
	if len(n.calls) >= busyCalls {
		// Calls that are on their way come first, and share the next batch.
		for range yields {
			runtime.Gosched()
		}
	}
	err := n.turnErr
	if err == nil {
		err = n.receive()
	}
	for err == nil && n.core.HasReady() {
		if err = n.step(); err != nil {
			break
		}
		err = n.receive()
		select {
		case <-ticks: // there may be no end of work
			n.core.Tick(clock.Now())
		default:
		}
	}
	switch {
	case err != nil:
		n.fail(err)
		n.ended = true
	case stopping && n.idle() && n.core.MayEnd() && !n.core.HasReady():
		n.closeInbox()
		n.ended = true
	case stopping && n.core.HasReady():
		n.wake()
	case n.rest():
		n.wake()
	}
	return n.ended
}

// rest says how the loop wants to be woken while it waits, and reports whether
// there is something already. While the log waits for the disk a write could
// only be queued: it stays in the inbox, and the end of the sync brings the loop
// to it and to all that came meanwhile. That saves a turn of the loop for most
// writes, and makes batches larger.
func (n *Node) rest() bool {
	n.inbox.Lock()
	defer n.inbox.Unlock()
	n.inbox.lazy = n.syncing > 0
	return !n.inbox.lazy && len(n.inbox.calls) > 0
}

// idle reports whether nothing is under way.
func (n *Node) idle() bool {
	n.inbox.Lock()
	defer n.inbox.Unlock()
	return len(n.calls)+len(n.inbox.calls)+len(n.inbox.synced) == 0 && n.syncing == 0
}

// closeInbox takes nothing more. What came since idle is refused.
func (n *Node) closeInbox() {
	n.inbox.Lock()
	n.inbox.closed = true
	calls := n.inbox.calls
	n.inbox.calls = nil
	n.inbox.Unlock()
	for _, c := range calls {
		c.Err = router.ErrStopping
		c.Done <- struct{}{}
	}
}

// receive hands what came in to the core. After an error what it could not hand
// over is in the inbox again.
func (n *Node) receive() error {
	n.inbox.Lock()
	if err := n.inbox.failure; err != nil {
		n.inbox.Unlock()
		return err
	}
	calls, synced, funcs, frames, jobs := n.inbox.calls, n.inbox.synced, n.inbox.funcs, n.inbox.frames, n.inbox.jobs
	if len(calls)+len(synced)+len(funcs)+len(frames)+len(jobs) == 0 {
		n.inbox.Unlock()
		return nil
	}
	n.inbox.calls, n.inbox.spare = n.inbox.spare[:0], calls
	n.inbox.hurried = false
	n.inbox.synced, n.inbox.funcs, n.inbox.frames, n.inbox.frameBytes, n.inbox.jobs = nil, nil, nil, 0, nil
	n.inbox.Unlock()
	// Read when all of it was there: what the core answers is true of a moment after
	// whoever asked had asked, however long the process stands still from here on.
	n.core.SetNow(clock.Now())
	for _, s := range synced {
		n.syncing--
		if s.err == nil {
			s.err = n.core.Synced(s.token)
		}
		if s.err != nil {
			n.inbox.Lock()
			n.inbox.calls = append(calls, n.inbox.calls...)
			n.inbox.Unlock()
			return s.err
		}
	}
	err := n.takeFrames(frames)
	if err == nil {
		err = n.takeJobs(jobs)
	}
	if err != nil {
		n.inbox.Lock()
		n.inbox.calls = append(calls, n.inbox.calls...)
		n.inbox.Unlock()
		return err
	}
	for i, c := range calls {
		n.nextCall++
		n.calls[n.nextCall] = c
		n.core.Request(n.nextCall, c.Req)
		calls[i] = nil
	}
	for _, f := range funcs {
		f()
	}
	return nil
}

// step takes one Ready through the engine.
func (n *Node) step() error {
	rd, err := n.core.Ready()
	if err != nil {
		return err
	}
	if rd.Apply != nil {
		if err := n.commitApply(&rd); err != nil {
			return err
		}
	}
	n.core.Advance(&rd)
	n.publish(&rd)
	n.removeTables(rd.Unused)
	if len(rd.Frames) > 0 {
		n.peers.Load().send(rd.Frames)
	}
	for _, store := range rd.Forgotten {
		n.peers.Load().t.Forget(store)
		if g := n.gossip.Load(); g != nil {
			g.Forget(store)
		}
	}
	// In the order in which the calls came, those of one connection are neighbours
	// more often than in that of the ranges, and share a write to it.
	slices.SortFunc(rd.Results, func(a, b router.Result) int { return cmp.Compare(a.ID, b.ID) })
	for _, res := range rd.Results {
		c := n.calls[res.ID]
		delete(n.calls, res.ID)
		c.Resp, c.Err = res.Resp, res.Err
		c.Done <- struct{}{}
	}
	ingests, jobs := divide(rd.Jobs, (*SnapshotJob).Ingests)
	n.snapshots.start(jobs)
	if rd.Append != nil {
		if err := n.commitAppend(&rd); err != nil {
			return err
		}
	}
	n.snapshots.start(ingests) // after the rows that they must not overtake
	return nil
}

// commitAppend gives the log's rows to the engine.
func (n *Node) commitAppend(rd *Ready) error {
	n.syncing++
	token := rd.Token
	return n.whenRoom(func() error {
		return n.eng.CommitAsync(rd.Append, func(err error) {
			n.inbox.Lock()
			n.inbox.synced = append(n.inbox.synced, syncDone{token, err})
			n.inbox.Unlock()
			if !n.turnHere() {
				n.wake()
			}
		})
	})
}

// whenRoom commits as soon as the disk has room. By then the reserve and the
// ballast are used up, mostly by others, or by snapshots that come: those are given
// up. Nothing else that the loop could do meanwhile would not write too. Reads go on
// beside it.
func (n *Node) whenRoom(commit func() error) error {
	for {
		err := commit()
		if !errors.Is(err, engine.ErrDiskFull) {
			return err
		}
		n.pub.room.Store(0)
		n.dropSnapshots()
		if sleep(n.loopIn.Context(), fullRetry) != nil {
			return err
		}
	}
}

// fullRetry is when a write is tried again that the disk has no room for.
const fullRetry = 100 * time.Millisecond

type syncDone struct {
	token uint64
	err   error
}

// commitApply commits applied rows and counts their keys.
func (n *Node) commitApply(rd *Ready) error {
	defer rd.Apply.Close()
	return n.whenRoom(func() error {
		return n.counts.Commit(rd.Applied, func() error { return n.eng.Commit(rd.Apply, false) })
	})
}

// publish lets readers see what the step made readable. The order is that of
// the comment of Published.
func (n *Node) publish(rd *Ready) {
	n.pub.Leave(n.core, rd)
	n.pub.Ranges(n.core, rd.Descriptors)
	if n.pub.Revisions(n.core.Current(), n.core.Compacted()) {
		n.gc.wake()
	}
	n.publishDirect()
	n.notice()
	if len(rd.Lost) > 0 {
		n.gc.wake() // a snapshot may have brought garbage that was removed here
	}
	n.feed(rd)
	n.logCorrupt(rd)
	n.logHalted(rd)
	if !n.isServing || !n.core.Direct() {
		n.pub.SystemLeader(n.core.SystemLeader())
	}
	if !n.isServing && n.core.Serving() {
		n.isServing = true
		close(n.serving)
	}
}

// fail ends the node: the disk does not take what must be durable, or what it
// gives is damaged. Whoever waits learns that the outcome is unknown.
func (n *Node) fail(err error) {
	n.inbox.Lock()
	n.inbox.closed = true
	calls := n.inbox.calls
	n.inbox.calls = nil
	n.inbox.Unlock()
	n.err = err
	n.pub.endRenewals()
	n.cfg.Logger.Error("node failed", "err", err)
	for id, c := range n.calls {
		delete(n.calls, id)
		c.Err = errUnknownOutcome
		c.Done <- struct{}{}
	}
	for _, c := range calls {
		c.Err = router.ErrStopping
		c.Done <- struct{}{}
	}
	close(n.failed)
}
