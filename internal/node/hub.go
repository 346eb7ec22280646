package node

import (
	"context"
	"fmt"
	"time"

	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/peerpb"
	"github.com/flotilladb/flotilla/watchfeed"
)

// newHub starts the hub of the watches. The loop feeds it from its first step
// on.
func (n *Node) newHub() (*watchfeed.Hub, error) {
	cfg := watchfeed.HubConfig{
		Core:    watchfeed.CoreConfig{Reader: n.eng, ProgressInterval: n.cfg.WatchProgressInterval},
		Current: n.pub.Current,
		Removal: n.pub.Removal,
		Want:    n.want,
		Feeds:   n.feeds,
		History: n.history,
	}
	cfg.Behind = func() bool { return !n.Direct() }
	cfg.Ask = n.askCurrent
	hub, err := watchfeed.NewHub(cfg)
	if err != nil {
		return nil, err
	}
	if err := n.cfg.Registerer.Register(hub.Collector()); err != nil {
		hub.Stop()
		return nil, fmt.Errorf("register the metrics of watches: %w", err)
	}
	return hub, nil
}

// askCurrent asks what is current for watches that begin. Where there is no leader it does
// not wait for much longer than an election takes: they begin at what is known here then.
func (n *Node) askCurrent(ctx context.Context) (metapb.Revision, error) {
	if n.Leaderless() {
		limited, cancel := context.WithTimeout(ctx, 2*n.cfg.ElectionTimeout)
		defer cancel()
		ctx = limited
	}
	return n.client.Revision(ctx)
}

// want has ranges closed that watches wait for.
func (n *Node) want(wants []watchfeed.Want) {
	n.inbox.Lock()
	n.inbox.funcs = append(n.inbox.funcs, func() {
		for _, w := range wants {
			n.core.Want(w.Range, w.Revision)
		}
	})
	n.inbox.Unlock()
	n.wake()
}

// feeds does what the hub wants done for feeds of other stores.
func (n *Node) feeds(out []watchfeed.FeedOutput) {
	n.inbox.Lock()
	n.inbox.funcs = append(n.inbox.funcs, func() { n.core.Feeds(out) })
	n.inbox.Unlock()
	n.wake()
}

// historyTimeout is how long a read of what happened elsewhere may take.
const historyTimeout = 7 * time.Second

// history reads for the hub what is not on this store.
func (n *Node) history(ctx context.Context, sc *watchfeed.Scan) watchfeed.Scanned {
	ctx, cancel := context.WithTimeout(ctx, historyTimeout)
	defer cancel()
	page, err := n.client.History(ctx, peerpb.History{
		Start: sc.Start, End: sc.End, From: sc.From, To: sc.To, BytesMax: sc.BytesMax, Prev: sc.Prev,
	})
	if err != nil {
		return watchfeed.Scanned{ID: sc.ID, Removed: -1, Err: err}
	}
	return sc.Took(page.Events, page.Through, page.Removed)
}

// Watches is where streams of watches are opened.
func (n *Node) Watches() *watchfeed.Hub { return n.hub }

// feed tells the hub what a step made readable, after readers were told and
// before any result is given out: a watch that begins after a write was
// acknowledged begins above it.
func (n *Node) feed(rd *Ready) { n.hub.Feed(n.pub.Step(rd)) }
