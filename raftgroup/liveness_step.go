package raftgroup

import (
	"slices"

	"github.com/flotilladb/flotilla/internal/clock"
	"github.com/flotilladb/flotilla/proto/metapb"
)

// HasReady reports whether Ready has messages.
func (l *Liveness) HasReady() bool { return l.dirty }

// Ready returns the messages that are due, by store.
func (l *Liveness) Ready() []LivenessOutput {
	if !l.dirty {
		return nil
	}
	l.dirty = false
	var out []LivenessOutput
	for _, p := range l.peers {
		if m := l.message(p); m != nil {
			out = append(out, LivenessOutput{To: p.store, Message: m})
		}
	}
	return out
}

// message takes what is due for a peer; nil: nothing.
func (l *Liveness) message(p *livenessPeer) *LivenessMessage {
	if !p.beat && !p.answer && !p.talk {
		return nil
	}
	m := &LivenessMessage{
		FromStart: l.cfg.Start, ToStart: p.start,
		Beat: p.beat, Ask: p.ask, Sent: l.now,
		Answer: p.answer, Echo: p.echo, Promise: p.promise, Epoch: p.epoch,
		Follows: p.follows, Refuses: p.refuses, Asks: p.asks,
		Released: p.releasedTo, ReleaseFirst: p.releaseFirst,
	}
	m.Releases = slices.Clone(p.releases[:min(len(p.releases), l.cfg.TiesMax)])
	m.Questions = l.questions(p)
	p.beat, p.ask, p.answer, p.talk = false, false, false, false
	p.echo, p.promise = 0, 0
	p.follows, p.refuses, p.asks = nil, nil, nil
	if len(p.fresh) > 0 && l.isLive(p) {
		p.talk, l.dirty = true, true // the next Ready takes more
	}
	return m
}

// questions takes leaderships that are to be asked about: first those that were
// not, with a heartbeat also those that were and got no answer.
func (l *Liveness) questions(p *livenessPeer) []Tie {
	if !l.isLive(p) {
		return nil // they keep
	}
	var ties []Tie
	take := func(from []*Leadership) (rest []*Leadership) {
		for i, x := range from {
			if len(ties) == l.cfg.TiesMax {
				return from[i:]
			}
			if x.asks(p) {
				ties = append(ties, x.tie)
				p.sent = append(p.sent, x)
			}
		}
		return nil
	}
	p.fresh = take(p.fresh)
	if p.beat && len(ties) < l.cfg.TiesMax {
		again := p.sent[:len(p.sent)-len(ties)]
		p.sent = slices.Clone(p.sent[len(again):])
		rest := take(again)
		p.sent = append(slices.Clone(rest), p.sent...)
	}
	return ties
}

// Hear says that something came of a start of another store, be it not about promises. It
// reports false if that start is over: then nothing that it says holds any more. A store
// that is known to have begun is live no longer for it: one whose promises do not come is
// as good as dead.
func (l *Liveness) Hear(from metapb.StoreID, start uint64) bool {
	p := l.peer(from)
	if p == nil || start == 0 || start == p.start {
		return true
	}
	return l.hear(p, start)
}

func (l *Liveness) hear(p *livenessPeer, start uint64) bool {
	if start < p.start {
		return false
	}
	if start > p.start {
		l.restarted(p, start)
	}
	p.heard = l.now
	if !p.live {
		p.live = true
		l.events.Returned = append(l.events.Returned, p.store)
	}
	return true
}

// Step takes a message of another store.
func (l *Liveness) Step(from metapb.StoreID, m *LivenessMessage, now clock.Time) {
	l.SetNow(now)
	p := l.peer(from)
	if p == nil || m.FromStart == 0 || !l.hear(p, m.FromStart) {
		return
	}
	if m.ToStart == l.cfg.Start {
		l.stepAnswer(p, m)
	}
	l.stepDemands(p, m)
	if len(p.fresh) > 0 {
		p.talk, l.dirty = true, true
	}
}

// restarted is called when a peer is heard of that knows nothing of before: what
// it had promised it may have forgotten, and counts on nothing that it was
// promised.
func (l *Liveness) restarted(p *livenessPeer, start uint64) {
	if p.start != 0 {
		l.events.Restarted = append(l.events.Restarted, p.store)
	}
	p.start = start
	p.live = false
	p.epoch++
	p.until, p.promised, p.releasedTo = 0, false, 0
	clear(p.bound)
	p.answer, p.promise = false, 0
	p.follows, p.refuses = nil, nil
	p.releaseFirst += uint64(len(p.releases))
	p.releases = nil
	p.theirEpoch = 0
	l.unbindAll(p)
}

// unbindAll forgets what a peer promised: every leadership that a replica of it
// has a part in is to be asked about again.
func (l *Liveness) unbindAll(p *livenessPeer) {
	p.stamp++
	p.theirUntil = 0
	l.version++
	p.fresh, p.sent = nil, nil
	for _, x := range l.leads {
		if x.set.place(p) >= 0 && !x.given {
			p.fresh = append(p.fresh, x)
		}
	}
	slices.SortFunc(p.fresh, compareLeads)
	if len(p.fresh) > 0 {
		p.talk, l.dirty = true, true
	}
}

// stepAnswer takes what a peer says about this store's own questions.
func (l *Liveness) stepAnswer(p *livenessPeer, m *LivenessMessage) {
	if n := int64(m.Released) - int64(p.releaseFirst) + 1; n > 0 && n <= int64(len(p.releases)) {
		p.releases = append([]Tie(nil), p.releases[n:]...)
		p.releaseFirst += uint64(n)
	}
	if m.Epoch < p.theirEpoch {
		return // overtaken
	}
	if m.Epoch > p.theirEpoch {
		first := p.theirEpoch == 0
		p.theirEpoch = m.Epoch
		if !first {
			l.unbindAll(p)
		}
	}
	if m.Answer && m.Promise > 0 && !m.Echo.After(l.now) {
		if until := m.Echo.Add(l.worth(m.Promise)); until > p.theirUntil {
			p.theirUntil = until
			l.version++
		}
	}
	for _, tie := range m.Follows {
		if x := l.leads[tie.Range]; x != nil && x.tie == tie {
			x.bind(p)
		}
	}
	for _, tie := range m.Refuses {
		if x := l.leads[tie.Range]; x != nil && x.tie == tie && x.asks(p) {
			l.events.Unknown = append(l.events.Unknown, tie.Range)
		}
	}
}

// stepDemands takes what a peer wants.
func (l *Liveness) stepDemands(p *livenessPeer, m *LivenessMessage) {
	if m.Beat {
		p.answer, l.dirty = true, true
		if m.Ask && (p.promise == 0 || m.Sent > p.echo) {
			p.echo, p.promise = m.Sent, l.cfg.ElectionTimeout
			p.until, p.promised = l.now.Add(l.cfg.ElectionTimeout), true
		}
	}
	// Releases come first: what is asked in the same message is newer.
	for i, tie := range m.Releases {
		if m.ReleaseFirst+uint64(i) <= p.releasedTo {
			continue // it was taken, and what was asked for since is newer
		}
		if p.bound[tie.Range] == tie.Term {
			delete(p.bound, tie.Range)
		}
		l.events.Released = append(l.events.Released, Released{Tie: tie, From: p.store})
	}
	if n := len(m.Releases); n > 0 {
		p.releasedTo = max(p.releasedTo, m.ReleaseFirst+uint64(n)-1)
	}
	for _, tie := range m.Questions {
		if l.cfg.Replicas.Follows(tie.Range, tie.Term, p.store) {
			p.bound[tie.Range] = tie.Term
			p.follows = append(p.follows, tie)
		} else {
			p.refuses = append(p.refuses, tie)
		}
	}
	l.answerAsks(p, m.Asks)
	if len(m.Releases)+len(m.Questions) > 0 {
		p.talk, l.dirty = true, true
	}
}

// answerAsks releases what a peer asks about, and is not had, unless that is said already.
func (l *Liveness) answerAsks(p *livenessPeer, asks []Tie) {
	var said map[Tie]struct{} // releases may be many, and so may asks
	for _, tie := range asks {
		if x := l.leads[tie.Range]; x != nil && x.tie == tie && !x.given {
			continue
		}
		if said == nil {
			said = make(map[Tie]struct{}, len(p.releases))
			for _, r := range p.releases {
				said[r] = struct{}{}
			}
		}
		if _, ok := said[tie]; !ok {
			said[tie] = struct{}{}
			l.release(p, tie)
		}
	}
}

// release tells a peer, until it says that it knows, that this store does not
// have a leadership. A peer that is not reached for long has to ask.
func (l *Liveness) release(p *livenessPeer, tie Tie) {
	if n := len(p.releases); n >= releasesMax*l.cfg.TiesMax {
		p.releases = slices.Clone(p.releases[n/2:])
		p.releaseFirst += uint64(n / 2)
	}
	p.releases = append(p.releases, tie)
	p.talk, l.dirty = true, true
}

// releasesMax is how many messages full of releases are kept for a peer.
const releasesMax = 16
