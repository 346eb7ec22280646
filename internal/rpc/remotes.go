package rpc

import (
	"context"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/flotilladb/flotilla/internal/invariant"
	"github.com/flotilladb/flotilla/proto/metapb"
)

// remotes knows which process stands behind each store id that sends to us, and
// its connections.
type remotes struct {
	lanes [laneCount]LaneConfig

	mu struct {
		sync.Mutex
		byStore  map[metapb.StoreID]*remote
		inbounds map[inboundKey]*inbound
	}
}

// remote is the process that was last let in for a store. It is remembered after
// its connections ended, so that an older one stays out.
type remote struct {
	start, instance uint64
	addr            string
	conns           map[Lane]*inConn
	changed         chan struct{} // closed, and replaced, when a connection leaves
}

// inConn is a connection from a store.
type inConn struct {
	store metapb.StoreID
	set   laneSet
	lanes laneCounts // set when it has entered
	conn  net.Conn
	raw   net.Conn // under TLS, if there is any: closing it does not wait
	// heard counts what was read, silent the pings in a row in whose time there was
	// nothing.
	heard  atomic.Uint64
	silent atomic.Int32
	// wake has a value when there may be something to answer.
	wake   chan struct{}
	pinged atomic.Bool
	ended  chan struct{} // closed when the last frame was delivered
}

// laneCounts are the lanes of a connection.
type laneCounts []*inbound

func (c laneCounts) String() string {
	var names []string
	for _, in := range c {
		names = append(names, in.lane.String())
	}
	return strings.Join(names, " and ")
}

func newInConn(h *hello, conn, raw net.Conn) *inConn {
	return &inConn{
		store: h.Store, set: h.Lanes, conn: conn, raw: raw,
		wake: make(chan struct{}, 1), ended: make(chan struct{}),
	}
}

// find returns the index of a lane, or -1.
func (s *inConn) find(lane Lane) int {
	return slices.IndexFunc(s.lanes, func(in *inbound) bool { return in.lane == lane })
}

// evict makes the connection end, and returns at once. Who reads from it sees to
// the rest.
func (s *inConn) evict() { s.raw.Close() }

func (s *inConn) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// quietPings is after how many pings without a sign of life a process is taken
// for gone when another claims its store.
const quietPings = 2

// takeoverWait is how long that other waits for the connections of the first to end:
// after a quick restart they are about to.
const takeoverWait = 500 * time.Millisecond

func newRemotes(lanes [laneCount]LaneConfig) *remotes {
	r := &remotes{lanes: lanes}
	r.mu.byStore = make(map[metapb.StoreID]*remote)
	r.mu.inbounds = make(map[inboundKey]*inbound)
	return r
}

// enter lets a connection in, after the one that it replaces has ended. At most one
// process has connections for a store.
func (r *remotes) enter(ctx context.Context, h *hello, addr string, s *inConn) error {
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

// tryEnter lets the connection in, or refuses it, or returns what to wait for. late
// says that it has waited long enough.
func (r *remotes) tryEnter(h *hello, addr string, s *inConn, late bool) (changed <-chan struct{}, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	rem := r.mu.byStore[h.Store]
	if rem == nil {
		rem = &remote{start: h.Start, instance: h.Instance, addr: addr,
			conns: make(map[Lane]*inConn), changed: make(chan struct{})}
		r.mu.byStore[h.Store] = rem
	}
	switch same := h.Start == rem.start && h.Instance == rem.instance; {
	case h.Start < rem.start:
		return nil, refuse(refusedTaken, "store %d was started later by another process (start %d, this one is %d): two data folders have one store id, or an old one was put back; stop this node and start it with an empty data folder",
			h.Store, rem.start, h.Start)
	case !same && len(rem.conns) > 0:
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
	waits := false
	for _, lane := range s.set.list() {
		if old := rem.conns[lane]; old != nil {
			old.evict() // a newer one is here
			waits = true
		}
	}
	switch {
	case waits && late:
		return nil, refuse(refusedOther, "the connection before this one has not ended yet: it is tried again")
	case waits:
		return rem.changed, nil
	}
	for _, lane := range s.set.list() {
		rem.conns[lane] = s
		s.lanes = append(s.lanes, r.inboundLocked(h.Store, lane))
	}
	return nil, nil
}

func (rem *remote) alive() bool {
	for _, s := range rem.conns {
		if s.silent.Load() < quietPings {
			return true
		}
	}
	return false
}

func (rem *remote) evictAll() {
	for _, s := range rem.conns {
		s.evict()
	}
}

// leave is called when a connection that entered has delivered its last frame.
func (r *remotes) leave(s *inConn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	rem := r.mu.byStore[s.store]
	for _, in := range s.lanes {
		invariant.Check(rem.conns[in.lane] == s, "store %d: another connection of lane %s left", s.store, in.lane)
		delete(rem.conns, in.lane)
	}
	close(rem.changed)
	rem.changed = make(chan struct{})
}

// forget ends the connections of a store that is no longer of the cluster, and what is
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

// inbound counts what this process holds of a store's lane, over all connections.
type inbound struct {
	lane Lane
	max  int64 // CreditBytesMax

	mu struct {
		sync.Mutex
		held int64   // delivered or being put together, and not credited
		owed int64   // credited, and the sender was not told yet
		conn *inConn // that it is owed to; nil if none
	}
}

func (r *remotes) inboundLocked(store metapb.StoreID, lane Lane) *inbound {
	k := inboundKey{store, lane}
	in := r.mu.inbounds[k]
	if in == nil {
		in = &inbound{lane: lane, max: r.lanes[lane].CreditBytesMax}
		r.mu.inbounds[k] = in
	}
	return in
}

// inbound returns the counts of a lane, or nil if it never had a connection.
func (r *remotes) inbound(store metapb.StoreID, lane Lane) *inbound {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.mu.inbounds[inboundKey{store, lane}]
}

// begin makes s the connection whose sender is told of credit. It is owed all that
// there is; below zero by less than one frame, if earlier connections left as much
// over the maximum.
func (in *inbound) begin(s *inConn) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.mu.conn, in.mu.owed = s, in.max-in.mu.held
}

// end takes back what s had not put together.
func (in *inbound) end(s *inConn, partial int64) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.mu.held -= partial
	if in.mu.conn == s {
		in.mu.conn = nil
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

// credit counts bytes as done with. It returns the connection to wake if the sender
// should hear of it now: when it may have come to wait for it.
func (in *inbound) credit(n int64) *inConn {
	in.mu.Lock()
	defer in.mu.Unlock()
	invariant.Check(n <= in.mu.held, "credit for %d bytes, %d are held", n, in.mu.held)
	n = min(n, in.mu.held)
	in.mu.held -= n
	if in.mu.conn == nil {
		return nil
	}
	in.mu.owed += n
	if in.mu.owed >= in.max/4 {
		return in.mu.conn
	}
	return nil
}

// takeOwed appends what the sender is owed; it is told then.
func (s *inConn) takeOwed(credits []laneCredit) []laneCredit {
	for _, in := range s.lanes {
		if n := in.takeOwed(s); n > 0 {
			credits = append(credits, laneCredit{in.lane, uint64(n)})
		}
	}
	return credits
}

func (in *inbound) takeOwed(s *inConn) (n int64) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.mu.conn != s || in.mu.owed <= 0 {
		return 0
	}
	n, in.mu.owed = in.mu.owed, 0
	return n
}
