package gossip

import (
	"context"
	"errors"
	"fmt"
	"log"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/flotilladb/flotilla/proto/metapb"
)

// Gossip is this process's place among the members. It is safe for concurrent use.
type Gossip struct {
	cfg  Config
	list *memberlist.Memberlist
	book *book

	mu struct {
		sync.Mutex
		self Member
		meta []byte // self, encoded
	}
}

// New begins to listen and to join.
func New(cfg Config) (*Gossip, error) {
	cfg.setDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	g := &Gossip{cfg: cfg, book: newBook(cfg.Self)}
	if err := g.setSelf(cfg.Self); err != nil {
		return nil, err
	}
	ml, err := cfg.memberlist()
	if err != nil {
		return nil, err
	}
	d := &delegate{g}
	ml.Delegate, ml.Events, ml.Conflict, ml.Merge, ml.Alive = d, d, d, d, d
	ml.Logger = log.New(&lines{logger: cfg.Logger, book: g.book}, "", 0)
	if g.list, err = memberlist.Create(ml); err != nil {
		return nil, fmt.Errorf("gossip at %s: %w", cfg.Bind, err)
	}
	for name, f := range map[string]func(context.Context){
		"gossip events": g.events, "gossip join": g.join, "gossip end": g.end,
	} {
		if err := cfg.Stopper.Go(name, f); err != nil {
			g.list.Shutdown()
			return nil, fmt.Errorf("gossip at %s: %w", cfg.Bind, err)
		}
	}
	return g, nil
}

// Addr is where this member listens, for others to join.
func (g *Gossip) Addr() string { return g.list.LocalNode().Address() }

// Members returns what is known of all other stores, by store.
func (g *Gossip) Members() []Event { return g.book.all() }

// Forget drops a store that has left the cluster for good.
func (g *Gossip) Forget(store metapb.StoreID) { g.book.forget(store) }

// Update changes what others know of this process; edit must not touch its ids.
// It may wait for a gossip interval or two.
func (g *Gossip) Update(edit func(*Member)) error {
	g.mu.Lock()
	self := g.mu.self
	g.mu.Unlock()
	edit(&self)
	if self.id() != g.cfg.Self.id() {
		return fmt.Errorf("gossip: member %s cannot become %s", g.cfg.Self.id(), self.id())
	}
	if err := g.setSelf(self); err != nil {
		return err
	}
	if err := g.list.UpdateNode(g.cfg.LeaveTimeout); err != nil {
		return fmt.Errorf("gossip an update: %w", err)
	}
	return nil
}

// Leave tells the others that this process means to end.
func (g *Gossip) Leave() error {
	if err := g.Update(func(m *Member) { m.Leaving = true }); err != nil {
		return err
	}
	if err := g.list.Leave(g.cfg.LeaveTimeout); err != nil {
		return fmt.Errorf("gossip that we leave: %w", err)
	}
	return nil
}

func (g *Gossip) setSelf(m Member) error {
	b, err := m.encode()
	if err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.mu.self, g.mu.meta = m, b
	return nil
}

func (g *Gossip) events(ctx context.Context) {
	for {
		select {
		case <-g.book.mu.wake:
		case <-ctx.Done():
			return
		}
		if events := g.book.take(); len(events) > 0 {
			g.cfg.Deliver(events)
		}
	}
}

func (g *Gossip) end(ctx context.Context) {
	<-ctx.Done()
	if err := g.list.Shutdown(); err != nil {
		g.cfg.Logger.Warn("gossip does not end well", "error", err)
	}
}

// join asks the join addresses until somebody answers; after that it asks again as
// long as a known member is missing. Two parts of a cluster that were cut off from
// each other for long have forgotten each other, and would not meet otherwise.
func (g *Gossip) join(ctx context.Context) {
	rng := rand.New(rand.NewPCG(g.cfg.Seed, uint64(g.cfg.Self.Store)))
	pause, told := g.cfg.JoinMin, ""
	for {
		if g.missing() {
			asked := g.seeds()
			n, err := g.list.Join(asked)
			switch {
			case n > 0 && told != "":
				g.cfg.Logger.Info("joined other members", "asked", n)
				told = ""
			case err != nil && err.Error() != told && ctx.Err() == nil:
				told = err.Error()
				g.cfg.Logger.Warn("no member of the cluster answers at the join addresses, trying again for ever",
					"addresses", strings.Join(asked, ","), "error", err)
			}
			if n > 0 {
				pause = g.cfg.JoinMax
			}
		}
		timer := time.NewTimer(time.Duration((0.5 + rng.Float64()) * float64(pause)))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
		pause = min(2*pause, g.cfg.JoinMax)
	}
}

// seeds are the addresses to ask.
func (g *Gossip) seeds() []string {
	if g.cfg.Seeds == nil {
		return g.cfg.Join
	}
	return append(g.cfg.Seeds(), g.cfg.Join...)
}

// missing reports whether asking the join addresses may find somebody.
func (g *Gossip) missing() bool {
	if len(g.seeds()) == 0 {
		return false
	}
	if g.list.NumMembers() <= 1 {
		return true
	}
	for _, e := range g.book.all() {
		if e.Status == Failed {
			return true
		}
	}
	return false
}

// delegate is what memberlist calls, partly under its lock: nothing here waits.
type delegate struct{ *Gossip }

// NodeMeta implements memberlist.Delegate.
func (d *delegate) NodeMeta(int) []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.mu.meta
}

// NotifyMsg implements memberlist.Delegate.
func (d *delegate) NotifyMsg([]byte) {}

// GetBroadcasts implements memberlist.Delegate.
func (d *delegate) GetBroadcasts(int, int) [][]byte { return nil }

// LocalState implements memberlist.Delegate.
func (d *delegate) LocalState(bool) []byte { return nil }

// MergeRemoteState implements memberlist.Delegate.
func (d *delegate) MergeRemoteState([]byte, bool) {}

// NotifyJoin implements memberlist.EventDelegate.
func (d *delegate) NotifyJoin(n *memberlist.Node) { d.note(n, Alive) }

// NotifyUpdate implements memberlist.EventDelegate.
func (d *delegate) NotifyUpdate(n *memberlist.Node) { d.note(n, Alive) }

// NotifyLeave implements memberlist.EventDelegate. Members that fail and members
// that leave come here; those that leave have said so before.
func (d *delegate) NotifyLeave(n *memberlist.Node) { d.note(n, Failed) }

func (d *delegate) note(n *memberlist.Node, s Status) {
	m, err := decodeMember(n.Meta)
	if err != nil {
		d.cfg.Logger.Warn("a member says nothing of use", "address", n.Address(), "error", err)
		return
	}
	if s == Failed && m.Leaving {
		s = Left
	}
	d.book.set(m, s)
}

// NotifyConflict implements memberlist.ConflictDelegate.
func (d *delegate) NotifyConflict(existing, other *memberlist.Node) {
	m, err := decodeMember(existing.Meta)
	if err != nil {
		return
	}
	d.cfg.Logger.Error("two processes are the same start of one store: stop the one whose data folder is a copy",
		"store", m.Store, "address", existing.Address(), "other", other.Address())
	d.book.conflict(m, Alive, other.Address())
}

// NotifyMerge implements memberlist.MergeDelegate: it refuses members of another
// cluster that join, or that are joined.
func (d *delegate) NotifyMerge(peers []*memberlist.Node) error {
	for _, p := range peers {
		if err := d.check(p); err != nil {
			return err
		}
	}
	return nil
}

// NotifyAlive implements memberlist.AliveDelegate.
func (d *delegate) NotifyAlive(n *memberlist.Node) error {
	if err := d.check(n); err != nil {
		return err
	}
	d.book.hear(n.Name)
	return nil
}

// ErrWrongCluster says that a member of another cluster was met.
var ErrWrongCluster = errors.New("gossip: another cluster")

func (d *delegate) check(n *memberlist.Node) error {
	m, err := decodeMember(n.Meta)
	if err != nil {
		return fmt.Errorf("member at %s: %w", n.Address(), err)
	}
	if m.ClusterID != d.cfg.Self.ClusterID {
		return fmt.Errorf("%w: the member at %s is of cluster %x, this one of cluster %x: correct the join addresses",
			ErrWrongCluster, n.Address(), m.ClusterID, d.cfg.Self.ClusterID)
	}
	return nil
}
