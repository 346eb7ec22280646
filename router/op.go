package router

import (
	"slices"

	"github.com/flotilladb/flotilla/internal/clock"
	"github.com/flotilladb/flotilla/internal/invariant"
	"github.com/flotilladb/flotilla/placement"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/peerpb"
)

// op is one client's request as a state machine. It is stepped by the Router
// and acts through it: send, ask, wakeAt, answer, end.
type op interface {
	base() *opBase
	// start is called once, first.
	start(r *Router)
	// reply brings the answer to the request that was sent with tag; exactly one
	// of body and err is set.
	reply(r *Router, tag int, body any, err error)
	// granted brings the answer to an ask.
	granted(r *Router, a placement.Answer)
	// tick is called when the time set by wakeAt has come, when the cache was
	// mended after an error (see retry), and once when the deadline passed and the
	// client was answered with ErrTimeout.
	tick(r *Router)
}

// opBase is what the Router keeps of each op; ops embed it.
type opBase struct {
	id       uint64         // the client's name for the request
	index    int            // in Router.live
	deadline clock.Time     // the client is answered with ErrTimeout then
	wake     clock.Time     // tick is due; zero: never
	slots    int            // requests and asks under way
	slot     uint32         // of the last of them, counted from 1; 0: none
	answered bool           // the client has its result
	tries    int            // how often was it sent again
	awaits   metapb.RangeID // which had no leader: when it has one, wake is now; 0: none
}

func (b *opBase) base() *opBase { return b }

// Result answers a client's request. Exactly one of Resp and Err is set, but
// for requests whose response is nil.
type Result struct {
	ID   uint64
	Resp any
	Err  error
}

// Ready is what the Router wants done. Its slices are valid until the Ready
// after the next.
type Ready struct {
	// Sends go to the leaders of their ranges.
	Sends []*peerpb.Request
	// Asks go to the sequencer; each is answered through Granted.
	Asks []placement.Ask
	// Results go to the clients.
	Results []Result
}

// Empty reports whether there is nothing to do.
func (rd *Ready) Empty() bool {
	return len(rd.Sends) == 0 && len(rd.Asks) == 0 && len(rd.Results) == 0
}

// slot is a request or an ask under way. Its place and use make its number, so
// that a reply is matched without a map and a late one matches nothing.
type slot struct {
	op  op // nil: free
	tag int
	use uint32 // grows each time that the slot is freed
	// next and prev are the op's others, counted from 1; 0: there is none.
	next, prev uint32
}

const slotBits = 32

// Router hosts all operations of a node: it turns clients' requests into
// requests to ranges, and replies into results. It is a core: not safe for
// concurrent use, and it knows the time only from its arguments.
type Router struct {
	cfg   Config
	cache *Cache
	now   clock.Time // the last that it was told. Invariant: never decreases.
	// system is the system range, which is known by its id; nil: not yet known.
	system *metapb.Descriptor

	live  []op   // every op that has not ended; op.base().index is its place
	slots []slot // under way
	free  []uint32
	// nextWake is not later than any live op's wake or open deadline; zero: none.
	nextWake clock.Time

	ready    Ready
	spare    Ready // the slices of the Ready before, to be used again
	nextTxn  uint64
	addr     []byte // scratch for an address
	single   single // scratch for oneRange
	writes   []*writeOp
	renewals []renewal // not sent yet
	stopping bool
}

// New returns a router that knows no range.
func New(cfg Config) (*Router, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return &Router{cfg: cfg, cache: newCache()}, nil
}

// Request begins a client's request, named id by the caller; its result comes
// with a later Ready. The request belongs to the router and must not change.
func (r *Router) Request(id uint64, req any, now clock.Time) {
	var err error
	switch {
	case r.stopping:
		err = ErrStopping
	case len(r.live) >= r.cfg.OpsMax && !bounded(req):
		err = ErrTooManyRequests
	}
	r.request(id, req, err, now)
}

// RequestOwn is Request of the node itself, for what requests under way wait for:
// it is refused neither while the node stops nor for want of room.
func (r *Router) RequestOwn(id uint64, req any, now clock.Time) { r.request(id, req, nil, now) }

func (r *Router) request(id uint64, req any, err error, now clock.Time) {
	r.setNow(now)
	if q, ok := req.(*RenewRequest); ok && err == nil {
		r.renew(id, q.ID)
		return
	}
	var o op
	if err == nil {
		o, err = r.newOp(req)
	}
	if err != nil {
		r.ready.Results = append(r.ready.Results, Result{ID: id, Err: err})
		return
	}
	b := o.base()
	b.id = id
	b.deadline = r.now.Add(r.cfg.RequestTimeout)
	r.begin(o)
}

// Reply brings a range's answer.
func (r *Router) Reply(rep peerpb.Reply, now clock.Time) {
	r.setNow(now)
	if o, tag, ok := r.take(rep.ID); ok {
		o.reply(r, tag, rep.Body, rep.Err)
	}
}

// Granted brings the sequencer's answer to an ask.
func (r *Router) Granted(a placement.Answer, now clock.Time) {
	r.setNow(now)
	if o, _, ok := r.take(a.Name.Number); ok {
		o.granted(r, a)
	}
}

// Tick tells the time: what waited to be sent again is sent, and who waited too
// long is answered.
func (r *Router) Tick(now clock.Time) {
	r.setNow(now)
	if r.nextWake == 0 || r.now.Before(r.nextWake) {
		return
	}
	r.nextWake = 0
	// An op that ends puts the last of live in its place, so this walks down.
	for i := len(r.live) - 1; i >= 0; i-- {
		if i >= len(r.live) {
			continue
		}
		r.tickOp(r.live[i])
	}
}

func (r *Router) tickOp(o op) {
	b := o.base()
	expired := !b.answered && !r.now.Before(b.deadline)
	if expired {
		r.answer(o, nil, ErrTimeout)
	}
	if expired || (b.wake != 0 && !r.now.Before(b.wake)) {
		b.wake, b.awaits = 0, 0
		o.tick(r)
	}
	if b.index >= 0 { // it lives on
		r.noteTimes(b)
	}
}

// Led says that ranges have leaders: who waits for one of them goes on at once. Thousands of
// ranges may get theirs in the same moment, and who had to wait for a time would go on last.
func (r *Router) Led(ids []metapb.RangeID, now clock.Time) {
	r.setNow(now)
	slices.Sort(ids)
	for _, o := range r.live {
		if b := o.base(); b.awaits != 0 && b.wake != 0 {
			if _, ok := slices.BinarySearch(ids, b.awaits); ok {
				r.wakeAt(o, now)
			}
		}
	}
	r.Tick(now)
}

// Descriptors tells the router of ranges. Older generations than it knows are
// ignored.
func (r *Router) Descriptors(newer []*metapb.Descriptor) {
	for _, d := range newer {
		if r.cache.Insert(d) && d.ID() == metapb.SystemRange {
			r.system = d
		}
	}
}

// Misses counts how often no range was known for an address.
func (r *Router) Misses() uint64 { return r.cache.misses }

// Lookup returns the descriptor of the range that holds an address, as far as the router
// knows it, or nil.
func (r *Router) Lookup(addr []byte) *metapb.Descriptor { return r.cache.Lookup(addr) }

// Find returns the descriptor of a range, as far as the router knows it, or nil. It
// looks at all ranges.
func (r *Router) Find(id metapb.RangeID) *metapb.Descriptor {
	if id == metapb.SystemRange {
		return r.system
	}
	return r.cache.find(id)
}

// Learned counts what the router learned of ranges, and forgot: while it is the same, Newer
// says the same.
func (r *Router) Learned() uint64 { return r.cache.changes }

// Newer returns what the router knows of a descriptor's range, if that is newer and begins
// where the descriptor does; else the descriptor.
func (r *Router) Newer(d *metapb.Descriptor) *metapb.Descriptor {
	if known := r.cache.floor(d.Start); known != nil && known.ID() == d.ID() && known.Generation > d.Generation {
		return known
	}
	return d
}

// Ready hands out the work. The slices are valid until the call after the next.
func (r *Router) Ready() Ready {
	r.sendRenewals()
	rd := r.ready
	r.ready = Ready{
		Sends:   r.spare.Sends[:0],
		Asks:    r.spare.Asks[:0],
		Results: r.spare.Results[:0],
	}
	r.spare = rd
	return rd
}

// HasReady reports whether Ready has something to do.
func (r *Router) HasReady() bool { return !r.ready.Empty() || len(r.renewals) > 0 }

// Stop refuses new requests; those under way go on.
func (r *Router) Stop() { r.stopping = true }

// NextTick is when Tick has something to do, at the earliest; zero: never.
func (r *Router) NextTick() clock.Time { return r.nextWake }

// Len is the number of operations that have not ended.
func (r *Router) Len() int { return len(r.live) }

func (r *Router) setNow(now clock.Time) {
	if now.After(r.now) {
		r.now = now
	}
}

// begin makes an op live and starts it.
func (r *Router) begin(o op) {
	b := o.base()
	b.index = len(r.live)
	r.live = append(r.live, o)
	r.noteTimes(b)
	o.start(r)
}

// become replaces a live op, which has nothing under way, by another that goes
// on for the same client.
func (r *Router) become(old, o op) {
	from, to := old.base(), o.base()
	invariant.Check(from.slots == 0, "an op is replaced with %d requests under way", from.slots)
	*to = *from
	to.wake = 0
	r.live[to.index] = o
	from.index = -1
	r.noteTimes(to)
	o.start(r)
}

// send asks a range for something; the reply comes with tag.
func (r *Router) send(o op, tag int, rangeID metapb.RangeID, generation uint64, body peerpb.Body) {
	r.sendRequest(o, tag, &peerpb.Request{Range: rangeID, Generation: generation, Body: body})
}

// sendRequest is send for who has the Request already; it fills in the ID.
func (r *Router) sendRequest(o op, tag int, req *peerpb.Request) {
	req.ID = r.put(o, tag)
	r.ready.Sends = append(r.ready.Sends, req)
}

// ask asks the sequencer for n revisions, or with n = 0 for the current one.
func (r *Router) ask(o op, n int64) {
	r.ready.Asks = append(r.ready.Asks, placement.Ask{
		Name: placement.AskName{
			Store:      r.cfg.Store,
			StoreStart: r.cfg.StoreStart,
			Number:     r.put(o, 0),
		},
		N: n,
	})
}

// extend gives an op that has got on its whole time anew.
func (r *Router) extend(o op) {
	o.base().deadline = r.now.Add(r.cfg.RequestTimeout)
	r.noteTimes(o.base())
}

// answer gives the client its result. The op goes on: it may have work left.
// Only the first answer counts.
func (r *Router) answer(o op, resp any, err error) {
	b := o.base()
	if b.answered {
		return
	}
	b.answered = true
	if err != nil {
		resp = nil
	}
	r.ready.Results = append(r.ready.Results, Result{ID: b.id, Resp: resp, Err: err})
}

// end forgets an op. Replies that it did not wait for are dropped.
func (r *Router) end(o op) {
	b := o.base()
	if b.slots > 0 {
		r.abandon(o)
	}
	last := len(r.live) - 1
	moved := r.live[last]
	r.live[b.index] = moved
	moved.base().index = b.index
	r.live[last] = nil
	r.live = r.live[:last]
	b.index = -1
}

// finish answers the client and ends the op.
func (r *Router) finish(o op, resp any, err error) {
	r.answer(o, resp, err)
	r.end(o)
}

// wakeAt has o.tick called at a time; zero: not at all.
func (r *Router) wakeAt(o op, at clock.Time) {
	b := o.base()
	b.wake = at
	r.noteTimes(b)
}

// noteTimes keeps nextWake at or below the op's times.
func (r *Router) noteTimes(b *opBase) {
	if b.wake != 0 {
		r.noteTime(b.wake)
	}
	if !b.answered {
		r.noteTime(b.deadline)
	}
}

func (r *Router) noteTime(at clock.Time) {
	if r.nextWake == 0 || at.Before(r.nextWake) {
		r.nextWake = at
	}
}

// put takes a slot for what an op has under way and returns its number.
func (r *Router) put(o op, tag int) uint64 {
	var i uint32
	if n := len(r.free); n > 0 {
		i = r.free[n-1]
		r.free = r.free[:n-1]
	} else {
		i = uint32(len(r.slots))
		r.slots = append(r.slots, slot{use: 1})
	}
	s, b := &r.slots[i], o.base()
	s.op, s.tag, s.next, s.prev = o, tag, b.slot, 0
	if b.slot != 0 {
		r.slots[b.slot-1].prev = i + 1
	}
	b.slot = i + 1
	b.slots++
	return uint64(s.use)<<slotBits | uint64(i)
}

// take frees the slot of a number and says whose it was; ok is false if the
// number is of no slot in use.
func (r *Router) take(id uint64) (o op, tag int, ok bool) {
	i := id & (1<<slotBits - 1)
	if i >= uint64(len(r.slots)) {
		return nil, 0, false
	}
	s := &r.slots[i]
	if s.op == nil || uint64(s.use) != id>>slotBits {
		return nil, 0, false
	}
	o, tag = s.op, s.tag
	r.release(uint32(i))
	return o, tag, true
}

func (r *Router) release(i uint32) {
	s := &r.slots[i]
	b := s.op.base()
	b.slots--
	if s.prev != 0 {
		r.slots[s.prev-1].next = s.next
	} else {
		b.slot = s.next
	}
	if s.next != 0 {
		r.slots[s.next-1].prev = s.prev
	}
	s.op = nil
	s.use++
	r.free = append(r.free, i)
}

// abandon frees all slots of an op.
func (r *Router) abandon(o op) {
	for b := o.base(); b.slot != 0; {
		r.release(b.slot - 1)
	}
}

// nextTxnNumber numbers the transactions that this router coordinates.
func (r *Router) nextTxnNumber() uint64 {
	r.nextTxn++
	return r.nextTxn
}
