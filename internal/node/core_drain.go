package node

import (
	"slices"
	"time"

	"github.com/flotilladb/flotilla/internal/clock"
	"github.com/flotilladb/flotilla/internal/frame"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/peerpb"
	"github.com/flotilladb/flotilla/range"
)

// Leaders go to other stores in plan: one because an operator asks, all because
// the node is about to stop. The system range goes last, and its sequencer before
// it: it stops giving out, its exact value goes into the log, and what it gave out
// has arrived where it was asked for. So the next one goes on without a hole.

// moves are the leaders that are on their way from here.
type moves struct {
	moving []*leaderMove
	// draining: all are to go. todo are those of which the last look says that they
	// can, the last first.
	draining bool
	todo     []metapb.RangeID
	// led counts, by store, whom the ranges here were last seen to follow.
	led map[metapb.StoreID]int
	// looked: nothing has changed since todo was found to be empty.
	looked bool
	// endBy is when the node ends though not all is done; 0: it does not end.
	endBy clock.Time
	said  bool // nothing is taken from others any more
}

// leaderMove is a transfer under way.
type leaderMove struct {
	id    metapb.RangeID
	to    metapb.StoreID
	term  uint64
	asked bool // by a request named request
	// request is the ID of the reply.
	request uint64
	begun   bool
	until   clock.Time // the sequencer's answers are waited for
}

const (
	// movesMax bounds the transfers under way when the node drains.
	movesMax = 64
	// drainLook is how often leaders are looked for when there were none that could go: where
	// thousands have nobody to go to, since the others stop as well, a look takes long.
	drainLook = 100 * time.Millisecond
	// answersWait is how long the sequencer's answers may take to arrive.
	answersWait = 200 * time.Millisecond
	// endTimeout bounds what is done after the last call was answered.
	endTimeout = 2 * time.Second
)

// Drain has all leaders go to other stores, or ends that. See Drained.
func (c *Core) Drain(on bool) {
	if !c.many || c.draining == on {
		return
	}
	c.draining, c.looked, c.todo = on, false, nil
	c.store.SetLeaving(on)
	for _, to := range c.order {
		c.links[to].leaves = on
		c.links[to].helloAt = 0 // it is told at once
	}
	if !on {
		c.resumeSequencer()
	}
	c.advanceMoves()
}

// Drained reports whether no leader is here that another store could take.
func (c *Core) Drained() bool { return !c.many || len(c.moving) == 0 && c.looked }

// Leaders returns how many ranges are led here.
func (c *Core) Leaders() (n int) {
	for _, id := range c.store.IDs() {
		if c.leads(id) {
			n++
		}
	}
	return n
}

func (c *Core) leads(id metapb.RangeID) bool {
	r := c.store.Replica(id)
	return r != nil && r.Leader() == c.cfg.StoreID
}

// wantTransfer takes an operator's wish.
func (c *Core) wantTransfer(w ranges.WantedTransfer) {
	m := &leaderMove{id: w.Range, to: w.To, asked: true, request: w.ID}
	if m.to == 0 {
		m.to = c.heir(w.Range)
	}
	switch under := c.movingOf(w.Range); {
	case m.to == 0, c.parts(m.to): // it would only give it on, or not get to that
		c.endMove(m, peerpb.ErrBadTransfer)
	case w.To == c.cfg.StoreID:
		c.endMove(m, nil)
	case under != nil:
		c.endMove(m, peerpb.ErrRefused) // it is asked again
	default:
		c.startMove(m)
	}
}

// parts reports whether another store gives its leaders away.
func (c *Core) parts(store metapb.StoreID) bool {
	l := c.links[store]
	return l != nil && (l.peerLeaves || l.peerEnded)
}

func (c *Core) movingOf(id metapb.RangeID) *leaderMove {
	for _, m := range c.moving {
		if m.id == id {
			return m
		}
	}
	return nil
}

func (c *Core) startMove(m *leaderMove) {
	if r := c.store.Replica(m.id); r != nil {
		m.term = r.Term()
	}
	if c.advanceMove(m) {
		return
	}
	c.moving = append(c.moving, m)
}

// endMove says what became of a transfer.
func (c *Core) endMove(m *leaderMove, err error) {
	if m.until != 0 && err != nil {
		c.resumeSequencer() // it was stopped for this one
	}
	c.looked = false
	if !m.asked {
		return
	}
	rep := peerpb.Reply{ID: m.request, Err: err}
	if err == nil {
		rep.Body = &peerpb.Transferred{Leader: c.store.Replica(m.id).Leader()}
	}
	c.reply(rep)
}

// tickDrain has a node that drains look again for leaders that can go by now.
func (c *Core) tickDrain() {
	if c.draining && c.looked && !c.now.Before(c.lookAt) {
		c.looked, c.lookAt = false, c.now.Add(drainLook)
	}
}

// advanceMoves does the next step of every transfer, and begins those that are
// due.
func (c *Core) advanceMoves() {
	if len(c.moving) > 0 {
		c.moving = slices.DeleteFunc(c.moving, c.advanceMove)
	}
	if !(c.draining || c.full && c.many) || c.looked {
		return
	}
	if len(c.todo) == 0 && len(c.moving) == 0 {
		c.lookForLeaders()
	}
	for len(c.todo) > 0 && len(c.moving) < movesMax {
		last := len(c.todo) - 1
		id := c.todo[last]
		if id == metapb.SystemRange && len(c.moving) > 0 {
			return
		}
		c.todo = c.todo[:last]
		if to := c.heir(id); to != 0 && c.movingOf(id) == nil {
			c.led[to]++
			c.startMove(&leaderMove{id: id, to: to})
		}
	}
}

// lookForLeaders finds the leaders that can go.
func (c *Core) lookForLeaders() {
	c.led = make(map[metapb.StoreID]int)
	for _, id := range c.store.IDs() { // the system range is the first, and so goes last
		r := c.store.Replica(id)
		c.led[r.Leader()]++
		if r.Leader() == c.cfg.StoreID && c.heir(id) != 0 {
			c.todo = append(c.todo, id)
		}
	}
	c.looked = len(c.todo) == 0
}

// heir chooses who is to lead a range: of those that can and that stay, the one
// that leads the fewest.
func (c *Core) heir(id metapb.RangeID) (to metapb.StoreID) {
	for _, s := range c.store.Heirs(id) {
		if l := c.links[s]; l == nil || !l.ready() || c.parts(s) || c.isCorrupt(id, s) {
			continue
		}
		if to == 0 || c.led[s] < c.led[to] {
			to = s
		}
	}
	return to
}

// advanceMove does the next step of a transfer, and reports whether it is over.
func (c *Core) advanceMove(m *leaderMove) (over bool) {
	r := c.store.Replica(m.id)
	switch {
	case r == nil:
		c.endMove(m, peerpb.ErrRangeNotFound)
		return true
	case r.Term() != m.term || r.Leader() != c.cfg.StoreID:
		if r.Leader() == 0 && m.asked {
			return false // somebody will say so soon
		}
		c.endMove(m, nil)
		return true
	case r.Transferring():
		return false
	case m.begun: // it was given up
		c.endMove(m, peerpb.ErrBadTransfer)
		return true
	case m.id == metapb.SystemRange && !c.sequencerStopped(m):
		return false
	}
	m.begun = true
	err := c.store.Transfer(m.id, m.to)
	if err == nil {
		return false
	}
	c.endMove(m, peerpb.ErrBadTransfer)
	return true
}

// sequencerStopped stops the sequencer here, if there is one, and reports whether
// what it gave out has arrived and its exact value is in the log.
func (c *Core) sequencerStopped(m *leaderMove) bool {
	if c.seq == nil {
		return true
	}
	if m.until == 0 {
		m.until = c.now.Add(answersWait)
	}
	c.seq.Stop() // each time: the end of a drain may have had it go on
	c.pumpSequencer()
	return c.seq.Stopped() && (c.answersArrived() || c.now.After(m.until))
}

// answersArrived reports whether no other store has answers of the sequencer to
// come.
func (c *Core) answersArrived() bool {
	for _, to := range c.order {
		l := c.links[to]
		if l.down || l.peerEnded {
			continue
		}
		if len(l.next.Answers) > 0 || slices.ContainsFunc(l.unacked, func(f *frame.Frame) bool { return len(f.Answers) > 0 }) {
			return false
		}
	}
	return true
}

// resumeSequencer has a sequencer go on that was stopped and stays, until the node needs it no
// more: one that stops has calls to answer first, as others have that ask here.
func (c *Core) resumeSequencer() {
	if c.seq != nil && c.endBy == 0 {
		c.seq.Resume()
		c.pumpSequencer()
	}
}

// MayEnd is asked, once no call is left and no sync is under way, whether a node that
// stops is done: it has answered what others asked, the sequencer's value is in the
// log, and the others know that nothing more is taken here. It does not take
// longer than endTimeout, for others may be gone.
func (c *Core) MayEnd() bool {
	if !c.many {
		return true
	}
	if c.endBy == 0 {
		c.endBy = c.now.Add(endTimeout)
		c.looked = false // leaders may have come since
		if c.seq != nil {
			c.seq.Stop()
			c.pumpSequencer()
		}
	}
	switch {
	case c.now.After(c.endBy):
		return true
	case c.draining && !c.Drained(), c.seq != nil && !c.seq.Stopped(), c.router.Len() > 0, c.served.len() > 0:
		return false
	}
	if !c.said {
		c.said = true
		for _, to := range c.order {
			c.links[to].end()
		}
	}
	for _, to := range c.order {
		if !c.links[to].over() {
			return false
		}
	}
	return true
}
