package raftgroup

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/flotilladb/flotilla/internal/clock"
	"github.com/flotilladb/flotilla/proto/metapb"
)

// LivenessConfig describes a store's part in the promises between stores. Zero
// values take their defaults.
type LivenessConfig struct {
	Store metapb.StoreID
	// Start grows with every start of the store, also after a crash.
	Start uint64
	// ElectionTimeout is the length of a promise. Default 1 s.
	ElectionTimeout time.Duration
	// HeartbeatInterval is how often a store talks to another one. Default 100 ms.
	HeartbeatInterval time.Duration
	// MaxClockDrift bounds how much faster, relatively, one store's clock may run
	// than another's. Default 0.05.
	MaxClockDrift float64
	// EarlierPromise is the longest promise that an earlier start of this store may
	// have given. Default ElectionTimeout.
	EarlierPromise time.Duration
	// TiesMax bounds every list of one message. Default 4,096.
	TiesMax int
	// Replicas knows whom this store's replicas follow.
	Replicas Followers
}

// Followers knows the replicas of a store.
type Followers interface {
	// Follows reports whether the store's replica of a range is in the term and
	// takes a store's replica for its leader.
	Follows(rangeID metapb.RangeID, term uint64, leader metapb.StoreID) bool
}

// Validate reports what is wrong with the configuration.
func (c *LivenessConfig) Validate() error {
	switch {
	case c.Store == 0:
		return errors.New("raftgroup: liveness without a store id")
	case c.Replicas == nil:
		return errors.New("raftgroup: liveness without replicas")
	case c.MaxClockDrift < 0 || c.MaxClockDrift >= 1:
		return errors.New("raftgroup: MaxClockDrift is not in [0, 1)")
	case c.ElectionTimeout < c.HeartbeatInterval:
		return errors.New("raftgroup: ElectionTimeout is below HeartbeatInterval")
	}
	return nil
}

func (c *LivenessConfig) setDefaults() {
	if c.ElectionTimeout == 0 {
		c.ElectionTimeout = time.Second
	}
	if c.HeartbeatInterval == 0 {
		c.HeartbeatInterval = c.ElectionTimeout / 10
	}
	if c.MaxClockDrift == 0 {
		c.MaxClockDrift = 0.05
	}
	c.EarlierPromise = max(c.EarlierPromise, c.ElectionTimeout)
	setDefault(&c.TiesMax, 4096)
}

// Tie names the leadership of a range in a term.
type Tie struct {
	Range metapb.RangeID
	Term  uint64
}

// LivenessMessage is what one store tells another about promises, for all ranges
// that they share. It may be lost, doubled and late.
type LivenessMessage struct {
	FromStart uint64
	// ToStart is the receiver's start as the sender knows it; 0, none. What answers
	// something is for that start alone.
	ToStart uint64
	// Beat says that this is a heartbeat and wants an answer; Ask, that it wants a
	// promise. Sent is its time on the sender's clock, which the answer shows again.
	Beat, Ask bool
	Sent      clock.Time
	// Answer says that this answers the heartbeat that was sent at Echo, with a
	// promise of that length from its arrival on, or, if 0, with none.
	Answer  bool
	Echo    clock.Time
	Promise time.Duration
	// Epoch is that of the sender's promises to the receiver. It goes with Promise
	// and Follows.
	Epoch uint64
	// Questions ask whether the receiver's replicas follow the sender's; Follows
	// and Refuses answer that.
	Questions, Follows, Refuses []Tie
	// Releases are leaderships that the sender has no more, numbered from
	// ReleaseFirst on. Released is the highest number that the sender got.
	ReleaseFirst uint64
	Releases     []Tie
	Released     uint64
	// Asks want to know which of these the receiver still has.
	Asks []Tie
}

// LivenessOutput is a message and the store that it is for.
type LivenessOutput struct {
	To      metapb.StoreID
	Message *LivenessMessage
}

// LivenessEvents are changes that the owner of the replicas has to act on.
type LivenessEvents struct {
	// Lapsed are stores to which a promise has run out: replicas that follow one
	// of theirs may look for another leader.
	Lapsed []metapb.StoreID
	// Returned are stores that are heard again, or for the first time; Restarted
	// those of them that began anew and know nothing of before.
	Returned, Restarted []metapb.StoreID
	// Released are leaderships that a store gave up.
	Released []Released
	// Unknown are ranges led here of which a follower does not know it: their
	// leaders must tell them.
	Unknown []metapb.RangeID
}

// Released is a leadership that a store no longer has.
type Released struct {
	Tie
	From metapb.StoreID
}

// Liveness is a store's part in the promises that leaderLeases rest on. DESIGN.md
// has the protocol. It is a core: its owner calls
//
//	Tick        often: several times in a HeartbeatInterval
//	Step        for every message of another store
//	WantsSync   when it looks for work: if so it has the disk synced, and tells
//	            Synced when that sync began
//	Ready       after any of them: messages to send, on a lane of their own
//	Events      the same: what they mean for the replicas
//
// The time that it is told is never before what was received or read when the
// clock was read: a turn takes its input first, and then the time.
type Liveness struct {
	cfg   LivenessConfig
	lease time.Duration // what a promise of ElectionTimeout is worth, for tests
	now   clock.Time
	begun bool // was told the time
	// votesFrom is when every promise of an earlier start has run out.
	votesFrom clock.Time

	peers []*livenessPeer // by store
	leads map[metapb.RangeID]*Leadership
	sets  map[string]*replicaSet
	// version grows when any promise to us changed.
	version uint64

	nextBeat clock.Time
	// asking: promises are to be asked for as soon as a sync ended that began at
	// periodStart or later.
	asking      bool
	periodStart clock.Time
	wantsSync   bool

	dirty  bool // Ready has something
	events LivenessEvents
}

// livenessPeer is another store.
type livenessPeer struct {
	store  metapb.StoreID
	wanted bool   // shares a range with this store
	start  uint64 // the highest heard of; 0 before
	heard  clock.Time
	live   bool

	// What this store promised to it: no replica in bound votes for another than
	// its replica while the promise runs. Terms are those it is followed in.
	epoch      uint64
	until      clock.Time
	promised   bool // the promise runs, as far as Tick saw
	bound      map[metapb.RangeID]uint64
	releasedTo uint64

	// What it promised to this store, on this store's clock. stamp is never 0 and
	// changes with its start and epoch.
	theirEpoch uint64
	theirUntil clock.Time
	stamp      uint64

	// fresh and sent are leaderships that its replicas are not known to follow:
	// not asked yet, and asked.
	fresh, sent []*Leadership
	// releases are not acknowledged, the first has number releaseFirst.
	releases     []Tie
	releaseFirst uint64
	// What goes into the next message.
	beat, ask, answer, talk bool
	echo                    clock.Time
	promise                 time.Duration
	follows, refuses, asks  []Tie
}

// NewLiveness returns the liveness of a store that starts. Until it is told the
// time, and for the length of a promise after, no replica may vote.
func NewLiveness(cfg LivenessConfig) (*Liveness, error) {
	cfg.setDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	l := &Liveness{
		cfg:   cfg,
		leads: make(map[metapb.RangeID]*Leadership),
		sets:  make(map[string]*replicaSet),
	}
	l.lease = l.worth(cfg.ElectionTimeout)
	return l, nil
}

// worth is how long a promise may be counted on, from the sending of the
// heartbeat that asked for it: while the store that gave it counts it down on
// a clock that may be faster.
func (l *Liveness) worth(promise time.Duration) time.Duration {
	return time.Duration(float64(promise) * (1 - l.cfg.MaxClockDrift))
}

// SetPeers says which stores share a range with this one.
func (l *Liveness) SetPeers(stores []metapb.StoreID) {
	for _, p := range l.peers {
		p.wanted = false
	}
	for _, s := range stores {
		if s != l.cfg.Store {
			l.ensurePeer(s).wanted = true
		}
	}
}

// ensurePeer returns the peer, a new one if it was not known. Peers stay: a
// promise that was given to one binds.
func (l *Liveness) ensurePeer(store metapb.StoreID) *livenessPeer {
	i, ok := slices.BinarySearchFunc(l.peers, store, comparePeer)
	if !ok {
		p := &livenessPeer{store: store, wanted: true, epoch: 1, stamp: 1, releaseFirst: 1, bound: make(map[metapb.RangeID]uint64)}
		l.peers = slices.Insert(l.peers, i, p)
		p.talk, l.dirty = true, true
	}
	return l.peers[i]
}

func (l *Liveness) peer(store metapb.StoreID) *livenessPeer {
	if i, ok := slices.BinarySearchFunc(l.peers, store, comparePeer); ok {
		return l.peers[i]
	}
	return nil
}

func comparePeer(p *livenessPeer, store metapb.StoreID) int { return cmp.Compare(p.store, store) }

// SetNow tells the time and nothing else.
func (l *Liveness) SetNow(now clock.Time) {
	if !l.begun {
		l.begun, l.now = true, now
		l.votesFrom = now.Add(l.cfg.EarlierPromise)
		l.nextBeat = now
	}
	l.now = max(l.now, now)
}

// Tick tells the time.
func (l *Liveness) Tick(now clock.Time) {
	l.SetNow(now)
	for _, p := range l.peers {
		if p.promised && !l.now.Before(p.until) {
			p.promised = false
			l.events.Lapsed = append(l.events.Lapsed, p.store)
		}
		p.live = p.live && l.isLive(p)
	}
	if l.now.Before(l.nextBeat) || !l.hasPeers() {
		return
	}
	l.nextBeat = l.now.Add(l.cfg.HeartbeatInterval)
	if l.asking {
		// The disk is slow. What is to be said besides is not held up by that.
		l.beatAll(false)
		return
	}
	l.asking, l.wantsSync, l.periodStart = true, true, l.now
}

func (l *Liveness) hasPeers() bool {
	for _, p := range l.peers {
		if p.wanted {
			return true
		}
	}
	return false
}

// beatAll has all peers told that this store lives. One that was heard once and is no more
// is asked for no promise, be it that it hears all: none would arrive here, and those that it
// gave would hold it to leaders that can do nothing.
func (l *Liveness) beatAll(ask bool) {
	for _, p := range l.peers {
		if p.wanted {
			p.beat, p.ask = true, p.ask || ask && (p.start == 0 || l.isLive(p))
			l.dirty = true
		}
	}
}

// WantsSync reports whether a sync of the disk should begin now, if only of what
// was written before: without one no promises are asked for.
func (l *Liveness) WantsSync() bool { return l.wantsSync }

// SyncBegins says that a sync begins now, so that none is wanted.
func (l *Liveness) SyncBegins() { l.wantsSync = false }

// Synced says that a sync of the disk ended and when it began. A store whose disk
// stalls asks for no promises, and so loses its leaders.
func (l *Liveness) Synced(began, now clock.Time) {
	l.SetNow(now)
	if l.asking && !began.Before(l.periodStart) {
		l.asking, l.wantsSync = false, false
		l.beatAll(true)
	}
}

// Live reports whether a store was heard of in the length of a promise.
func (l *Liveness) Live(store metapb.StoreID) bool {
	if store == l.cfg.Store {
		return true
	}
	p := l.peer(store)
	return p != nil && l.isLive(p)
}

func (l *Liveness) isLive(p *livenessPeer) bool {
	return p.start != 0 && l.now.Before(p.heard.Add(l.cfg.ElectionTimeout))
}

// Promised reports whether a promise of this store to another one runs.
func (l *Liveness) Promised(store metapb.StoreID) bool {
	p := l.peer(store)
	return p != nil && l.now.Before(p.until)
}

// Events returns what happened since the last call.
func (l *Liveness) Events() LivenessEvents {
	ev := l.events
	l.events = LivenessEvents{}
	return ev
}

// HasEvents reports whether Events has any.
func (l *Liveness) HasEvents() bool {
	ev := &l.events
	return len(ev.Lapsed)+len(ev.Returned)+len(ev.Restarted)+len(ev.Released)+len(ev.Unknown) > 0
}

// ElectionTimeout is the length of a promise.
func (l *Liveness) ElectionTimeout() time.Duration { return l.cfg.ElectionTimeout }

// HeartbeatInterval is how often a store talks to another one.
func (l *Liveness) HeartbeatInterval() time.Duration { return l.cfg.HeartbeatInterval }

// String shows the promises, for tests.
func (l *Liveness) String() string {
	var out strings.Builder
	for _, p := range l.peers {
		fmt.Fprintf(&out, "store %d: start %d", p.store, p.start)
		if left := p.until.Sub(l.now); left > 0 {
			fmt.Fprintf(&out, ", promised for %v", left)
		}
		fmt.Fprintf(&out, ", epoch %d, bound %d", p.epoch, len(p.bound))
		if left := p.theirUntil.Sub(l.now); left > 0 {
			fmt.Fprintf(&out, ", promises for %v", left)
		}
		fmt.Fprintf(&out, ", epoch %d\n", p.theirEpoch)
	}
	return out.String()
}
