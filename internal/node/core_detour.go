package node

import (
	"github.com/flotilladb/flotilla/internal/frame"
	"github.com/flotilladb/flotilla/placement"
	"github.com/flotilladb/flotilla/proto/metapb"
)

// A store that does not reach the sequencer's, while others do, has them pass its asks
// on. The one in the middle remembers nothing of it, and what is passed on is not in any
// session: it may be lost. When placement.Detour says so asks are sent again: that is
// harmless, since the sequencer knows each by its name and its place on its store's path,
// and repeats the answer that it gave.
//
//	asks:     this store ──> the one in the middle ──passed──> the sequencer's
//	answers:  this store <──passed── the one in the middle <── the sequencer's

// tickDetour sees whether asks have to go another way.
func (c *Core) tickDetour() {
	if c.seq != nil {
		if c.detour.Straight(c.now) {
			c.askAgain(0)
		}
		return
	}
	hint, _ := c.leaderOf(metapb.SystemRange)
	if hint.store == c.cfg.StoreID {
		hint.store = 0
	}
	wanted := !c.asker.Idle() && c.format.Has(metapb.Detours)
	if c.detour.Tick(c.now, wanted, hint.store, c.askables(wanted)) {
		c.askAgain(0)
	}
}

// askables are the stores that were heard of lately, if anybody wants to know.
func (c *Core) askables(wanted bool) (stores []metapb.StoreID) {
	for _, to := range c.order {
		if wanted && c.canAsk(to) {
			stores = append(stores, to)
		}
	}
	return stores
}

// forward sends what is passed on.
func (c *Core) forward(to metapb.StoreID, w frame.Forward) {
	f := c.frameTo(to, frame.Raft)
	f.Forwards = []frame.Forward{w}
	c.out = append(c.out, f)
}

// forwardAsks has a store pass asks on.
func (c *Core) forwardAsks(via metapb.StoreID, asks []placement.Ask) {
	c.forward(via, frame.Forward{
		Store: c.cfg.StoreID, Start: c.cfg.StoreStart, Asks: asks, AskedUpTo: c.asker.AnsweredUpTo(),
	})
}

// probing returns where asks that are passed on are to go straight as well.
func (c *Core) probing() (to metapb.StoreID, ok bool) {
	hint, known := c.leaderOf(metapb.SystemRange)
	if !known || hint.store == c.cfg.StoreID || !c.canAsk(hint.store) || !c.detour.Probe(c.now) {
		return 0, false
	}
	return hint.store, true
}

// heardStraight notes that the sequencer answers straight.
func (c *Core) heardStraight(a *placement.Answer) {
	if a.Err == nil && a.Epoch >= c.asker.Epoch() && c.detour.Straight(c.now) {
		c.askAgain(0)
	}
}

// stepForward takes what another store passes on, or wants passed on.
func (c *Core) stepForward(from metapb.StoreID, w *frame.Forward) {
	switch {
	case len(w.Asks) == 0 && w.Store == c.cfg.StoreID:
		for i := range w.Answers {
			if w.Start == c.cfg.StoreStart {
				c.granted(w.Answers[i])
			}
		}
	case len(w.Asks) == 0:
		if l := c.links[w.Store]; !w.Passed && l != nil && l.peerStart == w.Start {
			back := *w
			back.Passed = true
			c.forward(w.Store, back)
		}
	case w.Passed == (w.Store == from): // there is one store in the middle, or none
	case c.seq != nil:
		c.serveForward(from, w)
	case !w.Passed:
		to, ok := c.askable(metapb.SystemRange)
		if ok && to != c.cfg.StoreID && to != w.Store {
			on := *w
			on.Passed = true
			c.forward(to, on)
		}
	}
}

// serveForward answers asks that came through another store, or from one that did not
// know that the sequencer is here. Who gets no answer asks elsewhere.
func (c *Core) serveForward(from metapb.StoreID, w *frame.Forward) {
	name := w.Asks[0].Name
	if !c.store.HoldsLease(metapb.SystemRange) || name.Store != w.Store || name.StoreStart != w.Start {
		return
	}
	if c.backs == nil {
		c.backs = make(map[metapb.StoreID]metapb.StoreID)
	}
	c.backs[w.Store] = from
	c.seq.Ack(name, w.AskedUpTo)
	var answers []placement.Answer
	for i := range w.Asks {
		if w.Asks[i].Name.Store != w.Store {
			continue
		}
		if a, ok := c.seq.Alloc(w.Asks[i]); ok {
			answers = append(answers, a)
		}
	}
	if len(answers) > 0 {
		c.sendBack(w.Store, w.Start, answers...)
	}
}

// sendBack answers a store by the way by which it asked last.
func (c *Core) sendBack(to metapb.StoreID, start uint64, answers ...placement.Answer) {
	c.forward(c.backs[to], frame.Forward{Store: to, Start: start, Answers: answers})
}
