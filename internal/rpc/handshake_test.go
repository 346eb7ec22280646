package rpc

import (
	"errors"
	"strings"
	"testing"

	"github.com/flotilladb/flotilla/proto/metapb"
)

// TestAdmit is the table of who is refused, and that each refusal says what to do.
func TestAdmit(t *testing.T) {
	me := self{Identity: Identity{ClusterID: 7, Node: 2, Store: 2, Start: 4}, instance: 9}
	good := hello{
		Version: 1, VersionMin: 1, Lanes: setOf(Raft, Requests), To: 2,
		Identity: Identity{ClusterID: 7, Node: 1, Store: 1, Start: 3},
	}
	for _, c := range []struct {
		name string
		edit func(*self, *hello)
		want error
		says string
	}{
		{"fits", func(*self, *hello) {}, nil, ""},
		{"newer, but speaks ours", func(_ *self, h *hello) { h.Version = 12 }, nil, ""},
		{"too new", func(_ *self, h *hello) { h.Version, h.VersionMin = 12, 11 }, ErrVersion, "upgrade the node of store 2 first"},
		{"too old", func(_ *self, h *hello) { h.Version, h.VersionMin = 0, 0 }, ErrVersion, "upgrade the node of store 1"},
		{"other cluster", func(_ *self, h *hello) { h.ClusterID = 8 }, ErrWrongCluster, "of cluster 8, store 2 of cluster 7: correct the peer addresses"},
		{"no cluster", func(_ *self, h *hello) { h.ClusterID = 0 }, ErrWrongCluster, ""},
		{"this store's id", func(_ *self, h *hello) { h.Store = 2 }, ErrOwnStore, "if its data folder is a copy"},
		{"ourselves", func(s *self, h *hello) { h.Identity, h.Instance, h.To = s.Identity, s.instance, 3 }, ErrWrongStore, "where store 3 is said to be"},
		{"meant another", func(_ *self, h *hello) { h.To = 3 }, ErrWrongStore, "looked for store 3 and found store 2"},
		{"nobody", func(_ *self, h *hello) { h.Store = 0 }, errors.ErrUnsupported, "is it a node of this cluster"},
		{"unknown lane", func(_ *self, h *hello) { h.Lanes |= setOf(laneCount) }, errors.ErrUnsupported, ""},
		{"no lane", func(_ *self, h *hello) { h.Lanes = 0 }, errors.ErrUnsupported, "lanes 0"},
		{"we are nobody", func(s *self, _ *hello) { s.Identity = Identity{} }, ErrNotReady, "tried again"},
	} {
		s, h := me, good
		c.edit(&s, &h)
		err := s.admit(&h, "10.0.0.1")
		switch {
		case c.want == nil && err != nil:
			t.Errorf("%s: %v", c.name, err)
		case c.want == nil:
		case err == nil:
			t.Errorf("%s: let in", c.name)
		case c.want != errors.ErrUnsupported && !errors.Is(err, c.want):
			t.Errorf("%s: %v is no %v", c.name, err, c.want)
		case !strings.Contains(err.Error(), c.says):
			t.Errorf("%s: %q does not say %q", c.name, err, c.says)
		}
	}
}

// TestAccept is the same for the welcome.
func TestAccept(t *testing.T) {
	me := self{Identity: Identity{ClusterID: 7, Store: 1}}
	for _, c := range []struct {
		name string
		w    hello
		want error
	}{
		{"fits", hello{Version: 2, VersionMin: 1, Identity: Identity{ClusterID: 7, Store: 2}}, nil},
		{"cluster", hello{Version: 1, VersionMin: 1, Identity: Identity{ClusterID: 8, Store: 2}}, ErrWrongCluster},
		{"store", hello{Version: 1, VersionMin: 1, Identity: Identity{ClusterID: 7, Store: 3}}, ErrWrongStore},
		{"too new", hello{Version: 3, VersionMin: 2, Identity: Identity{ClusterID: 7, Store: 2}}, ErrVersion},
	} {
		err := me.accept(&c.w, hello{To: 2}, "10.0.0.2:1")
		if c.want == nil && err != nil || c.want != nil && (err == nil || !errors.Is(err, c.want)) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}

// Both ends hear of a wrong cluster, over real sockets.
func TestWrongCluster(t *testing.T) {
	n := newNetwork()
	a := n.start(t, 1, 1, nil)
	b := n.start(t, 2, 1, func(c *Config) { c.Self.ClusterID = 0xc2 })
	n.set(1, a.addr)
	n.set(2, b.addr)
	a.Send(2, Raft, []byte("x"))
	for range 2 { // it goes on trying: the address may be corrected
		if err := wait(t, "refusal", a.refused); !errors.Is(err, ErrWrongCluster) ||
			!strings.Contains(err.Error(), "is of cluster c1, store 2 of cluster c2") {
			t.Fatal(err)
		}
	}
	if l := wait(t, "word of the loss", a.lost); l.to != 2 {
		t.Fatalf("lost %v", l)
	}
	if len(b.got) != 0 || b.counts.refused.Load() == 0 {
		t.Fatalf("%d frames came, %d refused", len(b.got), b.counts.refused.Load())
	}
	// It may be corrected.
	c := n.start(t, 2, 1, nil)
	n.set(2, c.addr)
	connect(t, a, c, 2, Raft)
}

// An address that turned out to be another store's is looked up again.
func TestWrongStore(t *testing.T) {
	n := newNetwork()
	a, b, c := n.start(t, 1, 1, nil), n.start(t, 2, 1, nil), n.start(t, 3, 1, nil)
	n.set(2, c.addr)
	a.Send(2, Raft, []byte("x"))
	if err := wait(t, "refusal", a.refused); !errors.Is(err, ErrWrongStore) {
		t.Fatal(err)
	}
	n.set(2, b.addr)
	connect(t, a, b, 2, Raft)
	if len(c.got) != 0 {
		t.Fatal("a frame came to the wrong store")
	}
}

// Of two processes with one store id only the first is let in; once it is gone the
// other is, and then nothing of an earlier start.
func TestClonedStore(t *testing.T) {
	n := newNetwork()
	b := n.start(t, 2, 1, nil)
	n.set(2, b.addr)
	first := n.start(t, 1, 5, nil)
	connect(t, first, b, 2, Raft)
	clone := n.start(t, 1, 6, nil)
	twin := n.start(t, 1, 5, nil) // the same start: a copy of the folder, begun at once
	for _, s := range []*store{clone, twin} {
		s.Send(2, Raft, []byte("from a copy"))
		if err := wait(t, "refusal", s.refused); !errors.Is(err, ErrStoreTaken) ||
			!strings.Contains(err.Error(), "store 1 is connected from 127.0.0.1 (start 5)") {
			t.Fatal(err)
		}
	}
	connect(t, first, b, 2, Raft)
	twin.kill()
	first.kill()
	connect(t, clone, b, 2, Raft)
	old := n.start(t, 1, 5, nil)
	old.Send(2, Raft, []byte("from before"))
	if err := wait(t, "refusal", old.refused); !errors.Is(err, ErrStoreTaken) ||
		!strings.Contains(err.Error(), "started later by another process (start 6, this one is 5)") {
		t.Fatal(err)
	}
	for len(b.got) > 0 {
		if g := <-b.got; strings.HasPrefix(string(g.frame), "from") {
			t.Fatalf("%q was delivered", g.frame)
		}
	}
}

// A copy that runs as another store sees its own id at the other end.
func TestOwnStore(t *testing.T) {
	n := newNetwork()
	a := n.start(t, 1, 1, nil)
	clone := n.start(t, 1, 2, func(c *Config) {
		c.Resolve = func(metapb.StoreID) (string, bool) { return a.addr, true }
	})
	clone.Send(2, Raft, []byte("x"))
	if err := wait(t, "refusal", clone.refused); !errors.Is(err, ErrOwnStore) {
		t.Fatal(err)
	}
}

// A node to whose address another store's leads, since that was given anew, finds itself
// there, and no copy of itself, for which it would end.
func TestAddressLeadsHome(t *testing.T) {
	n := newNetwork()
	a, b := n.start(t, 1, 1, nil), n.start(t, 2, 1, nil)
	n.set(2, a.addr)
	a.Send(2, Raft, []byte("x"))
	if err := wait(t, "refusal", a.refused); errors.Is(err, ErrOwnStore) || !errors.Is(err, ErrWrongStore) {
		t.Fatal(err)
	}
	n.set(2, b.addr)
	connect(t, a, b, 2, Raft)
}
