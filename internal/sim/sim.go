package sim

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime/debug"
	"time"

	"github.com/flotilladb/flotilla/internal/clock"
	"github.com/flotilladb/flotilla/internal/model"
	"github.com/flotilladb/flotilla/proto/metapb"
)

// Sim is one run. Everything in it happens in the goroutine of Run, or in
// coroutines that Run switches to and back from.
type Sim struct {
	cfg    Config
	now    clock.Time
	events eventHeap
	// One generator per actor, so that a longer draw of one does not change what
	// all others do.
	faults, disk, load, watching *rand.Rand

	nodes []*simNode
	net   *network
	// current is the highest revision that a node has known to be given out.
	current  int64
	clients  []*client
	watchers []*watchClient
	watched  []*simWatch // all watches that there ever were
	// compacted is the highest compacted revision that a node has shown.
	compacted int64
	gen       *model.Generator
	hist      *history
	// pausing are the readers that stand still, in the order in which they came.
	pausing  []*client
	ending   bool // no new requests, no faults
	damaged  *damaged
	places   places
	grown    bool // the one store is, or may be, about to be one of several
	trace    io.Writer
	failed   error
	stats    Stats
	happened int
}

// eventsMax is more than any run has.
const eventsMax = 2_000_000

// Stats say what a run had in it.
type Stats struct {
	Seeds                  int // of which these are the sums
	Ops, Unknown, Refused  int
	Reads                  int // of those who only read
	Writes, Crashes, Stops int
	Splits, Ranges, Steps  int
	Cuts, Freezes          int
	Snapshots, Moves       int
	Corrupt                int // replicas that were found to be
	Transfers              int
	// Asked are transfers that somebody asked for, Drained those of Stops before which
	// all leaders left.
	Asked, Drained int
	Orderly        int // runs without a fault
	// Joins, Lost, Aways and Leaves are of stores, Left those of Leaves that ended in order,
	// Added replicas that ranges got.
	Joins, Lost, Aways, Leaves, Left, Added int
	CutOffPuts                              int // answered while, or after, their node was cut off
	Grown                                   int
	Compactions                             int
	Watches, WatchEvents                    int
	WatchesCompacted                        int
	WatchScans                              int
	// WatchHistories are reads of what is not on the watch's node, FollowedEvents those
	// that came from other nodes.
	WatchHistories, FollowedEvents int
	Virtual                        time.Duration
}

// start is where virtual time begins; zero means "never" to some.
const start = clock.Time(time.Second)

// Run runs one configuration and returns what went wrong. Trace, if not nil,
// gets a line for all that happens.
func Run(cfg Config, trace io.Writer) (stats Stats, err error) {
	if err := cfg.Validate(); err != nil {
		return Stats{}, err
	}
	s := &Sim{
		cfg: cfg, now: start, trace: trace,
		faults: rand.New(rand.NewPCG(cfg.Seed, 2)),
		disk:   rand.New(rand.NewPCG(cfg.Seed, 3)),
		load:   rand.New(rand.NewPCG(cfg.Seed, 4)),

		watching: rand.New(rand.NewPCG(cfg.Seed, 5)),
	}
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic at %v: %v\n%s", s.elapsed(), p, debug.Stack())
		}
		for _, c := range s.clients {
			c.kill()
		}
	}()
	if s.gen, err = model.NewGenerator(cfg.Traffic, s.load); err != nil {
		return Stats{}, err
	}
	if s.hist, err = newHistory(cfg.Traffic.Limits); err != nil {
		return Stats{}, err
	}
	s.run()
	s.stats.Virtual = s.elapsed()
	return s.stats, s.failed
}

func (s *Sim) run() {
	s.net = newNetwork(s)
	for i := range s.cfg.Nodes {
		s.nodes = append(s.nodes, newNode(s, metapb.StoreID(i+1)))
	}
	for i := range s.cfg.Clients {
		s.clients = append(s.clients, newClient(s, i, s.nodes[i%len(s.nodes)]))
	}
	s.fail(s.newReaders())
	for i := range s.cfg.Watchers {
		s.watchers = append(s.watchers, newWatchClient(s, i, s.nodes[i%len(s.nodes)]))
	}
	for _, n := range s.nodes[:s.first()] {
		n.boot()
	}
	s.planFaults()
	s.planCutOff()
	s.planUpgrade()
	end := s.now.Add(s.cfg.Duration)
	for s.failed == nil && s.now < end && s.stats.Ops < s.cfg.OpsMax {
		s.happen()
	}
	s.ending = true
	s.tracef("quiet now")
	s.heal()
	s.settlePlaces()
	for _, w := range s.watchers {
		if !w.connected {
			w.reconnect()
		}
	}
	s.settle()
	s.corrupt()
	if s.failed == nil {
		s.fail(s.check())
	}
}

// shown is the highest revision that may show in an answer of a node now.
func (s *Sim) shown(n *simNode) int64 {
	if len(s.nodes) > 1 || s.grown {
		return s.current
	}
	current, _ := n.pub.Current()
	return int64(current)
}

// happen lets the next event happen.
func (s *Sim) happen() {
	if s.happened++; s.happened > eventsMax {
		s.fail(errors.New("events without end"))
		return
	}
	e := s.events.next()
	s.now = max(s.now, e.at)
	e.do()
}

// after plans an event.
func (s *Sim) after(d time.Duration, do func()) { s.events.plan(s.now.Add(d), do) }

// settleMax is how long what is under way may take to end.
const settleMax = time.Minute

// settle runs until nothing is under way.
func (s *Sim) settle() {
	end := s.now.Add(settleMax)
	for s.failed == nil {
		s.pass()
		why := s.busy()
		if why == "" || s.failed != nil {
			return
		}
		if s.now > end {
			s.picture()
			s.fail(fmt.Errorf("not quiet after %v: %s", settleMax, why))
		}
	}
}

// pass lets some time pass, not in step with what is done every 20, 50 or 100 ms.
func (s *Sim) pass() {
	const pause = 37 * time.Millisecond
	next := s.now.Add(pause)
	s.after(pause, func() {})
	for s.failed == nil && s.now < next {
		s.happen()
	}
}

// busy says what is under way still.
func (s *Sim) busy() string {
	for _, c := range s.clients {
		if c.op != nil {
			return fmt.Sprintf("client %d waits for %s", c.id, describe(c.op.req))
		}
	}
	for _, n := range s.nodes {
		if n.away() {
			continue
		}
		if why := n.busyWith(); why != "" {
			return fmt.Sprintf("node %d: %s", n.id, why)
		}
	}
	if d := s.damaged; d != nil && !d.over() {
		return "a corrupt replica was not replaced"
	}
	for _, w := range s.watchers {
		if why := w.busy(s.current); why != "" {
			return why
		}
	}
	return ""
}

func (s *Sim) elapsed() time.Duration { return s.now.Sub(start) }

func (s *Sim) fail(err error) {
	if err != nil && s.failed == nil {
		s.failed = fmt.Errorf("at %v: %w", s.elapsed(), err)
		s.tracef("FAILED: %v", err)
	}
}

func (s *Sim) tracef(format string, args ...any) {
	if s.trace != nil {
		fmt.Fprintf(s.trace, "%12v  "+format+"\n", append([]any{s.elapsed()}, args...)...)
	}
}

var errGone = errors.New("sim: the client's node is gone")
