package node

import (
	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/peerpb"
	"github.com/flotilladb/flotilla/watchfeed"
)

// feeds is what the hubs of several stores say to each other, on their way through
// the lanes of requests: there what is said arrives once and in order, or both hear
// that it may be lost.
type feeds struct {
	// feedsIn is for the hub.
	feedsIn []watchfeed.FeedInput
	// locates are those that nobody can be named for.
	locates []*watchfeed.Locate
}

// Feeds takes what the hub wants done.
func (c *Core) Feeds(out []watchfeed.FeedOutput) {
	for i := range out {
		o := &out[i]
		if o.Locate != nil {
			c.locate(o.Locate) // nobody is named before all know what a hub asks then
			continue
		}
		l := c.links[o.Store]
		if l == nil || !l.ready() {
			c.feedsLost(o.Store)
			continue
		}
		if o.Ask != nil {
			o.Ask.Epoch = c.asker.Epoch()
			l.next.FeedAsks = append(l.next.FeedAsks, o.Ask)
		}
		if o.News != nil {
			o.News.Epoch = c.asker.Epoch()
			l.next.FeedNews = append(l.next.FeedNews, o.News)
		}
	}
}

// feedsLost says that what the hubs said to each other may be lost.
func (c *Core) feedsLost(store metapb.StoreID) {
	c.feedsIn = append(c.feedsIn, watchfeed.FeedInput{Store: store, Lost: true})
}

// takeAsk and takeNews take what another store's hub says. The revisions in it were
// given out.
func (c *Core) takeAsk(from metapb.StoreID, a *peerpb.FeedAsk) {
	c.asker.Saw(a.Epoch)
	for i := range a.Begin {
		c.sawCurrent(a.Begin[i].After)
	}
	for i := range a.Wants {
		c.sawCurrent(a.Wants[i].Revision)
	}
	c.feedsIn = append(c.feedsIn, watchfeed.FeedInput{Store: from, Ask: a})
}

func (c *Core) takeNews(from metapb.StoreID, n *peerpb.FeedNews) {
	c.asker.Saw(n.Epoch)
	for i := range n.Changes {
		c.sawCurrent(n.Changes[i].Through)
	}
	c.feedsIn = append(c.feedsIn, watchfeed.FeedInput{Store: from, News: n})
}

// locate names a store where a range can be followed: its leader, if it is known, else
// another that has it.
func (c *Core) locate(l *watchfeed.Locate) {
	d := c.router.Lookup(keys.User(l.Start))
	if !c.format.Has(metapb.RemoteFeeds) {
		d = nil
	}
	if l.Not != 0 {
		c.stale = true // it may have moved
	}
	if d != nil {
		if to, ok := c.holder(d, l.Not); ok {
			_, end, _ := keys.UserBounds(d.Span())
			c.feedsIn = append(c.feedsIn, watchfeed.FeedInput{Located: &watchfeed.Located{Start: l.Start, End: end, Store: to}})
			return
		}
	}
	c.locates = append(c.locates, l)
}

// holder returns a store that has a range, and can be asked; not is the last choice.
func (c *Core) holder(d *metapb.Descriptor, not metapb.StoreID) (metapb.StoreID, bool) {
	can := func(to metapb.StoreID) bool { return to != c.cfg.StoreID && c.canAsk(to) }
	if hint, ok := c.leaderOf(d.ID()); ok && hint.store != not && can(hint.store) && d.ReplicaOn(hint.store) != nil {
		return hint.store, true
	}
	last := metapb.StoreID(0)
	if not != 0 {
		c.guess++
	}
	for i := range d.Replicas {
		r := d.Replicas[(i+c.guess)%len(d.Replicas)]
		switch to := metapb.StoreID(r.StoreId); {
		case !can(to):
		case to == not || r.Kind == metapb.ReplicaKind_LEARNER:
			last = to
		default:
			return to, true
		}
	}
	return last, last != 0
}

// tickFeeds looks for those again that nobody could be named for.
func (c *Core) tickFeeds() {
	again := c.locates
	c.locates = nil
	for _, l := range again {
		l.Not = 0
		c.locate(l)
	}
}

// stamp has a question name the sequencer's epoch in which its revision was given out.
func (c *Core) stamp(body peerpb.Body) {
	switch b := body.(type) {
	case *peerpb.Close:
		b.Epoch = c.asker.Epoch()
	case *peerpb.Read:
		b.Epoch = c.asker.Epoch()
	case *peerpb.History:
		b.Epoch = c.asker.Epoch()
	case *peerpb.Hash:
		b.Epoch = c.asker.Epoch()
	}
}
