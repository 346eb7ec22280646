package watchfeed

import (
	"bytes"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/flotilladb/flotilla/internal/clock"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/peerpb"
)

// A feed whose range is not on this store is followed at a store that has it, while
// somebody watches there. What comes from there is kept as what is applied here is:
// in the feed's ring, and held by its groups. Where a feed begins anew, here or
// elsewhere, it begins above the low of its ring; what was before that and is not
// held is read as history.

// remote is how an absent feed is followed.
type remote struct {
	id    uint64         // of the feed under way, 0: none
	store metapb.StoreID // that has it, or had the last one
	// at: everything above the ring's low and up to it was taken.
	at Revision
	// part is the beginning of the revision above at, of which the rest is to come.
	part []*update
	// asked is the revision that the store was asked to tell up to, at askedAt; 0:
	// it is not asked.
	asked   Revision
	askedAt clock.Time
	// locating: it was asked which store to follow.
	locating bool
	failed   bool       // store could not be followed
	idleAt   clock.Time // since when nobody watches there, 0: somebody does
}

const (
	// followLinger is for how long a feed is followed that nobody watches any more.
	followLinger = 10 * time.Second
	// followPatience is how long a store may take to tell how far a feed is. Its
	// replica may have been left behind.
	followPatience = time.Second
	// followCheck is how often feeds on which nothing happens are asked how far they
	// are: the store may be cut off from their leaders, and know of nothing.
	followCheck = 2 * time.Second
)

// takeFeed takes what has to do with feeds of other stores.
func (c *Core) takeFeed(in *FeedInput) {
	switch {
	case in.Lost:
		c.lostStore(in.Store)
	case in.Ask != nil:
		c.takeAsk(in.Store, in.Ask)
	case in.News != nil:
		c.takeNews(in.Store, in.News)
	case in.Located != nil:
		c.takeLocated(in.Located)
	}
}

// followAll looks after all absent feeds.
func (c *Core) followAll() {
	for _, f := range c.feeds {
		c.follow(f)
	}
}

// follow looks for a store where a feed can be followed, if that is wanted.
func (c *Core) follow(f *feed) {
	r := &f.remote
	if !c.asks || !f.absent || len(f.groups) == 0 || r.id != 0 || r.locating {
		return
	}
	r.locating = true
	l := &Locate{Start: f.start, End: c.endOf(f)}
	if r.failed {
		l.Not = r.store
	}
	c.feedsOut = append(c.feedsOut, FeedOutput{Locate: l})
}

// endOf returns the user key at which a feed ends, nil: it has no end.
func (c *Core) endOf(f *feed) []byte {
	if next := f.pos + 1; next < len(c.feeds) {
		return c.feeds[next].start
	}
	return nil
}

// takeLocated begins to follow a feed. Where the range ends before the feed does, the
// rest is another feed.
func (c *Core) takeLocated(l *Located) {
	f := c.feeds[c.feedAt(l.Start)]
	if !f.absent || !f.remote.locating || !bytes.Equal(f.start, l.Start) {
		return
	}
	f.remote.locating = false
	if len(f.groups) == 0 {
		return
	}
	end := c.endOf(f)
	cut := len(l.End) > 0 && (end == nil || bytes.Compare(l.End, end) < 0)
	if cut {
		end = l.End
	}
	c.beginFollow(f, l.Store, end)
	if cut {
		c.cutAbsent(f, end)
	}
}

func (c *Core) beginFollow(f *feed, store metapb.StoreID, end []byte) {
	c.lastFollow++
	r := &f.remote
	*r = remote{id: c.lastFollow, store: store, at: max(r.at, f.ring.low), askedAt: c.now}
	c.follows[r.id] = f
	a := c.askTo(store)
	a.Begin = append(a.Begin, peerpb.FeedBegin{Feed: r.id, Start: f.start, End: end, After: r.at})
	f.wanted = 0 // who wants anything asks again
}

// cutAbsent makes a feed of its own of the end of an absent one.
func (c *Core) cutAbsent(f *feed, at []byte) {
	c.gaps++
	right := &feed{id: gapBit | c.gaps, start: bytes.Clone(at), bound: NoBound, absent: true}
	c.absents = true
	right.remote.at = f.remote.at
	c.byRange[right.id] = right
	c.addFeed(right)
	c.follow(right)
}

// unfollow ends a feed.
func (c *Core) unfollow(f *feed) {
	r := &f.remote
	if r.id == 0 {
		return
	}
	a := c.askTo(r.store)
	a.End = append(a.End, r.id)
	c.forgetFollow(f)
}

func (c *Core) forgetFollow(f *feed) {
	delete(c.follows, f.remote.id)
	f.remote.id, f.remote.asked, f.remote.part = 0, 0, nil
}

// takeNews takes what another store says of feeds.
func (c *Core) takeNews(from metapb.StoreID, n *peerpb.FeedNews) {
	for i := range n.Changes {
		ch := &n.Changes[i]
		f := c.follows[ch.Feed]
		if f == nil || f.remote.store != from {
			if !ch.Over {
				a := c.askTo(from) // it was begun before the link was lost
				a.End = append(a.End, ch.Feed)
			}
			continue
		}
		c.takeEvents(f, ch.Events, ch.Through)
		c.toldUpTo(f, ch.Through)
		if ch.Over {
			c.followOver(f, ch.Compacted)
		}
	}
	c.taken[from] = c.taken[from].plus(n)
	if c.taken[from].bytes >= c.cfg.FeedBytesMax/8 {
		c.askTo(from)
	}
}

// taken is what a store was not told yet that it was taken.
type taken struct{ count, bytes int }

func (t taken) plus(n *peerpb.FeedNews) taken { return taken{t.count + n.Count, t.bytes + n.Bytes} }

// takeEvents takes a feed's next events, whole revisions. Of one above through this is a part:
// it waits for the rest, since all of it comes again if that is lost.
func (c *Core) takeEvents(f *feed, list []peerpb.FeedEvent, through Revision) {
	r := &f.remote
	for len(list) > 0 {
		n := 1
		for n < len(list) && list[n].Row.ModRevision == list[0].Row.ModRevision {
			n++
		}
		if u := newFeedUpdate(list[:n]); u.rev > through {
			r.part = append(r.part, u)
			r.askedAt = c.now // it does tell: begun anew it would not get further
		} else if u.rev > r.at {
			for _, p := range r.part {
				c.took(f, p)
			}
			r.part = nil
			c.took(f, u)
		}
		list = list[n:]
	}
}

// newFeedUpdate makes an update of the events of one revision. The bytes are copied:
// those of what came with them are not kept for long.
func newFeedUpdate(list []peerpb.FeedEvent) *update {
	u := &update{rev: Revision(list[0].Row.ModRevision), events: make([]Event, len(list))}
	fillEvents(u.events, list)
	for i := range u.events {
		ev := &u.events[i]
		ev.update = u
		u.size += ev.bytesFor(true)
	}
	return u
}

// fillEvents makes events of what another store says, with what was before them.
func fillEvents(events []Event, list []peerpb.FeedEvent) {
	size := 0
	for i := range list {
		if size += len(list[i].Row.Key) + len(list[i].Row.Value); list[i].Prev != nil {
			size += len(list[i].Prev.Value)
		}
	}
	arena := make([]byte, 0, size)
	for i := range list {
		e, ev := &list[i], &events[i]
		ev.Revision, ev.Sub, ev.Tombstone = e.Row.ModRevision, e.Sub, e.Tombstone
		ev.CreateRevision, ev.Version, ev.Lease = e.Row.CreateRevision, e.Row.Version, e.Row.Lease
		ev.Key, arena = copyInto(arena, e.Row.Key)
		ev.Value, arena = copyInto(arena, e.Row.Value)
		ev.prevRead = true
		if p := e.Prev; p != nil {
			kv := &mvccpb.KeyValue{
				Key: ev.Key, CreateRevision: p.CreateRevision, ModRevision: p.ModRevision, Version: p.Version, Lease: p.Lease,
			}
			kv.Value, arena = copyInto(arena, p.Value)
			ev.PrevKV = kv
		}
	}
}

// toldUpTo notes that everything of a feed up to a revision is here.
func (c *Core) toldUpTo(f *feed, rev Revision) {
	r := &f.remote
	if rev > r.at {
		c.heardOf(f)
	}
	if r.at = max(r.at, rev); !f.bounded || f.bound <= rev {
		c.setBound(f, rev+1)
		c.current = max(c.current, rev)
	}
	if r.asked != 0 && rev >= r.asked {
		if r.asked = 0; f.wanted > rev {
			c.askFollowed(f)
		}
	}
}

// askFollowed asks how far a feed is that is followed, one question at a time.
func (c *Core) askFollowed(f *feed) {
	r := &f.remote
	if r.id == 0 || r.asked != 0 {
		return
	}
	r.asked, r.askedAt = f.wanted, c.now
	a := c.askTo(r.store)
	a.Wants = append(a.Wants, peerpb.FeedWant{Feed: r.id, Revision: r.asked})
}

// followOver takes the end of a feed: the store has it no more, or what comes next is
// compacted there.
func (c *Core) followOver(f *feed, compacted Revision) {
	c.forgetFollow(f)
	if compacted <= f.remote.at+1 {
		f.remote.failed = true
		return
	}
	c.compacted = max(c.compacted, compacted)
	c.rings.cut(&f.ring, compacted-1)
	for _, g := range f.groups {
		g.lostTo = max(g.lostTo, f.ring.low)
		c.activate(g)
	}
	c.follow(f)
}

// lostStore says that what was said to and by a store may be lost.
func (c *Core) lostStore(store metapb.StoreID) {
	if s := c.followers[store]; s != nil {
		delete(c.followers, store)
		c.Close(s.id)
	}
	delete(c.asksTo, store)
	delete(c.taken, store)
	for _, f := range c.feeds {
		if f.remote.id != 0 && f.remote.store == store {
			c.forgetFollow(f)
			f.remote.failed = true
			c.follow(f)
		}
	}
}

// followTick looks after what is followed.
func (c *Core) followTick() {
	if !c.asks {
		return
	}
	for store := range c.taken { // any order: they are sorted when they go
		c.askTo(store)
	}
	check := c.now >= c.followCheckAt
	if check {
		c.followCheckAt = c.now.Add(followCheck)
	}
	if !c.absents {
		return // thousands of feeds are looked at in vain else
	}
	c.absents = false
	for _, f := range c.feeds {
		r := &f.remote
		c.absents = c.absents || f.absent
		switch {
		case !f.absent:
		case r.id == 0:
			c.follow(f)
		case len(f.groups) == 0:
			if r.idleAt == 0 {
				r.idleAt = max(c.now, 1)
			} else if c.now.Sub(r.idleAt) >= followLinger {
				c.unfollow(f)
			}
		case r.asked != 0 && c.now.Sub(r.askedAt) >= followPatience:
			c.unfollow(f)
			r.failed = true
			c.follow(f)
		default:
			r.idleAt = 0
			if check && f.closed(c.current) < c.current {
				f.wanted = max(f.wanted, c.current)
				c.askFollowed(f)
			}
		}
	}
}

// askTo returns what is to be asked of a store next.
func (c *Core) askTo(store metapb.StoreID) *peerpb.FeedAsk {
	a := c.asksTo[store]
	if a == nil {
		a = &peerpb.FeedAsk{}
		c.asksTo[store] = a
	}
	return a
}

// takeFeedsOut hands out what is to be said to other stores.
func (c *Core) takeFeedsOut() []FeedOutput {
	out := c.feedsOut
	c.feedsOut = nil
	if len(c.asksTo) == 0 {
		return out
	}
	begin := len(out)
	for store, a := range c.asksTo {
		if t, ok := c.taken[store]; ok {
			a.TakenCount, a.TakenBytes = t.count, t.bytes
			delete(c.taken, store)
		}
		for first := cutBegins(a, c.cfg.NewsBytesMax); first != nil; first = cutBegins(a, c.cfg.NewsBytesMax) {
			out = append(out, FeedOutput{Store: store, Ask: first})
		}
		out = append(out, FeedOutput{Store: store, Ask: a})
		delete(c.asksTo, store)
	}
	slices.SortStableFunc(out[begin:], func(a, b FeedOutput) int { return int(a.Store) - int(b.Store) })
	return out
}

// cutBegins takes off an ask the first of the feeds that it begins, if they are more than
// may be sent at once; else it returns nil.
func cutBegins(a *peerpb.FeedAsk, bytesMax int) *peerpb.FeedAsk {
	bytes := 0
	for i := range a.Begin {
		if bytes += len(a.Begin[i].Start) + len(a.Begin[i].End); bytes > bytesMax && i > 0 {
			first := &peerpb.FeedAsk{Begin: a.Begin[:i:i]}
			a.Begin = a.Begin[i:]
			return first
		}
	}
	return nil
}
