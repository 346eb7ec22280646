package rpc

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/flotilladb/flotilla/proto/metapb"
)

// Transport sends and receives frames. It is safe for concurrent use.
type Transport struct {
	cfg     Config
	creds   credentials.TransportCredentials
	dialer  *dialer
	remotes *remotes
	limiter *limiter
	counts  counts
	// refusals keeps a peer that tries for ever from filling the log.
	refusals repeats

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
	t.creds = insecure.NewCredentials()
	if cfg.TLS != nil {
		t.creds = credentials.NewTLS(cfg.TLS)
	}
	t.dialer = &dialer{creds: t.creds, timeout: cfg.DialTimeout}
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

// Settings of gRPC for a server for peers. The windows are fixed, because the
// estimate that gRPC makes otherwise costs a ping with every few messages; they
// hold several batches of each lane. The write buffer takes a whole batch, so that
// it leaves in one write.
const (
	streamWindowBytes = 1 << 20
	connWindowBytes   = 4 << 20
	writeBufferBytes  = 128 << 10
	readBufferBytes   = 64 << 10
)

// ServerOptions are what a server for peers should have if it is not the
// transport's own; credentials are up to its owner.
func ServerOptions() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.StaticStreamWindowSize(streamWindowBytes),
		grpc.StaticConnWindowSize(connWindowBytes),
		grpc.WriteBufferSize(writeBufferBytes),
		grpc.ReadBufferSize(readBufferBytes),
		grpc.SharedWriteBuffer(true),
	}
}

func (t *Transport) serve() error {
	s := grpc.NewServer(append(ServerOptions(), grpc.Creds(t.creds))...)
	t.Register(s)
	if t.cfg.Services != nil {
		t.cfg.Services(s)
	}
	l := t.cfg.Listen
	err := t.cfg.Stopper.Go("rpc serve", func(ctx context.Context) {
		defer context.AfterFunc(ctx, s.Stop)()
		if err := s.Serve(l); err != nil && ctx.Err() == nil {
			t.cfg.Logger.Error("serving peers ended", "address", l.Addr().String(), "error", err)
		}
	})
	if err != nil {
		return fmt.Errorf("serve peers at %s: %w", l.Addr(), err)
	}
	return nil
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

// kick makes waiting connections to a store try again: it was just heard of.
func (t *Transport) kick(store metapb.StoreID) {
	if p := (*t.peers.Load())[store]; p != nil {
		for _, l := range p.links {
			l.wakeUp()
		}
	}
}

// Call asks the process at an address one thing, for what comes before the lanes:
// a node that joins. It takes a connection of its own.
func (t *Transport) Call(ctx context.Context, addr string, request []byte) ([]byte, error) {
	conn, err := t.dialer.dial(addr, classMain)
	if err != nil {
		return nil, fmt.Errorf("call %s: %w", addr, err)
	}
	defer conn.Close()
	var reply message
	err = conn.Invoke(ctx, "/"+serviceName+"/"+callName, &message{out: small(request)}, &reply, callOptions()...)
	if err != nil {
		return nil, fmt.Errorf("call %s: %w", addr, err)
	}
	defer reply.free()
	return reply.in.Materialize(), nil
}

// repeats lets a line into the log if it says something new, or every so often.
type repeats struct {
	mu   sync.Mutex
	text string
	at   time.Time
}

const repeatInterval = 10 * time.Second

func (r *repeats) log(logger *slog.Logger, args ...any) {
	text := fmt.Sprint(args...)
	now := time.Now()
	r.mu.Lock()
	again := text == r.text && now.Sub(r.at) < repeatInterval
	if !again {
		r.text, r.at = text, now
	}
	r.mu.Unlock()
	if !again {
		logger.Warn("peer refused", args...)
	}
}
