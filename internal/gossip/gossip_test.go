package gossip

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/flotilladb/flotilla/internal/stop"
	"github.com/flotilladb/flotilla/proto/metapb"
)

// patience bounds a wait that should end in a second or two.
const patience = 30 * time.Second

type process struct {
	*Gossip
	stopper *stop.Stopper
	events  chan Event
	lines   chan string // logged at warning or above
}

// start runs a member with times that suit a test; edit may change more.
func start(t *testing.T, store metapb.StoreID, begin uint64, edit func(*Config)) *process {
	t.Helper()
	p := &process{
		stopper: stop.New(context.Background()), events: make(chan Event, 10_000), lines: make(chan string, 10_000),
	}
	cfg := Config{
		Self: Member{
			ClusterID: 0xc1, Node: metapb.NodeID(store), Store: store, Start: begin, Name: fmt.Sprintf("n%d", store),
			PeerAddr: fmt.Sprintf("10.0.0.%d:2380", store), ClientURLs: []string{"http://c"}, Labels: map[string]string{"zone": "a"},
		},
		Bind: "127.0.0.1:0",
		Deliver: func(events []Event) {
			for _, e := range events {
				p.events <- e
			}
		},
		Stopper:       p.stopper,
		Logger:        slog.New(slog.NewTextHandler(&lineWriter{p.lines}, &slog.HandlerOptions{Level: slog.LevelWarn})),
		ProbeInterval: 200 * time.Millisecond, ProbeTimeout: 100 * time.Millisecond,
		GossipInterval: 20 * time.Millisecond, SyncInterval: 200 * time.Millisecond,
		JoinMin: 20 * time.Millisecond, JoinMax: 200 * time.Millisecond,
	}
	if edit != nil {
		edit(&cfg)
	}
	var err error
	if p.Gossip, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.kill)
	return p
}

func (p *process) kill() { p.stopper.Stop() }

type lineWriter struct{ c chan string }

func (w *lineWriter) Write(b []byte) (int, error) {
	select {
	case w.c <- string(b):
	default:
	}
	return len(b), nil
}

// until waits for an event of a store with a state, and returns it.
func (p *process) until(t *testing.T, store metapb.StoreID, s Status) Event {
	t.Helper()
	return p.find(t, fmt.Sprintf("store %d %s", store, s), func(e Event) bool {
		return e.Member.Store == store && e.Status == s
	})
}

func (p *process) find(t *testing.T, what string, ok func(Event) bool) Event {
	t.Helper()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		select {
		case e := <-p.events:
			if ok(e) {
				return e
			}
		case <-timer.C:
			t.Fatalf("no event: %s; known: %v", what, p.Members())
		}
	}
}

func (p *process) line(t *testing.T, parts ...string) {
	t.Helper()
	timer := time.NewTimer(patience)
	defer timer.Stop()
next:
	for {
		select {
		case l := <-p.lines:
			for _, part := range parts {
				if !strings.Contains(l, part) {
					continue next
				}
			}
			return
		case <-timer.C:
			t.Fatalf("no line with %q", parts)
		}
	}
}

// three starts members that join the first, and waits until all know all.
func three(t *testing.T, edit func(*Config)) []*process {
	t.Helper()
	ps := []*process{start(t, 1, 1, edit)}
	for store := metapb.StoreID(2); store <= 3; store++ {
		ps = append(ps, start(t, store, 1, func(c *Config) {
			c.Join = []string{ps[0].Addr()}
			if edit != nil {
				edit(c)
			}
		}))
	}
	for _, p := range ps {
		met := make(map[metapb.StoreID]bool)
		p.find(t, "both others", func(e Event) bool {
			met[e.Member.Store] = e.Status == Alive
			return len(met) == 2 && e.Status == Alive
		})
	}
	return ps
}

func TestMeetUpdateLeave(t *testing.T) {
	ps := three(t, nil)
	if err := ps[1].Update(func(m *Member) { m.Load.Ranges = 77 }); err != nil {
		t.Fatal(err)
	}
	e := ps[2].find(t, "load of store 2", func(e Event) bool { return e.Member.Load.Ranges == 77 })
	want := Member{
		ClusterID: 0xc1, Node: 2, Store: 2, Start: 1, Name: "n2", PeerAddr: "10.0.0.2:2380",
		ClientURLs: []string{"http://c"}, Labels: map[string]string{"zone": "a"}, Load: Load{Ranges: 77},
	}
	if !reflect.DeepEqual(e.Member, want) || e.Status != Alive {
		t.Fatalf("%+v", e)
	}
	if err := ps[1].Leave(); err != nil {
		t.Fatal(err)
	}
	for _, i := range []int{0, 2} {
		ps[i].until(t, 2, Left)
	}
	if m := ps[0].Members(); len(m) != 2 || m[0].Status != Left || m[1].Status != Alive {
		t.Fatalf("%+v", m)
	}
	ps[0].Forget(2)
	if m := ps[0].Members(); len(m) != 1 || m[0].Member.Store != 3 {
		t.Fatalf("%+v", m)
	}
}

// A member that ends without a word is failed soon; started again, at
// another address, it is alive at once, and word of its earlier start does not count.
func TestKill(t *testing.T) {
	ps := three(t, nil)
	ps[1].kill()
	for _, i := range []int{0, 2} {
		ps[i].until(t, 2, Failed)
	}
	again := start(t, 2, 2, func(c *Config) { c.Join = []string{ps[0].Addr()} })
	for _, i := range []int{0, 2} {
		if e := ps[i].until(t, 2, Alive); e.Member.Start != 2 {
			t.Fatalf("%+v", e)
		}
	}
	again.until(t, 3, Alive)
}

// The line from which suspicion is read is the one that memberlist writes.
func TestSuspicionLine(t *testing.T) {
	seen := make(chan string, 10_000)
	a := start(t, 1, 1, func(c *Config) {
		c.Logger = slog.New(slog.NewTextHandler(&lineWriter{seen}, &slog.HandlerOptions{Level: slog.LevelDebug}))
		c.SuspicionMult = 1000 // does not fail while we look
	})
	b := start(t, 2, 1, func(c *Config) { c.Join = []string{a.Addr()} })
	a.until(t, 2, Alive)
	b.kill()
	a.until(t, 2, Suspected)
	a.lines = seen
	a.line(t, "Suspect c1/2/1 has failed")
}

// A member that has nobody to join goes on trying, and says so.
func TestJoinLater(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	a := start(t, 1, 1, func(c *Config) { c.Join = []string{addr} })
	a.line(t, "trying again for ever", addr)
	b := start(t, 2, 1, func(c *Config) { c.Bind = addr })
	a.until(t, 2, Alive)
	b.until(t, 1, Alive)
}

func TestWrongCluster(t *testing.T) {
	a := start(t, 1, 1, nil)
	b := start(t, 2, 1, func(c *Config) {
		c.Self.ClusterID = 0xc2
		c.Join = []string{a.Addr()}
	})
	b.line(t, "trying again for ever", "is of cluster c1, this one of cluster c2: correct the join addresses")
	if m := append(a.Members(), b.Members()...); len(m) != 0 {
		t.Fatalf("members of two clusters met: %+v", m)
	}
}

// With a key only those who have it are members.
func TestKey(t *testing.T) {
	key := bytes.Repeat([]byte("k"), 32)
	ps := three(t, func(c *Config) { c.Key = key })
	for i, other := range [][]byte{nil, bytes.Repeat([]byte("x"), 32)} {
		p := start(t, metapb.StoreID(10+i), 1, func(c *Config) {
			c.Key, c.Join = other, []string{ps[0].Addr()}
		})
		p.line(t, "trying again for ever")
		if m := p.Members(); len(m) != 0 {
			t.Fatalf("without the key: %+v", m)
		}
	}
	if m := ps[0].Members(); len(m) != 2 {
		t.Fatalf("%+v", m)
	}
}

// Two processes that are one start of a store are told of.
func TestConflict(t *testing.T) {
	ps := three(t, nil)
	start(t, 2, 1, func(c *Config) { c.Join = []string{ps[0].Addr()} })
	e := ps[0].find(t, "conflict", func(e Event) bool { return e.Conflict != "" })
	if e.Member.Store != 2 {
		t.Fatalf("%+v", e)
	}
	ps[0].line(t, "two processes are the same start of one store", "store=2")
}

func TestConfig(t *testing.T) {
	for _, c := range []struct {
		want string
		edit func(*Config)
	}{
		{"store id", func(c *Config) { c.Self.Store = 0 }},
		{"must be set", func(c *Config) { c.Deliver = nil }},
		{"16, 24 or 32", func(c *Config) { c.Key = []byte("short") }},
		{"ProbeTimeout", func(c *Config) { c.ProbeTimeout = time.Hour }},
		{"address", func(c *Config) { c.Join = []string{"nowhere"} }},
		{"no port number", func(c *Config) { c.Bind = "127.0.0.1:http" }},
		{"too long", func(c *Config) { c.Self.Labels = map[string]string{"a": strings.Repeat("x", 600)} }},
	} {
		cfg := Config{
			Self: Member{ClusterID: 1, Store: 1}, Bind: "127.0.0.1:0", Deliver: func([]Event) {},
			Stopper: stop.New(t.Context()), Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
		}
		cfg.setDefaults()
		if err := cfg.Validate(); err != nil {
			t.Fatal(err)
		}
		c.edit(&cfg)
		if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want something with %q", err, c.want)
		}
	}
}

func FuzzMember(f *testing.F) {
	m := Member{
		ClusterID: 1, Node: 2, Store: 3, Start: 4, Name: "n", PeerAddr: "p", ClientURLs: []string{"u", "v"},
		Labels: map[string]string{"zone": "a", "rack": ""}, Load: Load{1, 2, 3, 4, 5, 6}, Leaving: true,
	}
	b, err := m.encode()
	if err != nil {
		f.Fatal(err)
	}
	if back, err := decodeMember(b); err != nil || !reflect.DeepEqual(back, m) {
		f.Fatalf("%+v, %v", back, err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := decodeMember(b)
		if err != nil {
			if !errors.Is(err, errMeta) {
				t.Fatal(err)
			}
			return
		}
		again, err := m.encode()
		if errors.Is(err, ErrTooLong) {
			return
		}
		if back, err := decodeMember(again); err != nil || !reflect.DeepEqual(back, m) {
			t.Fatalf("%+v, then %+v, %v", m, back, err)
		}
	})
}

// The book holds one event for each store, whatever happens before it is read.
func TestBook(t *testing.T) {
	b := newBook(Member{ClusterID: 1, Store: 9, Start: 1})
	m := Member{ClusterID: 1, Store: 2, Start: 3}
	for range 1000 {
		b.set(m, Alive)
		b.suspect(m.id())
		b.set(m, Failed)
		b.set(m, Alive)
		b.suspect(m.id())
		b.hear(m.id())
		b.suspect(m.id())
	}
	b.set(Member{ClusterID: 1, Store: 9, Start: 1}, Alive) // itself
	if got := b.take(); len(got) != 1 || got[0].Status != Suspected {
		t.Fatalf("%+v", got)
	}
	b.set(Member{ClusterID: 1, Store: 2, Start: 2}, Failed) // an earlier start
	b.suspect("nobody")
	if got := b.take(); len(got) != 0 {
		t.Fatalf("%+v", got)
	}
	if got := b.all(); len(got) != 1 || got[0].Status != Suspected {
		t.Fatalf("%+v", got)
	}
}

// Word of this store's own earlier start is none of another store: its end would have this
// process look for a missing member for ever. Nor is word of a store that has left the
// cluster for good, whenever it comes.
func TestOfNoInterest(t *testing.T) {
	b := newBook(Member{ClusterID: 1, Store: 1, Start: 5})
	b.set(Member{ClusterID: 1, Store: 1, Start: 4}, Alive)
	b.set(Member{ClusterID: 1, Store: 1, Start: 4}, Failed)
	b.set(Member{ClusterID: 1, Store: 2, Start: 9}, Alive)
	b.forget(2)
	b.set(Member{ClusterID: 1, Store: 2, Start: 9}, Failed)
	if known := b.all(); len(known) != 0 {
		t.Errorf("known: %v", known)
	}
	if told := b.take(); len(told) != 0 {
		t.Errorf("told: %v", told)
	}
	// A later start of this store is another process with a copy of its folder.
	b.set(Member{ClusterID: 1, Store: 1, Start: 6}, Alive)
	if known := b.all(); len(known) != 1 {
		t.Errorf("known: %v", known)
	}
}
