package node

import (
	"context"
	"net"
	"slices"
	"time"

	"github.com/flotilladb/flotilla/internal/gossip"
	"github.com/flotilladb/flotilla/proto/metapb"
)

// gossipInterval is how often this node looks at its load; what has not changed is
// not told.
const gossipInterval = 5 * time.Second

// runGossip has this node among the gossiping ones as soon as there are others, and
// tells them of its load. What they tell is a hint: where a store is, and how loaded.
func (n *Node) runGossip(ctx context.Context) {
	select {
	case <-n.several:
	case <-ctx.Done():
		return
	}
	if n.cfg.NoGossip {
		n.cfg.Logger.Info("this node does not gossip: it hears of others from the system range")
		return
	}
	g := n.beginGossip(ctx)
	if g == nil {
		return
	}
	n.gossip.Store(g)
	n.announceGossip(ctx, g.Addr())
	ticker := time.NewTicker(gossipInterval)
	defer ticker.Stop()
	for last := (gossip.Load{}); ; {
		if load, err := n.load(ctx); err == nil && load != last {
			last = load
			if err := g.Update(func(m *gossip.Member) { m.Load = load }); err != nil {
				n.cfg.Logger.Debug("the load of this node was not told", "error", err)
			}
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// beginGossip begins to gossip as soon as that is possible: what holds the address may let
// it go. It returns nil if the node stops before.
func (n *Node) beginGossip(ctx context.Context) *gossip.Gossip {
	for told := ""; ; {
		g, err := n.joinGossip()
		if err == nil {
			return g
		}
		if err.Error() != told {
			told = err.Error()
			n.cfg.Logger.Error("this node hears of others only from the system range, trying again to gossip", "error", err)
		}
		if sleep(ctx, gossipRetry) != nil {
			return nil
		}
	}
}

// gossipRetry is when it is tried again to gossip.
const gossipRetry = time.Second

// joinGossip begins to gossip; the system range says where the others do.
func (n *Node) joinGossip() (*gossip.Gossip, error) {
	addr := n.cfg.GossipAddr
	bind, port, err := net.SplitHostPort(addr)
	if addr == "" {
		bind, _, err = net.SplitHostPort(n.cfg.PeerListener.Addr().String())
		port = "0"
	}
	if err != nil {
		return nil, err
	}
	self := gossip.Member{
		ClusterID: n.ident.ClusterId, Node: metapb.NodeID(n.ident.NodeId), Store: metapb.StoreID(n.ident.StoreId), Start: n.begun,
		Name: n.cfg.Name, ClientURLs: n.cfg.ClientURLs,
	}
	advertise := ""
	if self.PeerAddr = hostOf(n.cfg.PeerURLs); self.PeerAddr != "" {
		if ip := net.ParseIP(bind); ip == nil || ip.IsUnspecified() {
			if advertise, _, err = net.SplitHostPort(self.PeerAddr); err != nil {
				return nil, err
			}
		}
	}
	cfg := gossip.Config{
		Self: self, Bind: net.JoinHostPort(bind, port), Key: n.cfg.GossipKey, Seeds: n.gossipSeeds, Deliver: n.heard,
		Stopper: n.stop, Logger: n.cfg.Logger.With("part", "gossip"), Seed: n.begun<<16 | n.ident.StoreId,
	}
	if net.ParseIP(advertise) != nil {
		cfg.Advertise = net.JoinHostPort(advertise, port)
	}
	return gossip.New(cfg)
}

// announceGossip tells the cluster where this start gossips.
func (n *Node) announceGossip(ctx context.Context, addr string) {
	n.gossipAddr.Store(&addr)
	select {
	case <-n.announced: // maybe without the address
		n.announce(ctx)
	case <-ctx.Done():
	}
}

// gossipSeeds are where the other members gossip, as far as is known.
func (n *Node) gossipSeeds() (addrs []string) {
	for _, m := range n.book.all() {
		if m.GossipAddr != "" && uint64(m.Node) != n.ident.NodeId {
			addrs = append(addrs, m.GossipAddr)
		}
	}
	return addrs
}

// heard takes what gossip tells.
func (n *Node) heard(events []gossip.Event) {
	var stores []metapb.StoreID
	for _, e := range events {
		if e.Status == gossip.Alive && e.Member.PeerAddr != "" {
			n.book.hear(e.Member.Store, e.Member.Start, e.Member.PeerAddr)
			stores = append(stores, e.Member.Store)
		}
		if e.Status != gossip.Alive {
			n.cfg.Logger.Info("a store is not heard of as usual", "store", e.Member.Store, "status", e.Status.String())
		}
	}
	if len(stores) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(n.stop.Context(), gossipInterval)
	defer cancel()
	_ = n.inLoop(ctx, func() { n.core.Meet(stores) }) // else the node stops, or is told again
}

// load is what this node has to do.
func (n *Node) load(ctx context.Context) (gossip.Load, error) {
	var replicas, leaders int
	if err := n.inLoop(ctx, func() { replicas, leaders = n.core.Store().Count() }); err != nil {
		return gossip.Load{}, err // the loop may still come to it
	}
	const roundBytes = 16 << 20 // a few bytes more are no news
	used := n.eng.Stats().DiskBytes
	return gossip.Load{BytesUsed: used - used%roundBytes, Ranges: uint64(replicas), Leaders: uint64(leaders)}, nil
}

// Gossip returns what gossip says of the other stores, by store.
func (n *Node) Gossip() []gossip.Event {
	if g := n.gossip.Load(); g != nil {
		return slices.Clone(g.Members())
	}
	return nil
}
