package watchfeed

import "context"

// What a stream asks for from now on needs what is current, and where that has to be
// asked for it may take seconds. It waits beside the stream's other requests:
//
//	create from now  ─> waits, asks ──────────────────────────────> hub
//	create           ─> waits behind it: clients tell answers by their order
//	cancel           ─> of a watch that waits: behind it; else ────> hub
//	progress         ─> waits, asks ──────────────────────────────> hub
//
// The goroutine "watch-ask" asks once for all that waits, and ends when nothing does.
// If there is no answer a watch begins at what this node knows, as it does on a member
// of etcd: it may show what the client has seen elsewhere, and leaves nothing out.

// laters is what waits. Its size is bounded by that of the watches that may be.
type laters struct {
	// waiting are commands, in order. They are taken out when the hub has them.
	waiting []command
	// ids are of the watches that it has to do with, creates how many it creates.
	ids     map[int64]laterID
	creates int
	// askedFor is how many of the commands the question under way is for.
	askedFor int
	asks     bool // the goroutine runs
}

// laterID is what waits about watches of one id. An id may be given anew once its watch is
// canceled.
type laterID struct {
	commands int
	canceled bool // the last of them cancels it
}

// later has a command wait if it needs what is not known, or something that waits goes
// first. It reports whether it does.
func (s *Stream) later(c command, known bool) (waits bool, err error) {
	s.mu.Lock()
	l := &s.mu.laters
	switch n := len(l.waiting); {
	case c.kind == doCreate && (!known || l.creates > 0 || l.ids[c.create.ID].commands > 0):
		l.creates++
		l.note(c.create.ID, false)
	case c.kind == doCancel && l.ids[c.id].canceled:
		s.mu.Unlock()
		return true, nil
	case c.kind == doCancel && l.ids[c.id].commands > 0:
		l.note(c.id, true)
	case c.kind == doProgress && !known && n > l.askedFor && l.waiting[n-1].kind == doProgress:
		s.mu.Unlock()
		return true, nil // it is asked for
	case c.kind == doProgress && !known:
	default:
		s.mu.Unlock()
		return false, nil
	}
	c.known = known
	l.waiting = append(l.waiting, c)
	begin := !l.asks
	l.asks = true
	s.mu.Unlock()
	if begin && s.hub.stop.Go("watch-ask", s.askLater) != nil {
		return true, ErrStopping
	}
	return true, nil
}

// note counts a command about an id that waits.
func (l *laters) note(id int64, canceled bool) {
	if l.ids == nil {
		l.ids = make(map[int64]laterID)
	}
	l.ids[id] = laterID{l.ids[id].commands + 1, canceled}
}

// done counts one that waits no more.
func (l *laters) done(id int64) {
	x := l.ids[id]
	if x.commands--; x.commands == 0 {
		delete(l.ids, id)
		return
	}
	l.ids[id] = x
}

// askLater gives the hub what waits, until nothing does.
func (s *Stream) askLater(ctx context.Context) {
	for {
		s.mu.Lock()
		l := &s.mu.laters
		if len(l.waiting) == 0 || s.mu.closed || s.mu.err != nil {
			*l = laters{}
			s.mu.Unlock()
			return
		}
		l.askedFor = len(l.waiting)
		batch := l.waiting[:l.askedFor:l.askedFor]
		s.mu.Unlock()
		now, err := s.hub.cfg.Ask(ctx)
		for i := range batch {
			s.sendLater(&batch[i], now, err)
		}
		s.mu.Lock()
		for i := range batch {
			switch c := &batch[i]; c.kind {
			case doCreate:
				l.creates--
				l.done(c.create.ID)
			case doCancel:
				l.done(c.id)
			}
		}
		l.waiting, l.askedFor = l.waiting[len(batch):], 0
		s.mu.Unlock()
	}
}

// sendLater gives the hub one command; err says that now is not known.
func (s *Stream) sendLater(c *command, now Revision, err error) {
	if c.kind == doProgress {
		if err == nil { // else the client asks again
			s.askProgress(now)
		}
		return
	}
	if c.kind == doCreate && !c.known {
		if c.now = now; err != nil {
			c.now, _ = s.hub.cfg.Current()
		}
	}
	_ = s.hub.send(*c) // a hub that stops ends all watches
}
