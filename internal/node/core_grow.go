package node

// A cluster of one store becomes one of several while it works:
//
//	EndOneStore → the sequencer stops being free of its ceiling → the ceiling and
//	the end of the fact go through the log, in one entry → becomeMany
//
// Only after that a second store gets its id. So whatever another store says or
// asks, this one already does what is right with several: what is current is the
// last revision given out, and what may be read has to be asked for.

// EndOneStore begins to make the cluster one of several stores. It is over when
// Direct says no. Without a sequencer here it does nothing, and may be called again.
func (c *Core) EndOneStore() {
	if c.many || c.seq == nil {
		return
	}
	c.ending = true
	c.seq.EndOneStore()
	c.pumpSequencer()
}

// isMany reports whether it is time for becomeMany. After a crash the fact may have
// been in the log only, and so the sequencer begins without it; but where one is at
// work it first has to hear that its ceiling is durable.
func (c *Core) isMany() bool {
	return !c.many && !c.system.OneStore() && (c.seq == nil || !c.seq.OneStore())
}

// becomeMany goes on as a store among several. How far ranges are closed was known
// here without a question, and was said of what nobody else could give out: it is
// asked for anew.
func (c *Core) becomeMany() {
	c.many, c.ending = true, false
	c.store.SetMany()
	c.reached = max(c.reached, c.store.Revision())
	if c.seq != nil {
		c.serves = true
		c.sawCurrent(c.seq.Current())
	}
	for _, id := range c.store.IDs() {
		c.touchClosing(id, c.closingOf(id))
	}
	c.wantAll(c.current)
}
