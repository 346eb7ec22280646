package rpc

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/flotilladb/flotilla/internal/invariant"
	"github.com/flotilladb/flotilla/proto/metapb"
)

// remotes knows which process stands behind each store id that sends to us, and
// its streams.
type remotes struct {
	lanes [laneCount]LaneConfig

	mu struct {
		sync.Mutex
		byStore  map[metapb.StoreID]*remote
		inbounds map[inboundKey]*inbound
	}
}

// remote is the process that was last let in for a store. It is remembered after
// its streams ended, so that an older one stays out.
type remote struct {
	start, instance uint64
	addr            string
	streams         map[Lane]*inStream
	changed         chan struct{} // closed, and replaced, when a stream leaves
}

// inStream is a stream from a store.
type inStream struct {
	store metapb.StoreID
	lane  Lane
	in    *inbound
	// heard counts messages, silent the pings in a row in whose time there was none.
	heard  atomic.Uint64
	silent atomic.Int32
	// wake has a value when there may be something to answer.
	wake    chan struct{}
	pinged  atomic.Bool
	evicted chan struct{} // closed by evict
	once    sync.Once
	reason  error         // why evicted; readable after evicted
	ended   chan struct{} // closed when the last frame was delivered
	err     error         // why; readable after ended
}

func newInStream(store metapb.StoreID, lane Lane) *inStream {
	return &inStream{
		store: store, lane: lane, wake: make(chan struct{}, 1),
		evicted: make(chan struct{}), ended: make(chan struct{}),
	}
}

// evict asks the stream to end, and returns at once.
func (s *inStream) evict(reason error) {
	s.once.Do(func() {
		s.reason = reason
		close(s.evicted)
	})
}

func (s *inStream) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// quietPings is after how many pings without a sign of life a process is taken
// for gone when another claims its store.
const quietPings = 2

// takeoverWait is how long that other waits for the streams of the first to end:
// after a quick restart they are about to.
const takeoverWait = 500 * time.Millisecond

func newRemotes(lanes [laneCount]LaneConfig) *remotes {
	r := &remotes{lanes: lanes}
	r.mu.byStore = make(map[metapb.StoreID]*remote)
	r.mu.inbounds = make(map[inboundKey]*inbound)
	return r
}

// enter lets a stream in, after the one that it replaces has ended. At most one
// process has streams for a store.
func (r *remotes) enter(ctx context.Context, h *hello, addr string, s *inStream) error {
	timer := time.NewTimer(takeoverWait)
	defer timer.Stop()
	late := false
	for {
		changed, err := r.tryEnter(h, addr, s, late)
		if changed == nil {
			return err
		}
		select {
		case <-changed:
		case <-timer.C:
			late = true
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// tryEnter lets the stream in, or refuses it, or returns what to wait for. late
// says that it has waited long enough.
func (r *remotes) tryEnter(h *hello, addr string, s *inStream, late bool) (changed <-chan struct{}, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	rem := r.mu.byStore[h.Store]
	if rem == nil {
		rem = &remote{start: h.Start, instance: h.Instance, addr: addr,
			streams: make(map[Lane]*inStream), changed: make(chan struct{})}
		r.mu.byStore[h.Store] = rem
	}
	switch same := h.Start == rem.start && h.Instance == rem.instance; {
	case h.Start < rem.start:
		return nil, refuse(refusedTaken, "store %d was started later by another process (start %d, this one is %d): two data folders have one store id, or an old one was put back; stop this node and start it with an empty data folder",
			h.Store, rem.start, h.Start)
	case !same && len(rem.streams) > 0:
		if late && rem.alive() {
			return nil, refuse(refusedTaken, "store %d is connected from %s (start %d), so the process at %s (start %d) is not let in: if its data folder is a copy, stop it and start it with an empty one",
				h.Store, rem.addr, rem.start, addr, h.Start)
		}
		if late {
			rem.evictAll()
		}
		return rem.changed, nil
	case !same:
		rem.start, rem.instance = h.Start, h.Instance
	}
	rem.addr = addr
	if old := rem.streams[s.lane]; old != nil {
		old.evict(ErrReplaced)
		if late {
			return nil, refuse(refusedOther, "the stream before this one has not ended yet: it is tried again")
		}
		return rem.changed, nil
	}
	rem.streams[s.lane] = s
	s.in = r.inboundLocked(h.Store, s.lane)
	return nil, nil
}

func (rem *remote) alive() bool {
	for _, s := range rem.streams {
		if s.silent.Load() < quietPings {
			return true
		}
	}
	return false
}

func (rem *remote) evictAll() {
	for _, s := range rem.streams {
		s.evict(ErrSilent)
	}
}

// leave is called when a stream that entered has delivered its last frame.
func (r *remotes) leave(s *inStream) {
	r.mu.Lock()
	defer r.mu.Unlock()
	rem := r.mu.byStore[s.store]
	invariant.Check(rem.streams[s.lane] == s, "store %d: another stream of lane %s left", s.store, s.lane)
	delete(rem.streams, s.lane)
	close(rem.changed)
	rem.changed = make(chan struct{})
}

// forget ends the streams of a store that is no longer of the cluster, and what is
// known of it.
func (r *remotes) forget(store metapb.StoreID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if rem := r.mu.byStore[store]; rem != nil {
		rem.evictAll()
	}
}

type inboundKey struct {
	store metapb.StoreID
	lane  Lane
}

// inbound counts what this process holds of a store's lane, over all its streams.
type inbound struct {
	max int64 // CreditBytesMax

	mu struct {
		sync.Mutex
		held   int64     // delivered or being put together, and not credited
		owed   int64     // credited, and the stream was not told yet
		stream *inStream // that it is owed to; nil if none
	}
}

func (r *remotes) inboundLocked(store metapb.StoreID, lane Lane) *inbound {
	k := inboundKey{store, lane}
	in := r.mu.inbounds[k]
	if in == nil {
		in = &inbound{max: r.lanes[lane].CreditBytesMax}
		r.mu.inbounds[k] = in
	}
	return in
}

// inbound returns the counts of a lane, or nil if it never had a stream.
func (r *remotes) inbound(store metapb.StoreID, lane Lane) *inbound {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.mu.inbounds[inboundKey{store, lane}]
}

// begin makes s the stream that is told of credit, and returns what it begins with.
// It is below zero by less than what earlier streams left over the maximum.
func (in *inbound) begin(s *inStream) (credit int64) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.mu.stream, in.mu.owed = s, 0
	return in.max - in.mu.held
}

// end takes back what s had not put together.
func (in *inbound) end(s *inStream, partial int64) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.mu.held -= partial
	if in.mu.stream == s {
		in.mu.stream = nil
	}
}

// charge counts bytes that are about to be delivered, or says that the sender had
// no credit to begin them.
func (in *inbound) charge(n int64) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.mu.held+in.mu.owed >= in.max {
		return false
	}
	in.mu.held += n
	return true
}

// uncharge takes back what was charged and is no part of a frame.
func (in *inbound) uncharge(n int64) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.mu.held -= n
}

// credit counts bytes as done with. It returns the stream to wake if the sender
// should hear of it now: when it may have come to wait for it.
func (in *inbound) credit(n int64) *inStream {
	in.mu.Lock()
	defer in.mu.Unlock()
	invariant.Check(n <= in.mu.held, "credit for %d bytes, %d are held", n, in.mu.held)
	n = min(n, in.mu.held)
	in.mu.held -= n
	if in.mu.stream == nil {
		return nil
	}
	in.mu.owed += n
	if in.mu.owed >= in.max/4 {
		return in.mu.stream
	}
	return nil
}

// takeOwed returns what s is owed; it is told then.
func (in *inbound) takeOwed(s *inStream) (n int64) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.mu.stream != s {
		return 0
	}
	n, in.mu.owed = in.mu.owed, 0
	return n
}
