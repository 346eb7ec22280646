package watchfeed

// A read of what is elsewhere waits for the leaders of its ranges. Of one that nobody leads
// it takes as long as a read may, and fails, again and again, and there may be one for each
// place over it. So what is read here, what elsewhere, and what of ranges that do not
// answer waits, and counts, by itself.

// source is where a scan reads, as far as it says how long that may take.
type source int

const (
	fromHere      source = iota // all of it in the engine
	fromElsewhere               // some of it from other stores
	fromSilent                  // some of it of a range that did not answer
	sources
)

// queue are the places that wait for a scan of one source, and the scans under way.
type queue struct {
	places deque[*place]
	gone   int // of places: dropped
	// running are the scans under way, by what they are for; reserved is what they may
	// bring. It does not take the room of other sources.
	running  [2]int
	reserved int
}

// sourceOf returns where what a group's feeds had is read.
func (c *Core) sourceOf(g *group) source {
	src := fromHere
	if !c.absents {
		return src // of thousands of feeds none is looked at
	}
	for _, f := range c.feeds[g.lo.pos : g.hi.pos+1] {
		switch {
		case !f.absent:
		case f.silent:
			return fromSilent
		default:
			src = fromElsewhere
		}
	}
	return src
}

// wantScan queues a place for a scan.
func (c *Core) wantScan(p *place) {
	if x := p.more; !x.queued && x.scan == nil {
		x.queued = true
		c.enqueue(p)
	}
}

// enqueue puts a place into the queue where it belongs.
func (c *Core) enqueue(p *place) {
	src := c.sourceOf(p.group)
	p.more.in = src
	c.queues[src].places.push(p)
}

// waits reports whether a place waits for a scan.
func (c *Core) waits() bool {
	for i := range c.queues {
		if q := &c.queues[i]; q.places.len() > q.gone {
			return true
		}
	}
	return false
}

// startScans begins what the bounds allow.
func (c *Core) startScans() {
	for moved := true; moved; {
		moved = false
		for src := range sources {
			moved = c.startScansOf(src) || moved
		}
	}
}

// startScansOf begins those of a source. It reports whether a place went to the queue of
// another one, where it belongs by now.
func (c *Core) startScansOf(src source) (moved bool) {
	q := &c.queues[src]
	for q.places.len() > 0 && q.running[forPlace] < c.cfg.ScansMax && c.hasRoom(src) {
		p := q.places.pop()
		if !p.isQueued() {
			q.gone--
			continue
		}
		if c.sourceOf(p.group) != src {
			c.enqueue(p)
			moved = true
			continue
		}
		p.more.queued = false
		c.startScan(p, src)
	}
	return moved
}

// hasRoom reports whether there is room for one more window of a source.
func (c *Core) hasRoom(src source) bool {
	bytes := c.windowBytes + c.cfg.WindowBytesMax
	for i := range c.queues {
		if source(i) != src {
			bytes -= c.queues[i].reserved
		}
	}
	return bytes <= c.cfg.CatchUpBytesMax
}

// unanswered notes that a scan failed: the ranges elsewhere of which nothing was heard since
// it began may have no leader.
func (c *Core) unanswered(s *scan) {
	g := s.of()
	if g == nil || g.at < 0 || s.Parts == nil || s.void {
		return
	}
	for _, f := range c.feeds[g.lo.pos : g.hi.pos+1] {
		if f.absent && (g.lo == g.hi || f.toldAt <= s.began) {
			f.silent = true
		}
	}
}

// answered notes that a scan of a group's feeds was done.
func (c *Core) answered(g *group) {
	for _, f := range c.feeds[g.lo.pos : g.hi.pos+1] {
		c.heardOf(f)
	}
}

// heardOf notes that a feed gets on: places over it do not wait any more behind those of
// ranges that do not.
func (c *Core) heardOf(f *feed) {
	f.toldAt = c.now
	if !f.silent {
		return
	}
	f.silent = false
	q := &c.queues[fromSilent]
	all := q.places.all()
	q.places, q.gone = deque[*place]{}, 0
	for _, p := range all {
		if p.isQueued() {
			c.enqueue(p)
		}
	}
}
