package rpc

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/flotilladb/flotilla/internal/stop"
	"github.com/flotilladb/flotilla/proto/metapb"
)

// patience bounds a wait that should end at once.
const patience = 60 * time.Second

// network is where the stores of a test find each other.
type network struct {
	mu    sync.Mutex
	addrs map[metapb.StoreID]string
}

func newNetwork() *network { return &network{addrs: make(map[metapb.StoreID]string)} }

func (n *network) resolve(s metapb.StoreID) (string, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	a, ok := n.addrs[s]
	return a, ok
}

func (n *network) set(s metapb.StoreID, addr string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.addrs[s] = addr
}

// got is a frame that was delivered.
type got struct {
	from  metapb.StoreID
	lane  Lane
	frame []byte
}

// lost is a call of Unreachable.
type lost struct {
	to   metapb.StoreID
	lane Lane
}

// store is a transport with what a test wants to hear of.
type store struct {
	*Transport
	stopper *stop.Stopper
	addr    string
	got     chan got
	lost    chan lost
	up      chan lost // calls of Reachable
	refused chan error
}

func (s *store) kill() { s.stopper.Stop() }

// start runs a store of a test. edit may change its configuration; without a
// Deliver of its own, frames come to got.
func (n *network) start(t testing.TB, id metapb.StoreID, begin uint64, edit func(*Config)) *store {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &store{
		stopper: stop.New(context.Background()), addr: l.Addr().String(),
		got: make(chan got, 1<<16), lost: make(chan lost, 1000), up: make(chan lost, 1000), refused: make(chan error, 1000),
	}
	cfg := Config{
		Self:    Identity{ClusterID: 0xc1, Node: metapb.NodeID(id), Store: id, Start: begin},
		Listen:  l,
		Resolve: n.resolve,
		Deliver: func(from metapb.StoreID, lane Lane, frame []byte) bool {
			s.got <- got{from, lane, frame}
			return false
		},
		Unreachable: func(to metapb.StoreID, lane Lane) { s.lost <- lost{to, lane} },
		Reachable:   func(to metapb.StoreID, lane Lane, _ uint64) { s.up <- lost{to, lane} },
		Refused: func(_ metapb.StoreID, err error) {
			select {
			case s.refused <- err:
			default:
			}
		},
		Stopper:      s.stopper,
		Logger:       slog.New(slog.NewTextHandler(io.Discard, nil)),
		RetryMin:     2 * time.Millisecond,
		RetryMax:     20 * time.Millisecond,
		PingInterval: 50 * time.Millisecond,
		SilenceMax:   time.Second,
	}
	if edit != nil {
		edit(&cfg)
	}
	if s.Transport, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.stopper.Quiesce()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := s.stopper.Wait(ctx); err != nil {
			t.Errorf("store %d does not stop: %v", id, s.stopper.Running())
		}
	})
	return s
}

// pair is two stores that know each other.
func pair(t testing.TB, edit func(*Config)) (n *network, a, b *store) {
	t.Helper()
	n = newNetwork()
	a, b = n.start(t, 1, 1, edit), n.start(t, 2, 1, edit)
	n.set(1, a.addr)
	n.set(2, b.addr)
	return n, a, b
}

func wait[T any](t testing.TB, what string, c <-chan T) T {
	t.Helper()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case v := <-c:
		return v
	case <-timer.C:
		t.Fatalf("no %s", what)
		panic("not reached")
	}
}

// sendUntil sends again until a frame is taken: after a loss the lane is closed
// for a moment.
func (s *store) sendUntil(t testing.TB, to metapb.StoreID, lane Lane, frame []byte) {
	t.Helper()
	for !s.Send(to, lane, frame) {
		wait(t, "connection", s.up)
	}
}

// connect waits until a frame of a lane has come through.
func connect(t testing.TB, a, b *store, to metapb.StoreID, lane Lane) {
	t.Helper()
	a.sendUntil(t, to, lane, []byte("hello"))
	for {
		if g := wait(t, "frame", b.got); string(g.frame) == "hello" && g.lane == lane {
			return
		}
	}
}

// Frames of each lane arrive in order, small and large, and say where they are from.
func TestOrder(t *testing.T) {
	_, a, b := pair(t, nil)
	const frames = 3000
	for i := range uint32(frames) {
		for lane := range laneCount {
			f := binary.BigEndian.AppendUint32(nil, i)
			if i%500 == 7 && lane != Requests && lane != Liveness {
				f = append(f, bytes.Repeat([]byte{byte(i)}, 200<<10)...)
			}
			for !a.Send(2, lane, f) {
				t.Fatalf("frame %d of %s: no room", i, lane)
			}
		}
	}
	var next [laneCount]uint32
	for range frames * int(laneCount) {
		g := wait(t, "frame", b.got)
		if i := binary.BigEndian.Uint32(g.frame); g.from != 1 || i != next[g.lane] {
			t.Fatalf("frame %d of %s from store %d, want %d", i, g.lane, g.from, next[g.lane])
		}
		next[g.lane]++
	}
}

// A large frame comes whole, and small ones sent after it need not wait for it.
func TestLargeFrames(t *testing.T) {
	seen := make(chan []byte, 10)
	_, a, b := pair(t, func(c *Config) {
		c.Lanes[Requests].CreditBytesMax = 1 << 20
		c.Deliver = func(_ metapb.StoreID, _ Lane, frame []byte) bool {
			seen <- frame
			return frame[0] == 'p'
		}
	})
	// While this one is held nothing begins, so that all others are there first.
	a.Send(2, Requests, bytes.Repeat([]byte("p"), 1<<20))
	plug := wait(t, "first frame", seen)
	var large [][]byte
	for i := range 5 {
		large = append(large, bytes.Repeat([]byte{byte('a' + i)}, 3<<20+i))
		if !a.Send(2, Requests, large[i]) {
			t.Fatal("no room")
		}
	}
	a.Send(2, Requests, []byte("small"))
	b.Credit(1, Requests, len(plug))
	if f := wait(t, "small frame", seen); string(f) != "small" {
		t.Fatalf("a frame of %d bytes came first", len(f))
	}
	for i := range 5 {
		f := wait(t, "large frame", seen)
		if want := large[f[0]-'a']; want == nil || !bytes.Equal(f, want) {
			t.Fatalf("frame %d of %d bytes is not what was sent, or came twice", i, len(f))
		}
		large[f[0]-'a'] = nil
	}
}

// A receiver that does not come on with one lane does not hold up the others, and
// what it holds and what waits for it is bounded.
func TestSlowReceiver(t *testing.T) {
	const window, size = 1 << 20, 10_000
	seen := make(chan int, 10_000) // bytes of Requests
	others := make(chan Lane, 10)
	_, a, b := pair(t, func(c *Config) {
		c.Lanes[Requests] = LaneConfig{QueueBytesMax: window, CreditBytesMax: window}
		c.Deliver = func(_ metapb.StoreID, lane Lane, frame []byte) bool {
			if lane == Requests {
				seen <- len(frame)
				return true
			}
			others <- lane
			return false
		}
	})
	taken, held := 0, 0
	fill := func() {
		for a.Send(2, Requests, make([]byte, size)) {
			taken++
		}
	}
	for fill(); held < window; fill() {
		held += wait(t, "frame", seen)
	}
	for _, lane := range []Lane{Liveness, Raft, Snapshots} {
		a.sendUntil(t, 2, lane, []byte("x"))
		if l := wait(t, "frame of another lane", others); l != lane {
			t.Fatalf("got lane %s, want %s", l, lane)
		}
	}
	if held >= window+size || len(seen) > 0 || a.Room(2, Requests) >= size {
		t.Fatalf("the receiver holds %d bytes and %d frames more, and there is room for %d",
			held, len(seen), a.Room(2, Requests))
	}
	// All the rest comes as soon as the receiver says that it is done.
	for got := held; got < taken*size; {
		b.Credit(1, Requests, held)
		held = wait(t, "frame", seen)
		got += held
	}
}

// When the process at the other end ends, the lane says so once; when it is back,
// at another address, frames flow again.
func TestRestart(t *testing.T) {
	n, a, b := pair(t, nil)
	for lane := range laneCount {
		connect(t, a, b, 2, lane)
	}
	for begin := uint64(2); begin < 5; begin++ {
		b.kill()
		seen := make(map[Lane]bool)
		for range laneCount {
			l := wait(t, "word of the loss", a.lost)
			if l.to != 2 || seen[l.lane] {
				t.Fatalf("lost store %d, lane %s (again: %t)", l.to, l.lane, seen[l.lane])
			}
			seen[l.lane] = true
		}
		if a.Send(2, Raft, []byte("nobody is there")) {
			t.Fatal("a frame to a dead store was taken")
		}
		b = n.start(t, 2, begin, nil)
		n.set(2, b.addr)
		for lane := range laneCount {
			connect(t, a, b, 2, lane)
		}
	}
	select {
	case l := <-a.lost:
		t.Fatalf("lost once more: %v", l)
	default:
	}
}

// A frame that was taken is delivered, or Unreachable is called after it.
func TestNoSilentLoss(t *testing.T) {
	n, a, b := pair(t, nil)
	a.sendUntil(t, 2, Raft, binary.BigEndian.AppendUint64(nil, 0))
	next := uint64(1)
	for round := range uint64(10) {
		for range 2000 {
			if a.Send(2, Raft, binary.BigEndian.AppendUint64(nil, next)) {
				next++
			}
		}
		b.kill()
		if l := wait(t, "word of the loss", a.lost); l != (lost{2, Raft}) && l != (lost{2, Requests}) {
			t.Fatalf("lost %v", l)
		}
		wait(t, "word of the other lane", a.lost)
		// What came is a prefix of what was sent since the last loss.
		close(b.got)
		last := uint64(0)
		for g := range b.got {
			i := binary.BigEndian.Uint64(g.frame)
			if last != 0 && i != last+1 {
				t.Fatalf("frame %d after %d", i, last)
			}
			last = i
		}
		b = n.start(t, 2, round+2, nil)
		n.set(2, b.addr)
		a.sendUntil(t, 2, Raft, binary.BigEndian.AppendUint64(nil, next))
		next++
	}
}

// Until it is known where a store is, it is asked again.
func TestLateAddress(t *testing.T) {
	n := newNetwork()
	a := n.start(t, 1, 1, nil)
	a.Send(2, Raft, []byte("lost"))
	wait(t, "word of the loss", a.lost)
	b := n.start(t, 2, 1, nil)
	n.set(2, b.addr)
	connect(t, a, b, 2, Raft)
	if len(b.got) != 0 {
		t.Fatal("a frame came that was reported as lost")
	}
}

// A node that has no identity yet can ask one that has.
func TestCall(t *testing.T) {
	n := newNetwork()
	b := n.start(t, 2, 1, func(c *Config) {
		c.Answer = func(_ context.Context, request []byte) ([]byte, error) {
			return append([]byte("you said "), request...), nil
		}
	})
	n.set(2, b.addr)
	a := n.start(t, 1, 1, func(c *Config) { c.Self = Identity{} })
	if a.Send(2, Raft, nil) {
		t.Fatal("sent without an identity")
	}
	reply, err := a.Call(t.Context(), b.addr, []byte("join"))
	if err != nil || string(reply) != "you said join" {
		t.Fatalf("%q, %v", reply, err)
	}
	// b wants to talk to it before it is somebody.
	n.set(1, a.addr)
	b.Send(1, Raft, []byte("too early"))
	if err := wait(t, "refusal", b.refused); !errors.Is(err, ErrNotReady) {
		t.Fatal(err)
	}
	if err := a.Identify(Identity{ClusterID: 0xc1, Node: 1, Store: 1, Start: 1}); err != nil {
		t.Fatal(err)
	}
	connect(t, b, a, 1, Raft)
	if err := a.Identify(Identity{ClusterID: 0xc1, Node: 3, Store: 3, Start: 1}); err == nil {
		t.Fatal("a process became another store")
	}
}

// A store that left is let go of, in both directions.
func TestForget(t *testing.T) {
	_, a, b := pair(t, nil)
	connect(t, a, b, 2, Raft)
	connect(t, b, a, 1, Raft)
	if n := a.Stores(); n != 1 {
		t.Errorf("it talks to %d stores", n)
	}
	a.Forget(2)
	if n := a.Stores(); n != 0 {
		t.Errorf("it talks to %d stores, which it forgot", n)
	}
	for range 2 {
		wait(t, "word at the one that forgets", a.lost)
		wait(t, "word at the forgotten", b.lost)
	}
}

func TestConfig(t *testing.T) {
	for _, c := range []struct {
		want string
		edit func(*Config)
	}{
		{"must be set", func(c *Config) { c.Deliver = nil }},
		{"identity needs", func(c *Config) { c.Self.Store = 0 }},
		{"BatchBytesMax", func(c *Config) { c.BatchBytesMax = 1 << 30 }},
		{"FrameBytesMax", func(c *Config) { c.FrameBytesMax = 10 }},
		{"SnapshotsPerSecond", func(c *Config) { c.SnapshotsPerSecondBytesMax = 100 }},
		{"Retry", func(c *Config) { c.RetryMax = 1 }},
		{"SilenceMax", func(c *Config) { c.SilenceMax = c.PingInterval }},
		{"lane raft", func(c *Config) { c.Lanes[Raft].CreditBytesMax = -1 }},
	} {
		cfg := Config{
			Self: Identity{ClusterID: 1, Store: 1}, Resolve: newNetwork().resolve, Stopper: stop.New(t.Context()),
			Deliver: func(metapb.StoreID, Lane, []byte) bool { return false },
		}
		cfg.setDefaults()
		if err := cfg.Validate(); err != nil {
			t.Fatal(err)
		}
		c.edit(&cfg)
		if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("got %v, want something with %q", err, c.want)
		}
	}
}
