package placement

import (
	"cmp"
	"time"

	"github.com/flotilladb/flotilla/internal/clock"
	"github.com/flotilladb/flotilla/proto/metapb"
)

// Detour decides when a store asks the sequencer through another store: when it asked
// straight and heard nothing for After, or nobody was there to be asked. Who passes an
// ask on remembers nothing, so whether it arrived is not known: as long as no answer
// comes the next store is tried, in turn. Asks that go two ways are harmless, since the
// sequencer knows each by its name and place and repeats the answer.
//
//	straight ──After without an answer──> through a store ──RetryAfter──> the next one
//	    └────────────<── an answer came straight, or the sequencer moved ──────────┘
//
// While it goes through another store it also asks straight now and then: only so is it
// heard that the way is open again.
//
// It is a core; not safe for concurrent use.
type Detour struct {
	cfg DetourConfig
	// since is when what is under way, or waits for somebody to be asked, was last heard
	// of or began; 0: nothing is wanted.
	since clock.Time
	via   metapb.StoreID // who is asked to pass it on; 0: nobody
	// sequencer is who gave out revisions when that was known last.
	sequencer metapb.StoreID
	probeAt   clock.Time
}

// DetourConfig sets a Detour up.
type DetourConfig struct {
	// After is how long the sequencer may be silent: an election timeout.
	After time.Duration
	// RetryAfter is how long a store that passes asks on is waited for. 0: a tenth of
	// After, but 100 ms at least.
	RetryAfter time.Duration
}

// NewDetour returns a store's decision, which is to ask straight.
func NewDetour(cfg DetourConfig) Detour {
	if cfg.RetryAfter == 0 {
		cfg.RetryAfter = max(cfg.After/10, 100*time.Millisecond)
	}
	return Detour{cfg: cfg}
}

// Via is who is asked to pass asks on, 0: they go straight.
func (d *Detour) Via() metapb.StoreID { return d.via }

// Tick tells the time, whether anything is wanted of the sequencer, which store it is
// thought to be on (0: not known), and who could pass asks on, in order of id. It reports
// whether what is under way is to be sent again, to whom Via says now.
func (d *Detour) Tick(now clock.Time, wanted bool, sequencer metapb.StoreID, others []metapb.StoreID) (again bool) {
	if sequencer != 0 && sequencer != d.sequencer {
		again = d.via != 0
		d.sequencer = sequencer
		d.straight(now) // it moved, maybe to where this store reaches it
	}
	if !wanted {
		d.since = 0
		return again
	}
	wait := d.cfg.After
	if d.via != 0 {
		wait = d.cfg.RetryAfter
	}
	switch {
	case d.since == 0:
		d.since = now
	case now.Sub(d.since) >= wait:
		d.since = now
		d.turn(now, others)
		again = true
	}
	return again
}

// turn chooses the next store behind the last one. The sequencer's is the last resort:
// it is asked so where it is not known any more that it is the sequencer's.
func (d *Detour) turn(now clock.Time, others []metapb.StoreID) {
	if d.via == 0 {
		d.probeAt = now.Add(d.cfg.After)
	}
	var first, next, last metapb.StoreID
	for _, s := range others {
		switch {
		case s == d.sequencer:
			last = s
		case first == 0:
			first = s
			fallthrough
		default:
			if next == 0 && s > d.via {
				next = s
			}
		}
	}
	d.via = cmp.Or(next, first, last)
}

// Answered says that an answer came that counts.
func (d *Detour) Answered(now clock.Time) {
	if d.since != 0 {
		d.since = now
	}
}

// Straight says that an answer came straight from the sequencer. It reports whether
// asks went another way until now.
func (d *Detour) Straight(now clock.Time) (was bool) {
	if d.via == 0 {
		return false
	}
	d.straight(now)
	return true
}

func (d *Detour) straight(now clock.Time) {
	d.via = 0
	if d.since != 0 {
		d.since = now
	}
}

// Probe reports whether what is sent to Via is to go straight as well.
func (d *Detour) Probe(now clock.Time) bool {
	if d.via == 0 || now.Before(d.probeAt) {
		return false
	}
	d.probeAt = now.Add(d.cfg.After)
	return true
}
