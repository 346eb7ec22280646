package node

import (
	"slices"

	"github.com/flotilladb/flotilla/internal/clock"
	"github.com/flotilladb/flotilla/internal/frame"
	"github.com/flotilladb/flotilla/placement"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/peerpb"
	"github.com/flotilladb/flotilla/range"
	"github.com/flotilladb/flotilla/router"
)

// asking is a store's way to the sequencer of a cluster of several stores. Also
// where the sequencer is on this very node asks go through it: so when it moves,
// what was asked here is asked there.
type asking struct {
	asker placement.Asker
	// target is the store that was asked last.
	target metapb.StoreID
	// again: what is under way is to be sent once more, not before againAt.
	again   bool
	againAt clock.Time
	epoch   uint64 // of seq
	detour  placement.Detour
	// backs are, where the sequencer is here, the stores through which others asked
	// last that do not come straight.
	backs map[metapb.StoreID]metapb.StoreID
}

// startSequencer begins to hand out revisions, when this node leads the system
// range. In a cluster of one store it also waits until every range has applied
// what its log holds, for the highest revision in there is where it goes on.
func (c *Core) startSequencer() {
	sys := c.store.Replica(metapb.SystemRange)
	if sys == nil || !sys.Leads() {
		return
	}
	last := max(1, c.system.Ceiling())
	if c.system.OneStore() {
		if !c.allLed() {
			return
		}
		last = max(1, c.store.Revision())
	}
	epoch := sys.Info().Term
	seq, err := placement.NewSequencer(placement.SequencerConfig{
		Epoch:     epoch,
		Last:      last,
		OneStore:  c.system.OneStore(),
		Compacted: c.system.Compacted(),
	})
	if err != nil {
		return
	}
	c.seq, c.epoch = seq, epoch
	if c.many {
		c.seq.Tick(c.now)
		c.askAgain(0)
		return
	}
	c.store.Known(last)
}

// allLed reports whether all ranges are led here. It is asked after each step of a start: it
// looks at all of them only when that which was not is, and takes one that comes last.
func (c *Core) allLed() bool {
	if r := c.store.Replica(c.unled); r != nil && !r.Leads() {
		return false
	}
	for _, id := range slices.Backward(c.store.IDs()) {
		if !c.store.Replica(id).Leads() {
			c.unled = id
			return false
		}
	}
	return true
}

// checkSequencer starts the sequencer, or ends it when this node does not lead
// the system range any more in the term in which it began.
func (c *Core) checkSequencer() {
	if c.seq != nil && c.many {
		sys := c.store.Replica(metapb.SystemRange)
		if sys == nil || !sys.Leads() || sys.Info().Term != c.epoch {
			c.endSequencer()
		}
	}
	if c.seq == nil {
		c.startSequencer()
	} else {
		c.seq.Applied(c.store.Visible())
	}
}

// endSequencer ends the sequencer here. Who waits for it is told: nobody else knows
// that they do, and where it is they learn when they ask again.
func (c *Core) endSequencer() {
	seq := c.seq
	c.seq = nil
	clear(c.ceilings)
	seq.Stop()
	for _, a := range seq.Ready().Answers {
		c.give(a)
	}
	clear(c.backs)
	c.askAgain(0)
}

// askFor asks the sequencer for a range's batch. The system range's asks for what is
// current alone, and of the sequencer beside it: a ceiling goes through that range, so
// if it waited behind who waits for a ceiling both would for ever.
func (c *Core) askFor(a *ranges.Ask) {
	name := placement.AskName{
		Store: c.cfg.StoreID, StoreStart: c.cfg.StoreStart,
		Range: a.Range, Term: a.Term, Number: a.Number,
	}
	if a.Range == metapb.SystemRange && a.N == 0 && c.seq != nil && c.epoch == a.Term {
		now := c.seq.Now(name)
		if c.many {
			c.learned(&now)
		}
		c.answer(now)
		return
	}
	c.alloc(placement.Ask{Name: name, N: int64(a.N)})
}

// alloc asks the sequencer; in a cluster of one store it shares this loop.
func (c *Core) alloc(ask placement.Ask) {
	switch {
	case c.many:
		c.asker.Add(ask)
		return
	case c.seq == nil:
		c.answer(placement.Answer{Name: ask.Name, N: ask.N, Err: errNoSequencer})
		return
	}
	if a, ok := c.seq.Alloc(ask); ok {
		c.answer(a)
	}
	c.pumpSequencer()
}

// pumpSequencer takes what the sequencer has to say to who is asked about it.
func (c *Core) pumpSequencer() {
	rd := c.seq.Ready()
	for i := range rd.Answers {
		c.give(rd.Answers[i])
	}
	if rd.Ceiling != nil {
		// An exact value may follow before the one before it is known to be in the log.
		c.internal++
		id := internalBit | c.internal
		c.ceilings[id] = rd.Ceiling
		c.router.RequestOwn(id, &router.SystemRequest{Op: rd.Ceiling}, c.now)
	}
}

// give takes an answer of the sequencer here to the store that asked.
func (c *Core) give(a placement.Answer) {
	switch l := c.links[a.Name.Store]; {
	case !c.many:
		c.answer(a)
	case a.Seq == 0: // asked when there was one store
		c.sawCurrent(a.First - metapb.Revision(min(a.N, 1)))
		c.answer(a)
	case a.Name.Store == c.cfg.StoreID:
		c.granted(a)
	case c.backs[a.Name.Store] != 0:
		c.sendBack(a.Name.Store, a.Name.StoreStart, a)
	case l != nil && l.peerStart == a.Name.StoreStart:
		l.next.Answers = append(l.next.Answers, a)
	}
}

// answer gives a grant to the range, or to the transaction, that asked.
func (c *Core) answer(a placement.Answer) {
	if a.Name.Range == 0 {
		c.router.Granted(a, c.now)
		return
	}
	g := ranges.Grant{
		Ask:       ranges.Ask{Range: a.Name.Range, Term: a.Name.Term, Number: a.Name.Number, N: int(a.N)},
		First:     a.First,
		Epoch:     a.Epoch,
		Compacted: a.Compacted,
		Refused:   a.Err != nil,
	}
	switch {
	case a.Err != nil:
	case a.N == 0:
		g.First, g.Current = a.First+1, a.First
	case !c.many:
		g.Current = c.seq.Current()
	default:
		g.Current = a.First - 1
	}
	c.store.Granted(g)
}

// granted takes the answer to one of this store's asks.
func (c *Core) granted(a placement.Answer) {
	if a.Err != nil {
		c.askAgain(askPause)
		return
	}
	if !c.asker.Answered(&a) {
		if a.Epoch < c.asker.Epoch() {
			c.askAgain(askPause) // who is the sequencer now may know nothing of it
		}
		return
	}
	c.detour.Answered(c.now)
	c.learned(&a)
	if a.Name.Range == 0 && a.Name.Number == readNumber {
		c.readsGranted(&a)
		return
	}
	c.answer(a)
}

// learned takes what an answer of the sequencer says besides.
func (c *Core) learned(a *placement.Answer) {
	current := a.First
	if a.N > 0 {
		current--
	}
	c.sawCurrent(current)
	if a.Compacted >= 0 {
		c.store.SetCompacted(a.Compacted)
	}
}

// askPause is when the sequencer is asked again that did not answer.
const askPause = tickPause

// askAgain has what is under way sent once more.
func (c *Core) askAgain(after clock.Time) {
	c.again = true
	c.againAt = c.now + after
}

// mayAsk reports whether there is something to ask, and whom.
func (c *Core) mayAsk() (to metapb.StoreID, ok bool) {
	if !c.many || c.asker.Idle() {
		return 0, false
	}
	to = c.cfg.StoreID
	if via := c.detour.Via(); via != 0 && c.seq == nil {
		to = via
	} else if c.seq == nil {
		store, known := c.askable(metapb.SystemRange)
		if !known || store == c.cfg.StoreID {
			return 0, false
		}
		to = store
	} else if !c.store.HoldsLease(metapb.SystemRange) {
		return 0, false
	}
	return to, c.asker.HasNext() || to != c.target || c.again && c.now >= c.againAt
}

// flushAsks asks the sequencer, wherever it is. It reports whether it did.
func (c *Core) flushAsks() bool {
	to, ok := c.mayAsk()
	if !ok {
		return false
	}
	var asks []placement.Ask
	if c.again || to != c.target {
		asks = c.asker.Again()
	}
	if len(asks) == 0 {
		asks = c.asker.Next()
	}
	c.again, c.target = false, to
	if len(asks) == 0 {
		return false
	}
	if to != c.cfg.StoreID {
		c.sendAsks(to, asks)
		return true
	}
	c.seq.Ack(asks[0].Name, c.asker.AnsweredUpTo())
	for i := range asks {
		if a, ok := c.seq.Alloc(asks[i]); ok {
			c.granted(a)
		}
	}
	return true
}

// sendAsks sends asks to the sequencer's store, or to the one that is to pass them on.
func (c *Core) sendAsks(to metapb.StoreID, asks []placement.Ask) {
	if to == c.detour.Via() {
		c.forwardAsks(to, asks)
		var ok bool
		if to, ok = c.probing(); !ok {
			return
		}
	}
	l := c.links[to]
	l.next.Asks = append(l.next.Asks, asks...)
	l.next.AskedUpTo = c.asker.AnsweredUpTo()
}

// serveAsks answers another store's asks, if the sequencer is here.
func (c *Core) serveAsks(l *link, f *frame.Frame) {
	if c.seq == nil || !c.store.HoldsLease(metapb.SystemRange) {
		hint, _ := c.leaderOf(metapb.SystemRange)
		if hint.store == l.peer {
			hint.store = 0
		}
		l.next.Refused = &frame.NotSequencer{Leader: hint.store, Term: hint.term}
		return
	}
	delete(c.backs, l.peer)
	c.seq.Ack(f.Asks[0].Name, f.AskedUpTo)
	for i := range f.Asks {
		if f.Asks[i].Name.Store != l.peer {
			continue
		}
		if a, ok := c.seq.Alloc(f.Asks[i]); ok {
			l.next.Answers = append(l.next.Answers, a)
		}
	}
}

// asksRefused says that the sequencer is not where it was thought to be.
func (c *Core) asksRefused(from metapb.StoreID, not *frame.NotSequencer) {
	if from != c.target {
		return
	}
	err := &peerpb.NotLeaderError{Range: metapb.SystemRange, Leader: not.Leader, Term: not.Term}
	c.misled(from, metapb.SystemRange, err)
	c.heardLeader(err)
	c.askAgain(askPause)
}

// asksLost says that what was asked of a store may be lost, or its answers.
func (c *Core) asksLost(store metapb.StoreID) {
	if store == c.target {
		c.askAgain(0)
	}
}
