package placement

import (
	"time"

	"github.com/flotilladb/flotilla/internal/clock"
	"github.com/flotilladb/flotilla/proto/metapb"
)

// How far ahead the ceiling is persisted is how many revisions are skipped when the
// sequencer's store is lost: the next one cannot know which of them were given out. (It
// could ask the stores, but not the one that is lost, which may have told a client of one
// a moment ago.) So it is what a while of the present use needs, and what was persisted
// for a use that is over is taken back.

// pace is how fast revisions are used, and what follows for the ceiling.
type pace struct {
	min   int64 // AheadMin
	ahead int64 // how far ahead the next ceiling is
	// takes is about how long the log takes for a ceiling, the one that was sent at
	// sentAt for example. known: one is persisted; until then all wait.
	takes  time.Duration
	sentAt clock.Time
	known  bool
	now    clock.Time
	at     clock.Time      // when the window began
	mark   metapb.Revision // the last revision then
}

const (
	// paceWindow is the time whose use is persisted ahead, or paceTrips times what the log
	// takes, up to paceWindowMax.
	paceWindow    = 250 * time.Millisecond
	paceTrips     = 4
	paceWindowMax = 2 * time.Second
	// paceTakeBack is how many times what is needed may be persisted ahead; what is more
	// is taken back.
	paceTakeBack = 4
)

func newPace(min int64, last metapb.Revision) pace { return pace{min: min, ahead: min, mark: last} }

// tick ends the window if it is over.
func (p *pace) tick(now clock.Time, last metapb.Revision) (over bool) {
	p.now = now
	lasted := now.Sub(p.at)
	if lasted < paceWindow {
		return false
	}
	used := float64(last - p.mark)
	wants := min(max(paceWindow, paceTrips*p.takes), paceWindowMax)
	if p.at == 0 {
		lasted = paceWindow // nobody knows when it began
	}
	p.ahead = max(p.min, int64(used*float64(wants)/float64(lasted)))
	p.takes -= p.takes / 8
	p.at, p.mark = now, last
	return true
}

// persisted says that the ceiling that was sent last is.
func (p *pace) persisted() {
	p.known = true
	p.takes = max(p.takes, p.now.Sub(p.sentAt))
}

// grow is called when somebody has to wait: the use is not what it was in the last window.
// It is once for each trip of the log, however many wait for it.
func (p *pace) grow() {
	if p.known && p.ahead < 1<<20 {
		p.ahead *= 2
	}
}

// raise proposes a higher ceiling when half of what is ahead is used, or
// somebody waits for it.
func (s *Sequencer) raise() {
	if s.free || s.stopped || s.asked != 0 {
		return
	}
	if len(s.waiting) == 0 && int64(s.ceiling-s.last) >= s.pace.ahead/2 {
		return
	}
	to := s.last + metapb.Revision(s.pace.ahead)
	for i := range s.waiting {
		to += metapb.Revision(s.waiting[i].N)
	}
	s.propose(to, false)
}

// lower takes back what is not needed any more. As with the value of a stop, that binds
// from the moment it is proposed.
func (s *Sequencer) lower() {
	if s.free || s.stopped || s.asked != 0 || len(s.waiting) > 0 ||
		int64(s.ceiling-s.last) <= paceTakeBack*s.pace.ahead {
		return
	}
	s.ceiling = s.last + metapb.Revision(s.pace.ahead)
	s.propose(s.ceiling, true)
}

func (s *Sequencer) propose(to metapb.Revision, exact bool) {
	s.number++
	s.asked = s.number
	s.pace.sentAt = s.pace.now
	s.ready.Ceiling = &CeilingOp{
		Epoch: s.cfg.Epoch, Number: s.number, Ceiling: to, Exact: exact, EndOneStore: s.one,
	}
}

// Persisted says that a ceiling is durable.
func (s *Sequencer) Persisted(op *CeilingOp) {
	if op.Number != s.asked {
		return // a later one is behind it in the log
	}
	s.asked = 0
	s.settled = s.stopped
	if op.EndOneStore {
		s.one = false
	}
	s.ceiling = op.Ceiling
	s.pace.persisted()
	if s.drain(); len(s.waiting) > 0 {
		s.pace.grow()
	}
	s.raise()
}

// PersistFailed says that a ceiling did not get into the log, and never will.
// The next Tick proposes again.
func (s *Sequencer) PersistFailed(op *CeilingOp) {
	if op.Number == s.asked {
		s.asked = 0
	}
}

// drain answers those who wait as far as the ceiling reaches.
func (s *Sequencer) drain() {
	n := 0
	for n < len(s.waiting) && s.room(s.waiting[n].N) {
		s.ready.Answers = append(s.ready.Answers, s.issue(&s.waiting[n]))
		n++
	}
	s.waiting = append(s.waiting[:0], s.waiting[n:]...)
}

// Tick tells the time. The ceiling is kept ahead by what a while of the present use needs.
func (s *Sequencer) Tick(now clock.Time) {
	over := s.pace.tick(now, s.last)
	if s.stopped && !s.settled && !s.free && s.asked == 0 {
		s.propose(s.last, true)
	}
	s.raise()
	if over {
		s.lower()
	}
}
