package watchfeed

import (
	"container/heap"
	"slices"
	"time"

	"github.com/flotilladb/flotilla/internal/clock"
)

// RequestProgress asks that the stream's client be told when all its watches
// were given everything up to now, which is what was current when it asked.
func (c *Core) RequestProgress(id StreamID, now Revision) {
	s := c.streams[id]
	if s == nil || s.watches.n == 0 {
		return
	}
	s.latest = max(now, c.current)
	if s.asked == 0 {
		s.asked = s.latest
		c.asking = append(c.asking, s)
	}
	if !s.room() {
		c.touchStream(s) // its Output says Full
	}
}

// answerProgress answers the streams of which nothing is behind any more.
func (c *Core) answerProgress() {
	if !slices.ContainsFunc(c.asking, func(s *stream) bool { return s.asked == 0 || s.behind == 0 && s.room() }) {
		return // perhaps for as long as a client does not read
	}
	for _, g := range c.groups {
		c.advance(g)
	}
	waiting := c.asking[:0]
	for _, s := range c.asking {
		if c.maybeAnswer(s); s.asked != 0 {
			waiting = append(waiting, s)
		}
	}
	clear(c.asking[len(waiting):])
	c.asking = waiting
}

// maybeAnswer tells how far a stream is, if it is far enough. An answer is not
// below an event that one of its watches was given: its client would begin that
// watch again below it, and get the event twice.
func (c *Core) maybeAnswer(s *stream) {
	if s.watches.n == 0 {
		s.asked = 0
	}
	if s.asked == 0 || s.behind > 0 || !s.room() {
		return
	}
	low := NoBound
	for g := range s.groups {
		low = min(low, g.released)
	}
	switch {
	case low < s.asked:
		return
	case low >= s.said:
		s.said = low
		c.push(s, Response{Kind: StreamProgress, ID: -1, Revision: int64(low)})
	case s.queued+s.watches.n > s.cfg.QueueResponsesMax:
		return
	default:
		// One of them was given an event, or told, more than that. A client takes
		// what it is told of the stream for each watch: where ranges never get on
		// evenly it would wait for ever.
		for _, w := range s.watches.all() {
			c.sayProgress(w)
		}
	}
	if s.asked = s.latest; low >= s.latest {
		s.asked = 0
	}
}

// sayProgress tells a synced watch how far it is: that is beyond its group where
// it caught up, or began, ahead of what that has released.
func (c *Core) sayProgress(w *watcher) {
	rev := max(w.place.group.released, w.next-1)
	w.stream.said = max(w.stream.said, rev)
	c.push(w.stream, Response{Kind: Progress, ID: w.id, Revision: int64(rev)})
}

// progressDue is when a watch that wants progress is looked at.
type progressDue struct {
	at clock.Time
	w  *watcher
}

// progressTick tells watches that were idle for the interval how far they are. Where what
// is current comes by itself that is at once.
// All wait equally long, so the queue is in order of time.
func (c *Core) progressTick() {
	for c.idle.len() > 0 && !c.idle.first().at.After(c.now) {
		w := c.idle.pop().w
		if w.has(gone) {
			c.idleGone--
			continue
		}
		switch {
		case w.has(sent | catching | ahead | telling):
		case c.asks:
			w.flags |= telling
			c.tells.due = append(c.tells.due, w)
		case w.stream.room():
			c.advance(w.place.group)
			if !w.has(sent | catching) {
				c.sayProgress(w)
			}
		}
		w.flags &^= sent
		c.idle.push(progressDue{at: c.now.Add(c.cfg.ProgressInterval), w: w})
	}
	c.tell()
}

// tells are watches that were idle for the interval, on one of several stores. What is
// current there is known only when it was asked for, and their ranges may not be closed
// at it: were they told what is known, that would be as old as the interval at least, or
// what was current when this store asked last, and their clients could not begin again
// there when that is compacted.
type tells struct {
	due   []*watcher // next
	asked []*watcher // are told when they are at rev, and at the time until at the latest
	rev   Revision   // 0: not known yet
	until clock.Time
	// ask: Ready is to say that what is current is wanted. asking: it did.
	ask, asking bool
}

// tellPatience is how long it may take to know how far idle watches are.
const tellPatience = time.Second

// tell tells idle watches how far they are, as soon as that is known.
func (c *Core) tell() {
	t := &c.tells
	waiting := t.asked[:0]
	for _, w := range t.asked {
		if !w.has(gone | sent | catching) {
			c.advance(w.place.group)
			if (t.rev == 0 || w.place.group.released < t.rev) && c.now.Before(t.until) {
				waiting = append(waiting, w)
				continue
			}
		}
		w.flags &^= telling
		if !w.has(gone|sent|catching) && w.stream.room() {
			c.sayProgress(w)
		}
	}
	clear(t.asked[len(waiting):])
	t.asked = waiting
	if len(t.asked) > 0 || len(t.due) == 0 {
		return
	}
	t.asked, t.due = t.due, t.asked[:0]
	t.rev, t.until = 0, c.now.Add(tellPatience)
	t.ask = !t.asking
}

// Current says what is current, which Ready wanted to know; 0: nobody can say.
func (c *Core) Current(now Revision) {
	t := &c.tells
	t.asking = false
	if now == 0 {
		return
	}
	t.rev = max(now, c.current)
	var last *group
	for _, w := range t.asked {
		if g := w.place.group; g != last && !w.has(gone) {
			c.want(g, t.rev)
			last = g
		}
	}
}

// takeTells reports whether what is current is to be asked for.
func (c *Core) takeTells() bool {
	t := &c.tells
	ask := t.ask
	t.asking, t.ask = t.asking || ask, false
	return ask
}

// aheadQueue are watchers whose start is ahead, lowest first.
type aheadQueue struct {
	items []*watcher // a heap
	gone  int        // of them
}

// reachAhead lets go the watchers whose start has come.
func (c *Core) reachAhead() {
	q := &c.ahead
	for q.Len() > 0 && (q.items[0].has(gone) || q.items[0].next <= c.current+1) {
		w := heap.Pop(q).(*watcher)
		if w.has(gone) {
			q.gone--
			continue
		}
		w.flags &^= ahead
		w.stream.behind--
		if s := w.stream; s.asked != 0 {
			// The answer is for this watch too, and must not be below its beginning.
			s.asked, s.latest = max(s.asked, w.next-1), max(s.latest, w.next-1)
		}
	}
}

// tidy forgets what was canceled or dropped in queues, when it is most of them.
func (c *Core) tidy() {
	const slack = 1024
	if c.ahead.gone > slack+c.ahead.Len()/2 {
		c.ahead.items = slices.DeleteFunc(c.ahead.items, func(w *watcher) bool { return w.has(gone) })
		c.ahead.gone = 0
		heap.Init(&c.ahead)
	}
	if c.idleGone > slack+c.idle.len()/2 {
		left := slices.DeleteFunc(slices.Clone(c.idle.all()), func(d progressDue) bool { return d.w.has(gone) })
		c.idle, c.idleGone = deque[progressDue]{items: left}, 0
	}
	for i := range c.queues {
		if q := &c.queues[i]; q.gone > slack+q.places.len()/2 {
			left := slices.DeleteFunc(slices.Clone(q.places.all()), func(p *place) bool { return !p.isQueued() })
			q.places, q.gone = deque[*place]{items: left}, 0
		}
	}
}

// Len, Less, Swap, Push and Pop implement heap.Interface.
func (q *aheadQueue) Len() int           { return len(q.items) }
func (q *aheadQueue) Less(i, j int) bool { return q.items[i].next < q.items[j].next }
func (q *aheadQueue) Swap(i, j int)      { q.items[i], q.items[j] = q.items[j], q.items[i] }
func (q *aheadQueue) Push(v any)         { q.items = append(q.items, v.(*watcher)) }

// Pop implements heap.Interface.
func (q *aheadQueue) Pop() any {
	n := len(q.items) - 1
	w := q.items[n]
	q.items[n] = nil
	q.items = q.items[:n]
	return w
}
