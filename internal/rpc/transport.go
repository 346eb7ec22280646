package rpc

import (
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/flotilladb/flotilla/proto/metapb"
)

// Transport sends and receives frames. It is safe for concurrent use.
type Transport struct {
	cfg     Config
	tls     *tls.Config // nil: plain text
	dialer  *dialer
	remotes *remotes
	limiter *limiter
	counts  counts
	// refusals keeps a peer that tries for ever from filling the log.
	refusals repeats
	// strangers has a value for each connection of whom nothing is known yet.
	strangers chan struct{}

	self  atomic.Pointer[self]
	peers atomic.Pointer[map[metapb.StoreID]*sendPeer] // never changed in place

	mu sync.Mutex // guards replacing self and peers
}

// New returns a transport, and serves Listen if it is set.
func New(cfg Config) (*Transport, error) {
	cfg.setDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	t := &Transport{cfg: cfg, remotes: newRemotes(cfg.Lanes), limiter: newLimiter(cfg.SnapshotsPerSecondBytesMax)}
	t.tls = ours(cfg.TLS)
	t.dialer = &dialer{tls: t.tls, timeout: cfg.DialTimeout}
	t.strangers = make(chan struct{}, strangersMax)
	var b [8]byte
	if _, err := rand.Read(b[:]); err != nil {
		return nil, fmt.Errorf("draw an instance id: %w", err)
	}
	t.self.Store(&self{Identity: cfg.Self, instance: binary.LittleEndian.Uint64(b[:])})
	t.peers.Store(&map[metapb.StoreID]*sendPeer{})
	if err := t.register(); err != nil {
		return nil, err
	}
	if cfg.Listen == nil {
		return t, nil
	}
	return t, t.serve()
}

func (t *Transport) who() self { return *t.self.Load() }

// Identify says who this process is, once it knows. Until then it has no lanes.
func (t *Transport) Identify(id Identity) error {
	if !id.known() {
		return fmt.Errorf("rpc: identity without cluster or store id: %+v", id)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.who()
	if s.known() && s.Identity != id {
		return fmt.Errorf("rpc: this process is store %d already, it cannot become store %d", s.Store, id.Store)
	}
	s.Identity = id
	t.self.Store(&s)
	return nil
}

// Send puts a frame into the queue of a lane to a store. It never blocks. It
// returns false if the frame is lost: there is no room, no connection, or no
// identity yet. If it returns true, the frame is the transport's, and may still be
// lost: Unreachable tells.
func (t *Transport) Send(to metapb.StoreID, lane Lane, frame []byte) bool {
	p := (*t.peers.Load())[to]
	if p == nil {
		if p = t.addPeer(to); p == nil {
			return false
		}
	}
	if len(frame) > t.cfg.FrameBytesMax || !p.lanes[lane].push(frame) {
		t.counts.dropped[lane].Add(1)
		return false
	}
	return true
}

// Room returns how many bytes a frame for Send may have now.
func (t *Transport) Room(to metapb.StoreID, lane Lane) int64 {
	p := (*t.peers.Load())[to]
	if p == nil {
		if p = t.addPeer(to); p == nil {
			return 0
		}
	}
	return min(p.lanes[lane].room(), int64(t.cfg.FrameBytesMax))
}

func (t *Transport) addPeer(to metapb.StoreID) *sendPeer {
	t.mu.Lock()
	defer t.mu.Unlock()
	old := *t.peers.Load()
	if p := old[to]; p != nil {
		return p
	}
	if me := t.who(); !me.known() || to == 0 || to == me.Store {
		return nil
	}
	p := t.newPeer(to)
	peers := maps.Clone(old)
	peers[to] = p
	t.peers.Store(&peers)
	return p
}

// Forget ends the connections with a store that has left the cluster. A later Send
// to it makes new ones.
func (t *Transport) Forget(store metapb.StoreID) {
	t.mu.Lock()
	p := (*t.peers.Load())[store]
	peers := maps.Clone(*t.peers.Load())
	delete(peers, store)
	t.peers.Store(&peers)
	t.mu.Unlock()
	if p != nil {
		p.cancel()
	}
	t.remotes.forget(store)
}

// Stores returns how many stores frames were sent to that are not forgotten.
func (t *Transport) Stores() int { return len(*t.peers.Load()) }

// kick makes waiting connections to a store try again: it was just heard of.
func (t *Transport) kick(store metapb.StoreID) {
	if p := (*t.peers.Load())[store]; p != nil {
		for _, l := range p.links {
			l.wakeUp()
		}
	}
}

// repeats lets a line into the log if it says something new, or every so often; and no
// more than repeatsMax in that time, whatever they say.
type repeats struct {
	mu   sync.Mutex
	told map[string]time.Time // lines, and when they were let in
}

const (
	repeatInterval = 10 * time.Second
	repeatsMax     = 64
)

// news reports whether a line is to be let in.
func (r *repeats) news(text string, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if at, ok := r.told[text]; ok && now.Sub(at) < repeatInterval {
		return false
	}
	maps.DeleteFunc(r.told, func(_ string, at time.Time) bool { return now.Sub(at) >= repeatInterval })
	if len(r.told) >= repeatsMax {
		return false
	}
	if r.told == nil {
		r.told = make(map[string]time.Time)
	}
	r.told[text] = now
	return true
}

func (r *repeats) log(logger *slog.Logger, args ...any) {
	if r.news(fmt.Sprint(args...), time.Now()) {
		logger.Warn("peer refused", args...)
	}
}
