package node

import (
	"errors"
	"maps"
	"slices"

	"github.com/flotilladb/flotilla/internal/frame"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/peerpb"
	"github.com/flotilladb/flotilla/raftgroup"
	"github.com/flotilladb/flotilla/range"
)

// peers is what a core has to do with other stores.
type peers struct {
	links map[metapb.StoreID]*link
	order []metapb.StoreID // keys of links that were not forgotten, sorted
	// waits are the requests that were sent to each store and are not answered.
	waits map[metapb.StoreID]map[uint64]metapb.RangeID
	// leaders are who leads ranges, as errors said, or answers where no replica is here.
	leaders map[metapb.RangeID]leaderHint
	// served are requests of other stores that are under way here.
	served places[servedRequest]
	// out are frames to be sent that are complete: acknowledgements, and what is
	// sent again.
	out []*frame.Frame
}

// leaderHint says who leads a range, as far as somebody knew.
type leaderHint struct {
	store metapb.StoreID
	term  uint64
}

// servedRequest is whose request it is.
type servedRequest struct {
	store metapb.StoreID
	start uint64
	id    uint64
}

// Who asked the store for what its reply is to: the top bits of an ID. Without one
// of them it was the router.
const (
	servedBit  = 1 << 63
	closingBit = 1 << 62
)

func newPeers() peers {
	return peers{
		links:   make(map[metapb.StoreID]*link),
		waits:   make(map[metapb.StoreID]map[uint64]metapb.RangeID),
		leaders: make(map[metapb.RangeID]leaderHint),
	}
}

// meet makes the links to the stores of a range.
func (c *Core) meet(d *metapb.Descriptor) {
	for _, r := range d.Replicas {
		c.meetStore(metapb.StoreID(r.StoreId))
	}
}

// Step takes what another store says. An error means that the store cannot go on.
func (c *Core) Step(f *frame.Frame) error {
	if f.To != c.cfg.StoreID || !c.many {
		return nil
	}
	c.meetStore(f.From) // who comes in is of this cluster, and may be new
	l := c.links[f.From]
	if l == nil {
		return nil
	}
	switch f.Lane {
	case frame.Liveness:
		if f.Liveness != nil {
			c.store.StepLiveness(f.From, f.Liveness)
		}
		return nil
	case frame.Raft:
		return c.stepRaft(f)
	case frame.Snapshots:
		for _, ch := range f.Chunks {
			c.stepChunk(f.From, ch)
		}
		for i := range f.Taken {
			c.stepTaken(f.From, &f.Taken[i])
		}
		return nil
	}
	h := l.step(f, c.now)
	if h.lost {
		c.lostLink(f.From)
	}
	defer func() {
		if h.ended {
			c.linkEnded(l)
		}
	}()
	if !h.taken {
		return nil
	}
	c.stepRequests(l, f)
	for !h.ended {
		if f, h.ended = l.takeEarly(); f == nil {
			break
		}
		c.stepRequests(l, f)
	}
	return nil
}

// stepRequests takes what a frame of a link says.
func (c *Core) stepRequests(l *link, f *frame.Frame) {
	for _, req := range f.Requests {
		c.serve(l, req)
	}
	for i := range f.Replies {
		c.replied(f.From, f.Replies[i])
	}
	if len(f.Asks) > 0 {
		c.serveAsks(l, f)
	}
	if f.Refused != nil {
		c.asksRefused(f.From, f.Refused)
	}
	for i := range f.Answers {
		c.sawSequencer(f.From, &f.Answers[i])
		c.heardStraight(&f.Answers[i])
		c.granted(f.Answers[i])
	}
	for _, q := range f.Closings {
		c.serveClosing(l, q)
	}
	for i := range f.Closed {
		c.toldClosed(f.From, &f.Closed[i])
	}
	for _, a := range f.FeedAsks {
		c.takeAsk(f.From, a)
	}
	for _, n := range f.FeedNews {
		c.takeNews(f.From, n)
	}
}

func (c *Core) stepRaft(f *frame.Frame) error {
	if !c.store.Hear(f.From, f.FromStart) {
		return nil
	}
	for _, g := range f.Gone {
		c.store.Gone(ranges.Gone{Range: g.Range, Replica: g.Replica})
	}
	for _, g := range f.Present {
		c.store.Present(f.From, ranges.Gone{Range: g.Range, Replica: g.Replica})
	}
	for i := range f.Checks {
		c.stepCheck(f.From, &f.Checks[i])
	}
	for i := range f.Forwards {
		c.stepForward(f.From, &f.Forwards[i])
	}
	for _, m := range f.Raft {
		err := c.store.StepFrom(f.From, m.RangeID, m.Message)
		if err != nil && !errors.Is(err, peerpb.ErrRangeNotFound) && !errors.Is(err, raftgroup.ErrBadMessage) {
			return err
		}
	}
	return nil
}

// lostLink says that what was under way to and from a store may be lost. Whoever
// waits for its answer learns that the outcome is not known; what was not sent was not
// done, and what is still to be sent will be answered.
func (c *Core) lostLink(store metapb.StoreID) {
	l := c.links[store]
	c.notDone(store, l.unsent)
	l.unsent = nil
	lost := maps.Clone(c.waits[store])
	for _, req := range l.next.Requests {
		delete(lost, req.ID)
	}
	for _, id := range slices.Sorted(maps.Keys(lost)) {
		delete(c.waits[store], id)
		c.router.Reply(peerpb.Reply{ID: id, Err: peerpb.ErrUnknown}, c.now)
	}
	c.asksLost(store)
	c.closingsLost(store)
	c.feedsLost(store)
}

// linkEnded says that a store stopped in order. What it did not take was not done.
func (c *Core) linkEnded(l *link) {
	c.notDone(l.peer, l.untaken())
	l.reset()
	c.lostLink(l.peer)
}

// notDone says that a store did not take requests, for certain.
func (c *Core) notDone(store metapb.StoreID, ids []uint64) {
	for _, id := range ids {
		if rangeID, waits := c.waits[store][id]; waits {
			delete(c.waits[store], id)
			c.router.Reply(peerpb.Reply{ID: id, Err: &peerpb.NotLeaderError{Range: rangeID}}, c.now)
		}
	}
}

// leaderOf returns the store of a range's leader, as far as is known.
func (c *Core) leaderOf(id metapb.RangeID) (leaderHint, bool) {
	hint := c.leaderBy(id, c.store.Replica(id))
	return hint, hint.store != 0
}

// leaderBy is leaderOf with the replica here, nil if there is none.
func (c *Core) leaderBy(id metapb.RangeID, r *ranges.Replica) leaderHint {
	hint := c.leaders[id]
	if r != nil {
		term, leader := r.Term(), r.Leader()
		if term > hint.term || term == hint.term && (hint.store == 0 || leader != 0) {
			hint = leaderHint{leader, term}
		}
	} else if hint.store == c.cfg.StoreID {
		hint.store = 0 // it led here, and has gone
	}
	return hint
}

// heardLeader notes who leads a range, as an error says.
func (c *Core) heardLeader(err error) {
	var not *peerpb.NotLeaderError
	if !errors.As(err, &not) {
		return
	}
	if hint := c.leaders[not.Range]; not.Term > hint.term || not.Term == hint.term && hint.store == 0 {
		c.leaders[not.Range] = leaderHint{not.Leader, not.Term}
	}
}

// leaderRefuses reports whether a range's leader alone refuses a change like that.
func leaderRefuses(err error) bool {
	return errors.Is(err, peerpb.ErrBadChange) || errors.Is(err, peerpb.ErrNotCaughtUp) || errors.Is(err, peerpb.ErrLeaderLeaves)
}

// ledBy notes who did what only a range's leader does, where no replica here can tell. Its term
// is not known: the first in which there may be a leader is not above it. So a replica that a
// split makes here, before it has heard of a leader, does not have that one forgotten.
func (c *Core) ledBy(id metapb.RangeID, store metapb.StoreID) {
	if c.leaders[id].store != store && c.store.Replica(id) == nil {
		c.leaders[id] = leaderHint{store, raftgroup.InitialTerm + 1}
	}
}

// keepLeader has a replica that has come by a snapshot not make this node forget who was asked
// until then: it knows of no leader before it hears of one, which of a range where nothing
// happens may take a while. The term may be another one; then whoever is asked says so.
func (c *Core) keepLeader(id metapb.RangeID) {
	hint, r := c.leaders[id], c.store.Replica(id)
	if hint.store != 0 && hint.store != c.cfg.StoreID && hint.term < r.Term() && r.Leader() == 0 {
		c.leaders[id] = leaderHint{hint.store, r.Term()}
	}
}

// send takes a request of the router to the store of its range's leader.
func (c *Core) send(req *peerpb.Request) {
	if !c.many {
		c.store.Request(req)
		return
	}
	c.stamp(req.Body)
	to, ok := c.askable(req.Range)
	if r := c.store.Replica(req.Range); !ok && r != nil && r.Condemned() && r.Undecided() {
		to, ok = c.cfg.StoreID, true // nobody will lead it, and this one can say why
	}
	switch {
	case !ok:
		// Not sent: it may be tried again.
		c.router.Reply(peerpb.Reply{ID: req.ID, Err: &peerpb.NotLeaderError{Range: req.Range}}, c.now)
	case to == c.cfg.StoreID:
		c.store.Request(req)
	default:
		l := c.links[to]
		l.next.Requests = append(l.next.Requests, req)
		c.waits[to][req.ID] = req.Range
	}
}

// replied takes a store's reply.
func (c *Core) replied(from metapb.StoreID, rep peerpb.Reply) {
	id, ok := c.waits[from][rep.ID]
	if !ok {
		return
	}
	delete(c.waits[from], rep.ID)
	switch {
	case rep.Err == nil || leaderRefuses(rep.Err):
		c.ledBy(id, from)
	default:
		c.misled(from, id, rep.Err)
		c.heardLeader(rep.Err)
	}
	c.router.Reply(rep, c.now)
}

// serve takes a request of another store.
func (c *Core) serve(l *link, req *peerpb.Request) {
	i := c.served.put(servedRequest{l.peer, l.peerStart, req.ID})
	own := *req // the sender's is not ours to change
	own.ID = servedBit | uint64(i)
	c.store.Request(&own)
}

// reply takes a reply of the store to whoever asked.
func (c *Core) reply(rep peerpb.Reply) {
	switch {
	case rep.ID&servedBit != 0:
		s := c.served.take(uint32(rep.ID))
		if l := c.links[s.store]; l != nil && l.peerStart == s.start {
			rep.ID = s.id
			l.next.Replies = append(l.next.Replies, rep)
		}
	case rep.ID&closingBit != 0:
		c.closingReplied(rep)
	default:
		c.heardLeader(rep.Err)
		c.router.Reply(rep, c.now)
	}
}

// tickLinks has what is not acknowledged sent again.
func (c *Core) tickLinks() {
	for _, to := range c.order {
		again, gaveUp := c.links[to].tick(c.now)
		c.out = append(c.out, again...)
		if gaveUp {
			c.store.Unreachable(to)
			c.lostLink(to)
		}
	}
	c.tickLeft()
}

// hasFrames reports whether there is something to send.
func (c *Core) hasFrames() bool {
	if len(c.out) > 0 {
		return true
	}
	for _, to := range c.order {
		if c.links[to].hasNext() {
			return true
		}
	}
	return false
}

// outbox hands out the frames to be sent, with the messages of the store's
// replicas.
func (c *Core) outbox(rd *Ready) []*frame.Frame {
	out := c.out
	c.out = nil
	for _, to := range c.order {
		for l := c.links[to]; l.hasNext(); {
			out = append(out, l.take(c.now))
		}
	}
	return append(out, c.raftFrames(rd)...)
}

// frameTo begins a frame of a lane that is not a session's.
func (c *Core) frameTo(to metapb.StoreID, lane frame.Lane) *frame.Frame {
	return &frame.Frame{Lane: lane, From: c.cfg.StoreID, To: to, FromStart: c.cfg.StoreStart}
}

// raftFrames groups what the store's replicas say by store.
func (c *Core) raftFrames(rd *Ready) []*frame.Frame {
	var out []*frame.Frame
	for _, m := range rd.Liveness {
		f := c.frameTo(m.To, frame.Liveness)
		f.Liveness = m.Message
		out = append(out, f)
	}
	if len(rd.Messages) == 0 {
		return out
	}
	byStore := make(map[metapb.StoreID]*storeFrames)
	for i := range rd.Messages {
		m := &rd.Messages[i]
		to := byStore[m.To]
		if to == nil {
			to = &storeFrames{}
			byStore[m.To] = to
		}
		c.addRaft(to, m)
	}
	for _, to := range c.order {
		if s := byStore[to]; s != nil {
			out = append(out, s.frames...)
		}
	}
	return out
}
