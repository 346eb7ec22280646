package placement

import (
	"errors"

	"github.com/flotilladb/flotilla/internal/invariant"
	"github.com/flotilladb/flotilla/proto/metapb"
)

// SequencerConfig sets a Sequencer up. The defaults fill in zeros.
type SequencerConfig struct {
	// Epoch is the term in which this replica leads the system range.
	Epoch uint64
	// Last is the last revision that may have been given out: the persisted
	// ceiling, or in a cluster of one store the highest in its logs and applied
	// states. A fresh cluster is at 1.
	Last metapb.Revision
	// OneStore is the durable fact that the cluster has one store.
	OneStore bool
	// Compacted is the compacted revision, -1 if nothing was ever compacted.
	Compacted metapb.Revision
	// AheadMin is how far ahead the ceiling is persisted at least. 0: 64.
	AheadMin int64
	// AskMax bounds the revisions of one ask. 0: 1,048,576.
	AskMax int64
	// UnackedMax bounds the answers kept for a store to be repeated. 0: 65,536.
	UnackedMax int
}

// Validate fills in the defaults and reports what cannot work.
func (c *SequencerConfig) Validate() error {
	if c.AheadMin == 0 {
		c.AheadMin = 64
	}
	if c.AskMax == 0 {
		c.AskMax = 1 << 20
	}
	if c.UnackedMax == 0 {
		c.UnackedMax = 1 << 16
	}
	if c.Last < 1 || c.AheadMin < 0 || c.AskMax < 0 || c.UnackedMax < 0 {
		return errors.New("sequencer config: a bound or the last revision is too low")
	}
	return nil
}

// Sequencer hands out revisions: one sequence for the whole cluster, without
// holes while nothing fails.
//
// It answers from memory. What is given out stays at or below a ceiling that is
// persisted ahead, and a new sequencer starts above the ceiling: so no revision
// is given out twice, whatever was in flight when the old one went. In a cluster
// of one store no ceiling is needed, since everything given out and used is in
// the logs of that store.
//
// It is a core; not safe for concurrent use.
type Sequencer struct {
	cfg       SequencerConfig
	compacted metapb.Revision

	last    metapb.Revision // given out. Invariant: never decreases.
	applied metapb.Revision // one store: highest applied. Invariant: <= last.
	ceiling metapb.Revision // persisted. Invariant: unless free, last <= ceiling.
	asked   uint64          // Number of the ceiling proposed last and not yet persisted; 0: none
	number  uint64          // of the last proposal
	free    bool            // no ceiling binds: one store, and it stays one
	one     bool            // Current is the highest applied
	stopped bool            // gives out nothing
	settled bool            // the exact value of the stop is persisted

	waiting []Ask // for the ceiling, in the order they came
	paths   map[metapb.StoreID]*path
	ready   SequencerReady
	pace    pace
}

// SequencerReady is what a Sequencer wants done.
type SequencerReady struct {
	// Answers to asks that had to wait.
	Answers []Answer
	// Ceiling, if not nil, is to be put in the system range's log, behind every
	// earlier one. Then Persisted or PersistFailed is called.
	Ceiling *CeilingOp
}

// NewSequencer returns the sequencer of a new epoch.
func NewSequencer(cfg SequencerConfig) (*Sequencer, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return &Sequencer{
		cfg:       cfg,
		compacted: cfg.Compacted,
		last:      cfg.Last,
		applied:   cfg.Last,
		ceiling:   cfg.Last,
		free:      cfg.OneStore,
		one:       cfg.OneStore,
		paths:     make(map[metapb.StoreID]*path),
		pace:      newPace(cfg.AheadMin, cfg.Last),
	}, nil
}

// Current is the last revision: in a cluster of one store the highest applied,
// since what was given out and not applied is lost by a crash; else the last
// given out.
func (s *Sequencer) Current() metapb.Revision {
	if s.one {
		return s.applied
	}
	return s.last
}

// Last is the last revision given out.
func (s *Sequencer) Last() metapb.Revision { return s.last }

// Epoch is the sequencer's epoch.
func (s *Sequencer) Epoch() uint64 { return s.cfg.Epoch }

// Now answers an ask for what is current, at once, whoever waits. It is for who is
// not asked in turn: the range that the sequencer stands on.
func (s *Sequencer) Now(name AskName) Answer {
	return Answer{Name: name, First: s.Current(), Epoch: s.cfg.Epoch, Compacted: s.compacted}
}

// Applied says that the store has applied a revision.
func (s *Sequencer) Applied(rev metapb.Revision) {
	invariant.Check(!s.one || rev <= s.last, "revision %d is applied, %d was the last given out", rev, s.last)
	s.applied = max(s.applied, rev)
}

// Compacted says that the system range agreed on a compaction.
func (s *Sequencer) Compacted(rev metapb.Revision) { s.compacted = max(s.compacted, rev) }

// Alloc answers an ask, or returns false: then the answer comes with a later
// Ready, when the ceiling is high enough.
func (s *Sequencer) Alloc(ask Ask) (Answer, bool) {
	if ask.Seq == 0 && s.free && !s.stopped && ask.Epoch <= s.cfg.Epoch &&
		ask.N >= 0 && ask.N <= s.cfg.AskMax {
		return s.issue(&ask), true
	}
	return s.allocSlow(ask)
}

func (s *Sequencer) allocSlow(ask Ask) (Answer, bool) {
	if err := s.refusal(&ask); err != nil {
		return Answer{Name: ask.Name, Seq: ask.Seq, Err: err}, true
	}
	if ask.Seq != 0 {
		known, a, err := s.enter(&ask)
		switch {
		case err != nil:
			return Answer{Name: ask.Name, Seq: ask.Seq, Err: err}, true
		case known && a == nil:
			return Answer{}, false // it waits already
		case known:
			return *a, true
		}
	}
	// Who waits is served first, also where a later ask would need no ceiling:
	// the answers of a store's path are in its order.
	if len(s.waiting) > 0 || !s.room(ask.N) {
		if len(s.waiting) == 0 {
			s.pace.grow()
		}
		s.waiting = append(s.waiting, ask)
		s.raise()
		return Answer{}, false
	}
	a := s.issue(&ask)
	s.raise()
	return a, true
}

// refusal says why an ask gets nothing.
func (s *Sequencer) refusal(ask *Ask) error {
	switch {
	case ask.Epoch > s.cfg.Epoch:
		return ErrDeposed
	case s.stopped:
		return ErrStopped
	case ask.N < 0 || ask.N > s.cfg.AskMax:
		return ErrBadAsk
	}
	return nil
}

// room reports whether n more revisions may be given out now.
func (s *Sequencer) room(n int64) bool {
	return s.free || n == 0 || s.last+metapb.Revision(n) <= s.ceiling
}

// issue gives out what is asked for. REQUIRES: room(ask.N).
func (s *Sequencer) issue(ask *Ask) Answer {
	a := s.Now(ask.Name)
	a.Seq, a.N = ask.Seq, ask.N
	if ask.N > 0 {
		a.First = s.last + 1
		s.last += metapb.Revision(ask.N)
	}
	if ask.Seq != 0 {
		s.paths[ask.Name.Store].keep(ask.Seq, &a)
	}
	return a
}

// EndOneStore begins the end of the cluster's being one store. From now on a
// ceiling binds; when the first is persisted, together with the fact, Current is
// the last given out and a second store may be admitted.
func (s *Sequencer) EndOneStore() {
	if !s.free {
		return
	}
	s.free = false
	s.ceiling = s.last
	s.raise()
}

// OneStore reports whether the cluster counts as one store still.
func (s *Sequencer) OneStore() bool { return s.one }

// Stop stops giving out, for an orderly stop or a transfer, and persists the
// exact last revision, so that the next sequencer goes on without a hole. That
// binds at once: it may be in the log before anyone hears of it.
func (s *Sequencer) Stop() {
	if s.stopped {
		return
	}
	s.stopped = true
	for i := range s.waiting {
		s.refuseWaiting(&s.waiting[i])
	}
	s.waiting = s.waiting[:0]
	if !s.free {
		s.ceiling = s.last
		s.propose(s.last, true)
	}
}

// refuseWaiting refuses an ask, and forgets it: after a transfer that failed it is asked
// again. Were the refusal kept like a grant, to be repeated, that would be all that its store
// ever got.
func (s *Sequencer) refuseWaiting(ask *Ask) {
	if ask.Seq != 0 {
		s.paths[ask.Name.Store].cut(ask.Seq)
	}
	s.ready.Answers = append(s.ready.Answers, Answer{Name: ask.Name, Seq: ask.Seq, Err: ErrStopped})
}

// Resume goes on after a transfer that failed. Before anything is given out the
// ceiling is raised through the log.
func (s *Sequencer) Resume() {
	if !s.stopped {
		return
	}
	s.stopped, s.settled = false, false
	s.asked = 0
	s.ready.Ceiling = nil // the exact value, if it is not even proposed
	s.raise()
}

// Stopped reports whether the sequencer has stopped and what it gave out is
// known durably.
func (s *Sequencer) Stopped() bool { return s.stopped && (s.free || s.settled) }

// Ready hands out the work.
func (s *Sequencer) Ready() SequencerReady {
	rd := s.ready
	s.ready = SequencerReady{}
	return rd
}
