package rpc

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/flotilladb/flotilla/proto/metapb"
)

// sendPeer is a store that we send to.
type sendPeer struct {
	lanes  [laneCount]*outLane
	links  [classCount]*link
	cancel context.CancelFunc
}

// link keeps one connection to a store, for its lanes.
type link struct {
	t     *Transport
	ctx   context.Context // done when the store is forgotten
	to    metapb.StoreID
	class class
	lanes []*outLane
	rng   *rand.Rand // of its goroutine
	again chan struct{}
	start sync.Once
	// wake has a value when the sender, which rests, has something to do.
	wake  chan struct{}
	heard atomic.Uint64 // counts what came back

	told string // the last failure that was logged; of its goroutine

	mu struct {
		sync.Mutex      // guards the queues of the lanes, too
		opened     bool // frames are taken. Until the first attempt has failed they are.
		resting    bool // the sender waits for wake
		pingDue    bool
	}
}

func (t *Transport) newPeer(to metapb.StoreID) *sendPeer {
	ctx, cancel := context.WithCancel(t.cfg.Stopper.Context())
	p := &sendPeer{cancel: cancel}
	for c := range classCount {
		l := &link{
			t: t, ctx: ctx, to: to, class: c, again: make(chan struct{}, 1), wake: make(chan struct{}, 1),
			rng: rand.New(rand.NewPCG(t.cfg.Seed, uint64(to)<<8|uint64(c))),
		}
		l.mu.opened = true
		for _, lane := range c.lanes() {
			out := newOutLane(l, lane, &t.cfg)
			l.lanes = append(l.lanes, out)
			p.lanes[lane] = out
		}
		p.links[c] = l
	}
	return p
}

// begin starts the link's goroutine, when its first frame comes: a connection for
// snapshots that are never sent would be one too many.
func (l *link) begin() {
	l.start.Do(func() {
		if err := l.t.cfg.Stopper.Go("rpc link", func(context.Context) { l.run() }); err != nil {
			l.down()
		}
	})
}

func (l *link) wakeUp() {
	select {
	case l.again <- struct{}{}:
	default:
	}
}

// run keeps the connection until the store is forgotten.
func (l *link) run() {
	pause := l.t.cfg.RetryMin
	for {
		begin := time.Now()
		err := l.connect()
		l.down()
		if l.ctx.Err() != nil {
			return
		}
		l.report(err)
		var why *RefusedError
		switch {
		case errors.As(err, &why):
			l.t.cfg.Refused(l.to, err)
			pause = l.t.cfg.RetryMax
		case time.Since(begin) > 2*l.t.cfg.RetryMax:
			pause = l.t.cfg.RetryMin // it held
		}
		if !l.wait(time.Duration((0.5 + l.rng.Float64()) * float64(pause))) {
			return
		}
		pause = min(2*pause, l.t.cfg.RetryMax)
	}
}

// wait returns false if the link is over.
func (l *link) wait(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-l.again:
	case <-l.ctx.Done():
		return false
	}
	return true
}

func (l *link) report(err error) {
	text := err.Error()
	if op := (*net.OpError)(nil); errors.As(err, &op) && op.Err != nil {
		text = fmt.Sprint(op.Op, op.Addr, op.Err) // without the port that the connection had here
	}
	if text == l.told {
		return
	}
	l.told = text
	args := []any{"store", l.to, "connection", l.class.String(), "error", err}
	var why *RefusedError
	if errors.As(err, &why) && why.kind != refusedNotReady {
		l.t.cfg.Logger.Error("a peer refuses this node, trying again", args...)
		return
	}
	l.t.cfg.Logger.Warn("no connection to a store, trying again", args...)
}

// down closes the lanes and says so, once for each if they were open.
func (l *link) down() {
	l.mu.Lock()
	was := l.mu.opened
	l.mu.opened, l.mu.resting = false, false
	for _, out := range l.lanes {
		l.t.counts.dropped[out.lane].Add(uint64(out.q.drop()))
	}
	l.mu.Unlock()
	if !was {
		return
	}
	for _, out := range l.lanes {
		l.t.cfg.Unreachable(l.to, out.lane)
	}
}

// up opens the lanes, for a connection that has just been let in. It sends when the
// first credit comes, which is at once.
func (l *link) up() {
	select {
	case <-l.wake: // of the connection before
	default:
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, out := range l.lanes {
		out.q.begin(0)
	}
	l.mu.opened, l.mu.resting, l.mu.pingDue = true, false, false
}

var errNoAddress = errors.New("rpc: nobody knows its address yet")

// connect dials, opens the lanes and returns why they ended.
func (l *link) connect() error {
	addr, ok := l.t.cfg.Resolve(l.to)
	if !ok {
		return errNoAddress
	}
	ctx, cancel := context.WithCancelCause(l.ctx)
	defer cancel(nil) // closes the connection
	late := time.AfterFunc(l.t.cfg.DialTimeout, func() {
		cancel(fmt.Errorf("dial %s: no answer within %v", addr, l.t.cfg.DialTimeout))
	})
	defer late.Stop()
	conn, err := l.t.dialer.dial(ctx, addr, l.class)
	var w *hello
	var answers *reader
	if err == nil {
		answers = newReader(conn, answerBytesMax)
		w, err = l.greet(conn, answers, addr)
	}
	if err != nil {
		if why := context.Cause(ctx); why != nil {
			return why
		}
		return fmt.Errorf("dial %s: %w", addr, closed(err))
	}
	if !late.Stop() {
		<-ctx.Done() // the timer's goroutine may not have come to it yet
		return context.Cause(ctx)
	}
	l.t.cfg.Logger.Info("connected to a store", "store", l.to, "connection", l.class.String(),
		"address", addr, "start", w.Start)
	l.told = ""
	l.t.counts.connects.Add(1)
	l.up()
	for _, out := range l.lanes {
		l.t.cfg.Reachable(l.to, out.lane, w.Start)
	}
	return l.keep(ctx, cancel, conn, answers)
}

// greet says who this is, and hears who is there.
func (l *link) greet(conn net.Conn, answers *reader, addr string) (*hello, error) {
	me := l.t.who()
	h := me.hello()
	h.To, h.Addr = l.to, l.t.cfg.Advertise
	for _, out := range l.lanes {
		h.Lanes |= setOf(out.lane)
	}
	if _, err := conn.Write(h.append([]byte(magic), msgHello)); err != nil {
		return nil, err
	}
	w, err := readHello(answers, msgWelcome)
	if err != nil {
		return nil, err
	}
	if why := me.accept(w, h, addr); why != nil {
		return nil, why
	}
	return w, nil
}

// keep uses the connection until it ends.
func (l *link) keep(ctx context.Context, cancel context.CancelCauseFunc, conn net.Conn, answers *reader) error {
	var done sync.WaitGroup
	run := func(name string, f func() error) {
		done.Add(1)
		if err := l.t.cfg.Stopper.Go(name, func(context.Context) {
			defer done.Done()
			cancel(f())
		}); err != nil {
			done.Done()
			cancel(err)
		}
	}
	run("rpc send", func() error { return l.send(ctx, conn) })
	run("rpc answers", func() error { return l.answers(answers) })
	l.watch(ctx, cancel)
	done.Wait()
	return fmt.Errorf("connection %s: %w", l.class, context.Cause(ctx))
}

// watch pings the store and ends the connection when it has been silent for too
// long.
func (l *link) watch(ctx context.Context, cancel context.CancelCauseFunc) {
	ticker := time.NewTicker(l.t.cfg.PingInterval)
	defer ticker.Stop()
	heard, silent := l.heard.Load(), 0 // ticks without an answer
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if now := l.heard.Load(); now != heard {
			heard, silent = now, 0
		} else if silent++; time.Duration(silent)*l.t.cfg.PingInterval > l.t.cfg.SilenceMax {
			cancel(fmt.Errorf("%w for %v", ErrSilent, l.t.cfg.SilenceMax))
			return
		}
		l.ping()
	}
}

func (l *link) ping() {
	l.mu.Lock()
	l.mu.pingDue = true
	wake := l.restedLocked()
	l.mu.Unlock()
	if wake {
		l.signal()
	}
}

// answers reads what comes back, until the connection ends.
func (l *link) answers(d *reader) error {
	for {
		kind, n, err := d.next(helloBytesMax)
		if err != nil {
			return closed(err)
		}
		b, err := d.view(n)
		if err != nil {
			return err
		}
		switch kind {
		case msgAnswer:
			l.heard.Add(1)
			err = l.credit(b)
		case msgRefused:
			err = refusedBy(b)
		default:
			err = fmt.Errorf("%w: kind %d from a receiver", ErrProtocol, kind)
		}
		if err != nil {
			return err
		}
	}
}

// credit takes the credit of an answer.
func (l *link) credit(b []byte) error {
	var c laneCredit
	var err error
	for len(b) > 0 {
		if c, b, err = nextCredit(b); err != nil {
			return err
		}
		i := slices.IndexFunc(l.lanes, func(o *outLane) bool { return o.lane == c.lane })
		if i < 0 {
			return fmt.Errorf("%w: credit for lane %s", ErrProtocol, c.lane)
		}
		l.mu.Lock()
		l.lanes[i].q.credit += int64(c.bytes)
		wake := l.restedLocked()
		l.mu.Unlock()
		if wake {
			l.signal()
		}
	}
	return nil
}
