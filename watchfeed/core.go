package watchfeed

import (
	"bytes"
	"errors"
	"slices"
	"sort"
	"time"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/internal/clock"
	"github.com/flotilladb/flotilla/internal/invariant"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/peerpb"
)

// CoreConfig tunes a Core.
type CoreConfig struct {
	// Reader is where the values before events are read.
	Reader engine.Reader
	// RingBytesMax bounds the recent events that are kept for who comes back, also
	// while nobody watches. Default 8 MiB: what is older is read from the engine,
	// whose newest tables it is in. With 32 MiB a node that takes puts has 100 MB
	// more, since what is kept also makes room for garbage.
	RingBytesMax int
	// CatchUpBytesMax bounds what was read from the engine for watchers that catch
	// up and is not sent yet; WindowBytesMax what is read at a time. Defaults 128
	// and 32 MiB.
	CatchUpBytesMax, WindowBytesMax int
	// ScansMax is how many reads of each source may be under way. Default 2.
	ScansMax int
	// ResponseBytesMax is about how many bytes of events a watcher gets in one
	// response. Default 256 KiB.
	ResponseBytesMax int
	// StreamsMax bounds the streams. Default 65,536.
	StreamsMax int
	// FeedBytesMax bounds the events that another store was sent and has not taken; a
	// response may go over. Default 4 MiB.
	FeedBytesMax int
	// NewsBytesMax bounds what another store is told, or asked, at once; one event, or feed,
	// may go over.
	// Default 512 KiB.
	NewsBytesMax int
	// ProgressInterval is how long a watch that wants progress is idle before it
	// hears of it. Default 10 minutes.
	ProgressInterval time.Duration
	// StallMax is how long what was read for streams that do not read it is kept
	// when others want the room. Default 1 s.
	StallMax time.Duration
	// NoLeaderAfter is how long a range may not go on before streams that want a
	// leader are ended. Default 3 s.
	NoLeaderAfter time.Duration
}

// Validate reports what is wrong with the configuration.
func (c *CoreConfig) Validate() error {
	switch {
	case c.Reader == nil:
		return errors.New("watchfeed config: no reader")
	case c.RingBytesMax < 0 || c.CatchUpBytesMax < 0 || c.WindowBytesMax < 0 || c.ScansMax < 0 ||
		c.ResponseBytesMax < 0 || c.StreamsMax < 0 || c.FeedBytesMax < 0 || c.NewsBytesMax < 0:
		return errors.New("watchfeed config: a bound is negative")
	case c.ProgressInterval < 0 || c.StallMax < 0 || c.NoLeaderAfter < 0:
		return errors.New("watchfeed config: a duration is negative")
	}
	return nil
}

func (c *CoreConfig) setDefaults() {
	setDefault(&c.RingBytesMax, 8<<20)
	setDefault(&c.CatchUpBytesMax, 128<<20)
	setDefault(&c.WindowBytesMax, 32<<20)
	setDefault(&c.ScansMax, 2)
	setDefault(&c.ResponseBytesMax, 256<<10)
	setDefault(&c.StreamsMax, 1<<16)
	setDefault(&c.FeedBytesMax, feedBytesMax)
	setDefault(&c.NewsBytesMax, 512<<10)
	if c.ProgressInterval == 0 {
		c.ProgressInterval = 10 * time.Minute
	}
	if c.StallMax == 0 {
		c.StallMax = time.Second
	}
	if c.NoLeaderAfter == 0 {
		c.NoLeaderAfter = 3 * time.Second
	}
	// One window must always fit.
	c.CatchUpBytesMax = max(c.CatchUpBytesMax, c.WindowBytesMax)
}

// Stats count what a Core does.
type Stats struct {
	Streams, Watches int
	Groups           int
	// Catching are the watches that are not synced.
	Catching int
	// Delivered counts events given to watches; FellBehind synced watches that
	// found no room in their stream; Scans reads of the engine.
	Delivered, FellBehind, Scans uint64
	RingBytes, WindowBytes       int
}

// Core decides what every watcher gets, and when. It is driven by one owner:
// Step, Tick, Create and the like say what happened, Ready says what to do.
type Core struct {
	cfg       CoreConfig
	now       clock.Time
	current   Revision
	compacted Revision

	feeds   []*feed // by start; they tile the client keys
	byRange map[metapb.RangeID]*feed
	gaps    metapb.RangeID // made-up ids of absent feeds
	bounded []*feed        // with a bound, in no order
	rings   rings
	groups  []*group // in no order that means anything
	active  []*group // with something held, each once

	streams map[StreamID]*stream
	last    StreamID
	// leaderStreams counts those whose clients want a leader.
	leaderStreams int
	dirty         []*stream // with something for Ready, each once
	asking        []*stream // want progress, each once

	poked    []*place // to be looked at: some watcher may catch up
	queues   [sources]queue
	scans    map[uint64]*scan // under way
	lastScan uint64
	// windowBytes are what windows hold and scans under way may bring.
	windowBytes int
	newScans    []Scan
	retries     []*scan
	windows     map[*window]*place
	ahead       aheadQueue
	idle        deque[progressDue]
	idleGone    int // in idle, and canceled
	tells       tells

	// asks: how far ranges are closed comes by itself only when somebody wants it.
	asks  bool
	wants []Want

	// Of feeds of other stores: follows are those followed there, by id, asksTo what is
	// to be asked of each; followers are the streams of those that follow some here.
	follows       map[uint64]*feed
	lastFollow    uint64
	followCheckAt clock.Time
	// absents: there may be feeds that are absent.
	absents   bool
	asksTo    map[metapb.StoreID]*peerpb.FeedAsk
	followers map[metapb.StoreID]*stream
	taken     map[metapb.StoreID]taken
	feedsOut  []FeedOutput

	scratch []*Event
	touches []touch
	stats   Stats
}

// NewCore returns a core that knows nothing yet.
func NewCore(cfg CoreConfig) (*Core, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg.setDefaults()
	c := &Core{
		cfg:       cfg,
		compacted: -1,
		byRange:   make(map[metapb.RangeID]*feed),
		rings:     rings{bytesMax: cfg.RingBytesMax},
		streams:   make(map[StreamID]*stream),
		scans:     make(map[uint64]*scan),
		windows:   make(map[*window]*place),
		follows:   make(map[uint64]*feed),
		asksTo:    make(map[metapb.StoreID]*peerpb.FeedAsk),
		followers: make(map[metapb.StoreID]*stream),
		taken:     make(map[metapb.StoreID]taken),
	}
	c.addGap(nil, 0) // a store may have no range of client keys
	return c, nil
}

// Stats returns the core's figures.
func (c *Core) Stats() Stats {
	s := c.stats
	s.Streams, s.Groups = len(c.streams), len(c.groups)
	s.RingBytes, s.WindowBytes = c.rings.bytes, c.windowBytes
	return s
}

// Step takes in what a step of the store made readable.
func (c *Core) Step(s *Step) {
	var unknown []*RangeUpdates
	for i := range s.Applied {
		if a := &s.Applied[i]; !c.applied(a) {
			unknown = append(unknown, a) // of a range that the same step brought
		}
	}
	through := max(s.Current, s.Reached)
	for _, id := range s.Removed {
		c.leave(id, through)
	}
	c.descriptors(s.Descriptors, through)
	for _, a := range unknown {
		c.appliedNew(a, s)
	}
	for _, b := range s.Bounds {
		if f := c.byRange[b.Range]; f != nil && !f.absent {
			f.floor = f.closed(c.current)
			c.setBound(f, b.Bound)
		}
	}
	for _, id := range s.Lost {
		c.lost(id, through)
	}
	if len(s.Lost) > 0 {
		// What was lost of a range may lie in one that was cut off from it since.
		for _, d := range s.Descriptors {
			c.lost(d.ID(), through)
		}
	}
	if c.current == 0 && s.Current > 0 {
		// What was applied while the store started is not all here.
		for _, f := range c.feeds {
			c.lost(f.id, through)
		}
	}
	c.current = max(c.current, s.Current)
	c.compacted = max(c.compacted, s.Compacted)
	if s.Asks && !c.asks {
		c.asks = true
		c.followAll()
	}
	for i := range s.Feeds {
		c.takeFeed(&s.Feeds[i])
	}
	c.reachAhead()
}

// applied takes a range's updates. It reports whether the range is known.
func (c *Core) applied(a *RangeUpdates) bool {
	f := c.byRange[a.Range]
	if f == nil {
		return false
	}
	us := newUpdates(a.Updates)
	for i := range us {
		u := &us[i]
		if f.overhang {
			u, _ = u.split(c.endOf(f)) // the rest comes from elsewhere
		}
		if u != nil {
			c.took(f, u)
		}
	}
	return true
}

// appliedNew takes the updates of a range that its step brought. It may have been split in
// the same step: then they are where their keys are now.
func (c *Core) appliedNew(a *RangeUpdates, s *Step) {
	f := c.byRange[a.Range]
	if f == nil {
		here := func(d *metapb.Descriptor) bool { return d.ID() == a.Range }
		invariant.Check(slices.Contains(s.Removed, a.Range) || slices.ContainsFunc(s.Descriptors, here), "updates of range %d, which is unknown", a.Range)
		return // it left, or gave all its client keys up: they come from elsewhere
	}
	us := newUpdates(a.Updates)
	for i := range us {
		c.tookFrom(f, &us[i])
	}
}

// tookFrom takes an update at the feeds that hold its keys, from f on. What is behind an
// overhang, or on no replica here, comes from elsewhere.
func (c *Core) tookFrom(f *feed, u *update) {
	for !f.absent {
		end := c.endOf(f)
		if end == nil {
			c.took(f, u)
			return
		}
		left, rest := u.split(end)
		if left != nil {
			c.took(f, left)
		}
		if rest == nil || f.overhang {
			return
		}
		f, u = c.feeds[f.pos+1], rest
	}
}

// took takes an update of a feed.
func (c *Core) took(f *feed, u *update) {
	c.rings.add(&f.ring, u)
	for _, g := range f.groups {
		g.hold(u)
		c.activate(g)
	}
}

// lost says that updates of a range up to a revision did not come. Groups over it
// read the engine instead.
func (c *Core) lost(id metapb.RangeID, through Revision) {
	f := c.byRange[id]
	if f == nil {
		return
	}
	c.rings.cut(&f.ring, max(through, c.current))
	for _, g := range f.groups {
		g.lostTo = max(g.lostTo, f.ring.low)
		c.activate(g)
	}
}

func (c *Core) setBound(f *feed, bound Revision) {
	f.bound = bound
	is := bound != NoBound
	if is == f.bounded {
		return
	}
	f.bounded = is
	if is {
		f.boundedAt = len(c.bounded)
		c.bounded = append(c.bounded, f)
		return
	}
	last := len(c.bounded) - 1
	c.bounded[f.boundedAt] = c.bounded[last]
	c.bounded[f.boundedAt].boundedAt = f.boundedAt
	c.bounded[last] = nil
	c.bounded = c.bounded[:last]
}

// feedAt returns the place of the feed that holds a user key.
func (c *Core) feedAt(key []byte) int {
	return max(0, sort.Search(len(c.feeds), func(i int) bool { return bytes.Compare(c.feeds[i].start, key) > 0 })-1)
}

// run returns the feeds over a key (end nil) or a span.
func (c *Core) run(key, end []byte) (lo, hi *feed) {
	i := c.feedAt(key)
	j := i
	switch {
	case end == nil:
	case len(end) == 0:
		j = len(c.feeds) - 1
	default:
		j = max(i, sort.Search(len(c.feeds), func(i int) bool { return bytes.Compare(c.feeds[i].start, end) >= 0 })-1)
	}
	return c.feeds[i], c.feeds[j]
}

// Scan asks for the versions of the client keys in [Start, End), an empty End
// being the end of the keyspace, with a revision in (From, To].
type Scan struct {
	ID         uint64
	Start, End []byte
	From, To   Revision
	BytesMax   int
	// Prev wants the value before each event.
	Prev bool
	// Parts cut [Start, End) into what is here and what must be asked for; nil: all of
	// it is here.
	Parts []Part
	// Middle is where the scan may be cut in two, to be read side by side; nil: it is
	// not worth it.
	Middle []byte
}

// Part is a part of what a Scan reads, as user keys; nil End: to the end of the
// keyspace.
type Part struct {
	Start, End []byte
	Here       bool
}

// Output is what a stream's client is to be told.
type Output struct {
	Stream StreamID
	// Responses are in order, and valid until the next call of Ready.
	Responses []Response
	// Full: the core wants to hear at once, by Drained, whenever some are taken,
	// until all are.
	Full bool
}

// Ready is what the core's owner must do.
type Ready struct {
	// Wants are ranges that are to be closed; their Bounds are to come with a Step.
	Wants   []Want
	Feeds   []FeedOutput
	Scans   []Scan
	Outputs []Output
	// Asks says that what is current is to be asked for, for Current.
	Asks bool
}

// Ready releases what can be released, and hands out what there is to do. Scans
// are answered by Scanned, in any order.
func (c *Core) Ready() Ready {
	c.work()
	rd := Ready{Scans: c.newScans, Wants: c.takeWants(), Asks: c.takeTells()}
	c.newScans = nil
	for _, s := range c.dirty {
		s.dirty = false
		if s.closed {
			continue
		}
		if s.peer != 0 {
			if len(s.out) > 0 {
				for _, n := range news(s.out, c.cfg.NewsBytesMax) {
					rd.Feeds = append(rd.Feeds, FeedOutput{Store: s.peer, News: n})
				}
				clear(s.out)
				s.out = s.out[:0]
			}
			continue
		}
		rd.Outputs = append(rd.Outputs, Output{Stream: s.id, Responses: s.out, Full: len(s.blocked) > 0 || s.asked != 0})
		s.out, s.spare = s.spare[:0], s.out
	}
	clear(c.dirty)
	c.dirty = c.dirty[:0]
	rd.Feeds = append(rd.Feeds, c.takeFeedsOut()...)
	return rd
}

// work does all that can be done now.
func (c *Core) work() {
	active := c.active
	c.active = nil
	for _, g := range active {
		g.active = false
		c.advance(g)
		if g.at >= 0 {
			c.activate(g)
			c.wantHeld(g)
		}
	}
	poked := c.poked
	c.poked = nil
	for _, p := range poked {
		p.more.poked = false
		c.catchUp(p)
		p.maybeLess()
	}
	c.startScans()
	c.answerProgress()
	c.wantProgress()
}

// HasWork reports whether Ready has something that it had not when it was called
// last. What groups hold back waits for a Step.
func (c *Core) HasWork() bool {
	return len(c.poked) > 0 || len(c.dirty) > 0 || len(c.newScans) > 0 || len(c.wants) > 0 ||
		len(c.feedsOut)+len(c.asksTo) > 0 || c.tells.ask
}

// Tick tells the time.
func (c *Core) Tick(now clock.Time) {
	c.now = now
	c.progressTick()
	c.dropStalled()
	c.stuckTick()
	c.followTick()
	retries := c.retries
	c.retries = nil
	for _, s := range retries {
		c.again(s)
	}
}

// readPrevs reads the values before events, where that was not done.
// False: the engine cannot read one.
func (c *Core) readPrevs(events []*Event) bool {
	for _, ev := range events {
		switch {
		case ev.prevRead:
		case !ev.Tombstone && ev.Version == 1:
			ev.prevRead = true // it was not there
		case !c.readPrev(ev):
			return false
		}
	}
	return true
}

func (c *Core) poke(p *place) {
	if x := p.more; x != nil && !x.poked && len(x.catching) > 0 {
		x.poked = true
		c.poked = append(c.poked, p)
	}
}

// deleteItem removes one item of a slice, and keeps the order.
func deleteItem[T comparable](s []T, item T) []T {
	return slices.DeleteFunc(s, func(o T) bool { return o == item })
}
