package watchfeed

import (
	"context"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/flotilladb/flotilla/internal/clock"
	"github.com/flotilladb/flotilla/internal/stop"
	"github.com/flotilladb/flotilla/mvcc"
	"github.com/flotilladb/flotilla/proto/metapb"
)

// HubConfig describes a Hub.
type HubConfig struct {
	Core CoreConfig
	// Current is what is current, and what is compacted, at this moment. It never
	// lags behind what a client may have seen.
	Current func() (current, compacted Revision)
	// Removal is the revision below which old versions may be gone.
	Removal func() Revision
	// Behind reports whether Current may be behind what a client has seen, so that it has
	// to be asked for: that is Ask, which may take long. Both are nil where it never is.
	Behind func() bool
	Ask    func(context.Context) (Revision, error)
	// Want has ranges closed, where they are not by themselves; it does not block.
	Want func([]Want)
	// Feeds does what is to be done for feeds of other stores; it does not block.
	// History answers a Scan of what is not on this store. Both are nil where there are
	// no other stores.
	Feeds   func([]FeedOutput)
	History func(context.Context, *Scan) Scanned
	// InboxBytesMax bounds what the hub has not looked at. What the store does
	// beyond that the hub learns from the engine. Default 16 MiB.
	InboxBytesMax int
}

// Hub runs a Core. Its methods are safe for concurrent use.
type Hub struct {
	cfg    HubConfig
	stop   *stop.Stopper
	wakeup chan struct{}
	// scratches are of *mvcc.HistoryScratch, for one read each.
	scratches sync.Pool
	// followed: another store follows feeds here, so that the hub is woken for each step.
	followed atomic.Bool

	// turn is held by whoever drives the core: the hub's goroutine, or who feeds
	// it a step while it rests. It guards the two below. The lock order is turn, mu,
	// a stream's mu.
	turn    sync.Mutex
	core    *Core
	streams map[StreamID]*Stream

	mu struct {
		sync.Mutex
		steps    []Step
		bytes    int // of steps
		commands []command
		scanned  []Scanned
		waiting  []chan struct{} // are closed when the hub has taken the steps
		open     int             // streams; without any, or followed, the hub is not woken for each step
		closed   bool
		stats    Stats
	}
}

// command is what a stream wants.
type command struct {
	stream *Stream
	kind   commandKind
	create CreateRequest
	id     int64
	now    Revision
	known  bool // now is, or is not needed
}

type commandKind uint8

const (
	doOpen commandKind = iota
	doClose
	doCreate
	doCancel
	doProgress
	doDrained
	doCurrent // of no stream
)

// tickInterval is how often the core is told the time.
const tickInterval = 100 * time.Millisecond

// idleBytes is how much may come in before the hub looks at it when nobody
// watches.
const idleBytes = 1 << 20

// NewHub starts a hub. It ends with Stop.
func NewHub(cfg HubConfig) (*Hub, error) {
	setDefault(&cfg.InboxBytesMax, 16<<20)
	core, err := NewCore(cfg.Core)
	if err != nil {
		return nil, err
	}
	h := &Hub{
		cfg: cfg, core: core,
		stop:    stop.New(context.Background()),
		wakeup:  make(chan struct{}, 1),
		streams: make(map[StreamID]*Stream),
	}
	return h, h.stop.Go("watch-hub", h.run)
}

// known returns what is current if that need not be asked for.
func (h *Hub) known() (now Revision, ok bool) {
	if h.cfg.Behind != nil && h.cfg.Behind() {
		return 0, false
	}
	now, _ = h.cfg.Current()
	return now, h.cfg.Behind == nil || !h.cfg.Behind() // it was not all along
}

// Stop ends the hub and all streams.
func (h *Hub) Stop() { h.stop.Stop() }

// Stats returns figures, a little old.
func (h *Hub) Stats() Stats {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.mu.stats
}

func (h *Hub) wake() {
	select {
	case h.wakeup <- struct{}{}:
	default:
	}
}

// Feed gives the hub a step. The order is the store's. It does not block, but where
// rows go: the hub may be reading there what was before an event, and does no more
// when it has taken the step.
func (h *Hub) Feed(s Step) {
	bytes := s.bytes()
	var taken chan struct{}
	if s.RowsGo {
		taken = make(chan struct{})
	}
	h.mu.Lock()
	in := &h.mu
	if in.closed {
		h.mu.Unlock()
		return
	}
	if in.bytes+bytes > h.cfg.InboxBytesMax && len(in.steps) > 0 {
		s.lose()
		in.steps[len(in.steps)-1].merge(&s)
	} else {
		in.steps = append(in.steps, s)
		in.bytes += bytes
	}
	if taken != nil {
		in.waiting = append(in.waiting, taken)
	}
	wake := in.open > 0 || h.followed.Load() || len(s.Feeds) > 0 || in.bytes > idleBytes || taken != nil
	h.mu.Unlock()
	if !wake {
		return
	}
	rests, delivered := false, false
	if bytes <= smallBytes {
		rests, delivered = h.turnHere()
	}
	if !rests {
		h.wake()
	}
	if delivered {
		for range yields {
			runtime.Gosched()
		}
	}
	if taken != nil {
		<-taken
	}
}

// yields is how often who fed a small step lets others run when it had events for a
// watch, before it tells anybody that the write is done: the streams, and those that
// write to their sockets. Otherwise who wrote would be answered first, since who is
// woken last runs first, and watchers would see the event that much later.
const yields = 4

// turnHere takes the hub's turn on the goroutine of whoever fed it a small step,
// if the hub rests and has few watches: a hand-over costs more than the turn. It
// reports whether nothing is left for the hub's goroutine, and whether a stream got
// something.
func (h *Hub) turnHere() (rests, delivered bool) {
	if !h.turn.TryLock() {
		return false, false
	}
	defer h.turn.Unlock()
	if h.core.stats.Watches > fewWatches {
		return false, false
	}
	h.receive()
	delivered = h.flush()
	return !h.core.HasWork(), delivered
}

// Who feeds the hub takes its turn for a step of smallBytes at most, with at most
// fewWatches to look after.
const (
	smallBytes = 16 << 10
	fewWatches = 256
)

// bytes is about what a step takes in memory.
func (s *Step) bytes() int {
	const perStep, perDescriptor, perBound, perRange = 160, 160, 16, 32
	n := perStep + perDescriptor*len(s.Descriptors) + perBound*len(s.Bounds)
	for i := range s.Applied {
		n += perRange
		for _, u := range s.Applied[i].Updates {
			for _, m := range u.Mutations {
				n += len(m.Key) + len(m.Value) + eventOverhead
			}
		}
	}
	for i := range s.Feeds {
		n += perStep
		if news := s.Feeds[i].News; news != nil {
			n += news.Bytes
		}
	}
	return n
}

// lose forgets what was applied, but not where.
func (s *Step) lose() {
	for i := range s.Applied {
		s.Lost = append(s.Lost, s.Applied[i].Range)
	}
	s.Applied = nil
}

// merge adds a later step without updates to one. Both have taken effect.
func (s *Step) merge(o *Step) {
	s.Lost = appendNew(s.Lost, o.Lost)
	s.Removed = appendNew(s.Removed, o.Removed)
	s.Descriptors = slices.DeleteFunc(s.Descriptors, func(d *metapb.Descriptor) bool { return slices.Contains(o.Removed, d.ID()) })
	s.Descriptors = append(s.Descriptors, o.Descriptors...)
	s.Current, s.Compacted = max(s.Current, o.Current), max(s.Compacted, o.Compacted)
	s.Reached = max(s.Reached, o.Reached)
	s.Asks = o.Asks
	s.Feeds = append(s.Feeds, o.Feeds...)
	at := make(map[metapb.RangeID]int, len(s.Bounds))
	for i, b := range s.Bounds {
		at[b.Range] = i
	}
	for _, b := range o.Bounds {
		if i, ok := at[b.Range]; ok {
			s.Bounds[i] = b
		} else {
			at[b.Range] = len(s.Bounds)
			s.Bounds = append(s.Bounds, b)
		}
	}
}

func appendNew(dst, src []metapb.RangeID) []metapb.RangeID {
	have := make(map[metapb.RangeID]bool, len(dst))
	for _, id := range dst {
		have[id] = true
	}
	for _, id := range src {
		if !have[id] {
			have[id] = true
			dst = append(dst, id)
		}
	}
	return dst
}

// run is the hub's goroutine.
func (h *Hub) run(ctx context.Context) {
	defer h.end()
	ticker := time.NewTicker(tickInterval)
	defer ticker.Stop()
	h.locked(func() { h.core.Tick(clock.Now()) })
	for {
		h.takeTurn(ticker.C)
		select {
		case <-ctx.Done():
			return
		case <-h.wakeup:
		case <-ticker.C:
			h.locked(func() { h.core.Tick(clock.Now()) })
		}
	}
}

// takeTurn drives the core until there is nothing to do.
func (h *Hub) takeTurn(ticks <-chan time.Time) {
	h.turn.Lock()
	defer h.turn.Unlock()
	for {
		h.receive()
		h.flush()
		if !h.core.HasWork() {
			return
		}
		select {
		case <-ticks: // there may be no end of work
			h.core.Tick(clock.Now())
		default:
		}
	}
}

// locked runs f while nobody takes a turn.
func (h *Hub) locked(f func()) {
	h.turn.Lock()
	defer h.turn.Unlock()
	f()
}

// receive hands what came in to the core: what the store did first, so that a
// command finds all that came before it.
func (h *Hub) receive() {
	h.mu.Lock()
	steps, commands, scanned := h.mu.steps, h.mu.commands, h.mu.scanned
	h.mu.steps, h.mu.commands, h.mu.scanned, h.mu.bytes = nil, nil, nil, 0
	h.mu.stats = h.core.Stats()
	h.releaseLocked()
	h.mu.Unlock()
	for i := range steps {
		h.core.Step(&steps[i])
	}
	h.followed.Store(len(h.core.followers) > 0)
	for i := range scanned {
		h.core.Scanned(&scanned[i])
	}
	for i := range commands {
		h.do(&commands[i])
	}
}

// releaseLocked lets those go on that wait until the hub has taken their steps: who
// takes them reads nothing before it has looked at them.
func (h *Hub) releaseLocked() {
	for _, taken := range h.mu.waiting {
		close(taken)
	}
	h.mu.waiting = nil
}

func (h *Hub) do(c *command) {
	s := c.stream
	if c.kind == doCurrent {
		h.core.Current(c.now)
		return
	}
	if c.kind == doOpen {
		id, err := h.core.Open(s.cfg)
		if err != nil {
			s.end(err)
			return
		}
		s.id = id
		h.streams[id] = s
		return
	}
	if h.streams[s.id] != s {
		return
	}
	switch c.kind {
	case doClose:
		h.core.Close(s.id)
		delete(h.streams, s.id)
	case doCreate:
		h.core.Create(s.id, &c.create, c.now)
	case doCancel:
		h.core.Cancel(s.id, c.id)
	case doProgress:
		h.core.RequestProgress(s.id, s.takeAsked())
	case doDrained:
		h.core.Drained(s.id, 0, 0)
	}
}

// flush does what the core wants done, and reports whether a stream got something.
func (h *Hub) flush() (delivered bool) {
	rd := h.core.Ready()
	if len(rd.Wants) > 0 {
		h.cfg.Want(rd.Wants)
	}
	if len(rd.Feeds) > 0 {
		h.cfg.Feeds(rd.Feeds)
	}
	if rd.Asks {
		h.ask()
	}
	for _, sc := range rd.Scans {
		// As many as the core has under way at a time.
		err := h.stop.Go("watch-scan", func(ctx context.Context) {
			res := h.scan(ctx, &sc)
			h.mu.Lock()
			h.mu.scanned = append(h.mu.scanned, res)
			h.mu.Unlock()
			h.wake()
		})
		if err != nil {
			return false // stopping
		}
	}
	for i := range rd.Outputs {
		out := &rd.Outputs[i]
		s := h.streams[out.Stream]
		if s == nil {
			continue
		}
		responses, bytes := s.put(out)
		h.core.Drained(out.Stream, responses, bytes)
		delivered = true
	}
	return delivered
}

// ask tells the core what is current. REQUIRES: turn is held.
func (h *Hub) ask() {
	if now, ok := h.known(); ok {
		h.core.Current(now)
		return
	}
	_ = h.stop.Go("watch-ask", func(ctx context.Context) { // else it is stopping
		now, err := h.cfg.Ask(ctx)
		if err != nil {
			now = 0
		}
		_ = h.send(command{kind: doCurrent, now: now})
	})
}

// scan does a scan, here and elsewhere.
func (h *Hub) scan(ctx context.Context, sc *Scan) Scanned {
	switch {
	case sc.Parts != nil:
	case sc.Middle != nil:
		return h.scanHalves(sc)
	default:
		return h.scanHere(sc)
	}
	parts := make([]Scanned, len(sc.Parts))
	for i := range sc.Parts {
		part := sc.Of(&sc.Parts[i])
		if sc.Parts[i].Here {
			parts[i] = h.scanHere(&part)
		} else {
			parts[i] = h.cfg.History(ctx, &part)
		}
	}
	return sc.Join(parts)
}

// scanHere does a scan of what is here. Its events are copies of what is in the scratch.
func (h *Hub) scanHere(sc *Scan) Scanned {
	scratch, ok := h.scratches.Get().(*mvcc.HistoryScratch)
	if !ok {
		scratch = new(mvcc.HistoryScratch)
	}
	defer h.scratches.Put(scratch)
	return sc.Do(h.cfg.Core.Reader, h.cfg.Removal, scratch)
}

// scanHalves does a scan on two processors: reading is most of what catching up costs,
// and what comes after it waits.
func (h *Hub) scanHalves(sc *Scan) Scanned {
	left, right := sc.Halves()
	var parts [2]Scanned
	done := make(chan struct{})
	err := h.stop.Go("watch-scan", func(context.Context) {
		defer close(done)
		parts[1] = h.scanHere(&right)
	})
	if err != nil {
		return Scanned{ID: sc.ID, Removed: -1, Err: err} // stopping
	}
	parts[0] = h.scanHere(&left)
	<-done
	return sc.Join(parts[:])
}

// end is the end of the hub.
func (h *Hub) end() {
	h.turn.Lock()
	defer h.turn.Unlock()
	h.mu.Lock()
	h.mu.closed = true
	commands := h.mu.commands
	h.mu.commands, h.mu.steps = nil, nil
	h.releaseLocked()
	h.mu.Unlock()
	for i := range commands {
		if s := commands[i].stream; s != nil {
			s.end(ErrStopping)
		}
	}
	for _, s := range h.streams {
		s.end(ErrStopping)
	}
}

// send gives the hub a command.
func (h *Hub) send(c command) error {
	h.mu.Lock()
	if h.mu.closed {
		h.mu.Unlock()
		return ErrStopping
	}
	switch c.kind {
	case doOpen:
		h.mu.open++
	case doClose:
		h.mu.open--
	}
	h.mu.commands = append(h.mu.commands, c)
	h.mu.Unlock()
	h.wake()
	return nil
}
