package node

import (
	"time"

	"github.com/flotilladb/flotilla/internal/clock"
	"github.com/flotilladb/flotilla/internal/frame"
	"github.com/flotilladb/flotilla/proto/metapb"
)

// link is the lane of requests to and from one other store. What is said on it
// arrives once and in order, or both ends hear that it may be lost: the peer was
// started anew, or one of them gave the session up.
//
// A write that is sent twice would take effect twice, so a frame is taken only by
// the start of the store that it names: a link says nothing before it knows that.
type link struct {
	self, peer metapb.StoreID
	selfStart  uint64
	peerStart  uint64 // 0: never heard

	// Of what is sent:
	next     frame.Frame // what waits to be sent
	session  uint64
	number   uint64         // of the last frame sent
	unacked  []*frame.Frame // sent and not acknowledged, in order
	waited   time.Duration  // for how long the first of unacked waits, reckoned as silence is
	resender resender
	// unsent are the requests that waited in next when a session ended, for lostLink.
	unsent []uint64
	// down: nothing was acknowledged, or heard, for so long that the session was given
	// up, and the peer has not heard of the next one.
	down bool
	// forgotten: the peer was removed from the cluster, and nothing was heard of it since.
	forgotten bool

	// leaves: this store is about to stop. ends: it has said so, and takes nothing
	// more.
	leaves, ends bool
	// full: this store's disk is; peerFull: the peer's.
	full, peerFull bool

	// formats are this store's, peerFormats what the peer's present start said of its own.
	formats, peerFormats frame.Formats

	// Of what is received:
	heardSession, heard uint64 // the peer's session, and its last frame taken
	// early are frames of that session that came before one that they follow: a large
	// frame goes in pieces, and what is sent after it overtakes it. Were they passed
	// over, all that is said would wait until they are sent again. Invariant: above
	// heard+1, and at most linkFramesMax.
	early   map[uint64]*frame.Frame
	ackDue  bool
	helloAt clock.Time
	// peerLeaves: the peer is about to stop. peerEnded: it did.
	peerLeaves, peerEnded bool
	heardAt               clock.Time // when the peer was heard last
	// silence is for how long the peer says nothing, but for times in which this store
	// stood still itself; tickedAt is when that was reckoned.
	silence  time.Duration
	tickedAt clock.Time
}

const (
	// linkTimeout is when a session is given up in which nothing is acknowledged, and nothing
	// heard.
	linkTimeout = time.Second
	// linkDeaf is when it is given up though the peer is heard: it may be that nothing reaches
	// the peer. A frame of more than frameContentMax has the time besides that the rest of it
	// takes on the slowest of links, of linkBytesMin a second.
	linkDeaf     = 3 * time.Second
	linkBytesMin = 1 << 20
	// linkSilence is after which silence it is, though all was acknowledged: the answers
	// that are missing do not come from a peer that is lost.
	linkSilence = 3 * time.Second
	// linkHello is how often a peer hears who is there, when there is nothing to
	// tell it; where both know, linkHelloQuiet.
	linkHello      = 100 * time.Millisecond
	linkHelloQuiet = 500 * time.Millisecond
	// linkFramesMax bounds the frames that are not acknowledged. Beyond it what is to
	// be sent waits in the next frame.
	linkFramesMax = 256
)

// ready reports whether something can be said.
func (l *link) ready() bool { return l.peerStart != 0 && !l.down && !l.peerEnded && !l.ends }

// hasNext reports whether there is a frame to send.
func (l *link) hasNext() bool {
	return (l.ready() || l.ends && l.next.Parting == frame.Ends) && len(l.unacked) < linkFramesMax && !l.next.Empty()
}

// take hands out the next frame. Of what there is too much for one the rest is left.
func (l *link) take(now clock.Time) *frame.Frame {
	f := l.next
	l.next = cutFrame(&f)
	l.number++
	f.Session, f.Number = l.session, l.number
	sent := &f
	l.seal(sent)
	first := len(l.unacked) == 0
	if first {
		l.waited = 0
	}
	l.resender.sent(l.number, first, now)
	l.unacked = append(l.unacked, sent)
	l.helloAt = now.Add(linkHello)
	return sent
}

// seal fills in who says it to whom, and what was taken.
func (l *link) seal(f *frame.Frame) {
	f.Lane, f.From, f.To = frame.Requests, l.self, l.peer
	f.FromStart, f.ToStart = l.selfStart, l.peerStart
	l.date(f)
	l.ackDue = false
}

// date fills in what is true now.
func (l *link) date(f *frame.Frame) {
	f.AckSession, f.Ack = l.heardSession, l.heard
	switch {
	case f.Parting == frame.Ends:
	case l.leaves:
		f.Parting = frame.Leaves
	case l.full:
		f.Parting = frame.Full
	default:
		f.Parting = frame.Stays
	}
}

// hello returns a frame that only says who is there, what was taken, and in which
// session the next frame will be: if one was given up, and nothing is to be said
// since, the peer would wait for ever for what was in it.
func (l *link) hello(now clock.Time) *frame.Frame {
	f := &frame.Frame{Session: l.session, Formats: l.formats}
	l.seal(f)
	l.helloAt = now.Add(linkHello)
	if l.ready() {
		l.helloAt = now.Add(linkHelloQuiet)
	}
	return f
}

// heardFrame says what became of a frame that came.
type heardFrame struct {
	// lost: what was said before, in either direction, may not have arrived, and
	// will not.
	lost bool
	// taken: the frame's contents count.
	taken bool
	// ended: the peer took nothing that it did not acknowledge, and is gone.
	ended bool
}

// step takes the head of a frame.
func (l *link) step(f *frame.Frame, now clock.Time) (h heardFrame) {
	if f.FromStart < l.peerStart || (f.ToStart != 0 && f.ToStart != l.selfStart) {
		return h // of a life that is over
	}
	if f.FromStart > l.peerStart {
		h.lost = l.peerStart != 0
		l.peerStart = f.FromStart
		l.hear(0)
		l.peerEnded, l.peerFormats, l.down = false, frame.Formats{}, false
		l.reset()
		l.helloAt = 0 // it is told at once
	}
	l.heardAt, l.silence = now, 0
	l.down = l.down && f.AckSession != l.session
	if f.Formats.Reads != 0 {
		l.peerFormats = f.Formats
	}
	l.peerLeaves, l.peerFull = f.Parting != frame.Stays, f.Parting == frame.Full
	if f.ToStart == 0 {
		return h
	}
	l.acked(f, now)
	if l.ends {
		return h
	}
	switch {
	case f.Session < l.heardSession:
		return h
	case f.Session > l.heardSession:
		h.lost = h.lost || f.Session > 1
		l.hear(f.Session)
		l.ackDue = true // until it knows that it was heard it may say nothing
	}
	if f.Number == 0 {
		return h
	}
	l.ackDue = true
	switch {
	case f.Number == l.heard+1:
		h.taken = true
		h.ended = l.took(f)
	case f.Number > l.heard+1 && f.Number <= l.heard+linkFramesMax:
		if l.early == nil {
			l.early = make(map[uint64]*frame.Frame)
		}
		l.early[f.Number] = f
	}
	return h
}

// hear begins to take what the peer says in a session.
func (l *link) hear(session uint64) { l.heardSession, l.heard, l.early = session, 0, nil }

// took notes that the next frame is taken, and reports whether it was the peer's last.
func (l *link) took(f *frame.Frame) (ended bool) {
	l.heard++
	l.peerEnded = f.Parting == frame.Ends
	return l.peerEnded
}

// takeEarly takes the next frame if it came before its turn; else it returns nil.
func (l *link) takeEarly() (f *frame.Frame, ended bool) {
	if f = l.early[l.heard+1]; f == nil {
		return nil, false
	}
	delete(l.early, f.Number)
	return f, l.took(f)
}

// end says the last word. REQUIRES: nothing is taken afterwards.
func (l *link) end() {
	if l.ready() {
		l.next.Parting = frame.Ends
	}
	l.ends, l.early = true, nil
}

// over reports whether the peer knows all that was said to it, or is not there.
func (l *link) over() bool {
	return l.peerStart == 0 || l.down || l.peerEnded || len(l.unacked) == 0 && l.next.Empty()
}

// untaken returns the requests that the peer, now that it has ended, did not take
// for certain.
func (l *link) untaken() (ids []uint64) {
	for _, f := range append(l.unacked, &l.next) {
		for _, req := range f.Requests {
			ids = append(ids, req.ID)
		}
	}
	return ids
}

// acked forgets what the peer has taken.
func (l *link) acked(f *frame.Frame, now clock.Time) {
	if f.AckSession != l.session {
		return
	}
	n := 0
	for n < len(l.unacked) && l.unacked[n].Number <= f.Ack {
		n++
	}
	if n == 0 {
		return
	}
	clear(l.unacked[:n])
	l.unacked = l.unacked[n:]
	l.waited = 0
	l.resender.acked(f.Ack, now)
}

// reset begins a new session.
func (l *link) reset() {
	l.session++
	l.number = 0
	l.resender.reset()
	for _, req := range l.next.Requests {
		l.unsent = append(l.unsent, req.ID)
	}
	l.unacked, l.next = nil, frame.Frame{}
}

// tick tells the time. It returns what is to be sent again; gaveUp says that the
// session was given up.
func (l *link) tick(now clock.Time) (again []*frame.Frame, gaveUp bool) {
	passed := min(now.Sub(l.tickedAt), linkHello)
	l.silence, l.waited, l.tickedAt = l.silence+passed, l.waited+passed, now
	gaveUp = l.silence >= linkSilence && l.ready()
	if len(l.unacked) > 0 {
		gaveUp = gaveUp || min(l.waited, l.silence) >= linkTimeout ||
			l.waited >= linkDeaf && l.waited >= linkDeaf+restOf(l.unacked[0], linkBytesMin)
	}
	if !gaveUp {
		for _, f := range l.unacked[:l.resender.due(l.unacked, now)] {
			// Not the same frame: it may be under way still, and acknowledges less.
			f := *f
			l.date(&f)
			again = append(again, &f)
		}
	}
	if gaveUp {
		l.reset()
		l.down = true
	}
	if len(again) == 0 && (l.ackDue || !now.Before(l.helloAt)) {
		again = append(again, l.hello(now))
	}
	return again, gaveUp
}
