package rpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/flotilladb/flotilla/proto/metapb"
)

// sendPeer is a store that we send to.
type sendPeer struct {
	lanes  [laneCount]*outLane
	links  [classCount]*link
	cancel context.CancelFunc
}

// link keeps one connection to a store, with the streams of its lanes.
type link struct {
	t     *Transport
	ctx   context.Context // done when the store is forgotten
	to    metapb.StoreID
	class class
	lanes []*outLane
	rng   *rand.Rand // of its goroutine
	again chan struct{}
	start sync.Once

	told string // the last failure that was logged; of its goroutine
}

func (t *Transport) newPeer(to metapb.StoreID) *sendPeer {
	ctx, cancel := context.WithCancel(t.cfg.Stopper.Context())
	p := &sendPeer{cancel: cancel}
	for c := range classCount {
		l := &link{
			t: t, ctx: ctx, to: to, class: c, again: make(chan struct{}, 1),
			rng: rand.New(rand.NewPCG(t.cfg.Seed, uint64(to)<<8|uint64(c))),
		}
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

// down closes the lanes and says so, once for each that was open.
func (l *link) down() {
	for _, out := range l.lanes {
		if out.close() {
			l.t.cfg.Unreachable(l.to, out.lane)
		}
	}
}

var errNoAddress = errors.New("rpc: nobody knows its address yet")

// connect dials, opens the lanes and returns why they ended.
func (l *link) connect() error {
	addr, ok := l.t.cfg.Resolve(l.to)
	if !ok {
		return errNoAddress
	}
	conn, err := l.t.dialer.dial(addr, l.class)
	if err != nil {
		return fmt.Errorf("dial %s: %w", addr, err)
	}
	defer conn.Close()
	ctx, cancel := context.WithCancelCause(l.ctx)
	defer cancel(nil)
	late := time.AfterFunc(l.t.cfg.DialTimeout, func() {
		cancel(fmt.Errorf("dial %s: no answer within %v", addr, l.t.cfg.DialTimeout))
	})
	defer late.Stop()
	streams := make([]*outStream, len(l.lanes))
	for i, out := range l.lanes {
		if streams[i], err = l.open(ctx, conn, out, addr); err != nil {
			if why := context.Cause(ctx); why != nil {
				return why
			}
			return fmt.Errorf("dial %s: %w", addr, err)
		}
	}
	if !late.Stop() {
		<-ctx.Done() // the timer's goroutine may not have come to it yet
		return context.Cause(ctx)
	}
	l.t.cfg.Logger.Info("connected to a store", "store", l.to, "connection", l.class.String(),
		"address", addr, "start", streams[0].start)
	l.told = ""
	l.t.counts.connects.Add(1)
	return l.keep(ctx, cancel, streams)
}

// keep runs the streams until one of them ends.
func (l *link) keep(ctx context.Context, cancel context.CancelCauseFunc, streams []*outStream) error {
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
	for _, s := range streams {
		s.out.open(s.credit)
		l.t.cfg.Reachable(l.to, s.out.lane, s.start)
		run("rpc send", func() error { return s.out.send(ctx, s.stream) })
		run("rpc answers", func() error { return s.out.answers(s.stream) })
	}
	l.watch(ctx, cancel, streams)
	done.Wait()
	return context.Cause(ctx)
}

// watch pings the streams and ends them when one has been silent for too long.
func (l *link) watch(ctx context.Context, cancel context.CancelCauseFunc, streams []*outStream) {
	ticker := time.NewTicker(l.t.cfg.PingInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		for _, s := range streams {
			if now := s.out.heard.Load(); now != s.heard {
				s.heard, s.silent = now, 0
			} else if s.silent++; time.Duration(s.silent)*l.t.cfg.PingInterval > l.t.cfg.SilenceMax {
				cancel(fmt.Errorf("lane %s: %w for %v", s.out.lane, ErrSilent, l.t.cfg.SilenceMax))
				return
			}
			s.out.ping()
		}
	}
}

// outStream is a stream to a store that has been let in.
type outStream struct {
	out    *outLane
	stream grpc.ClientStream
	credit int64
	start  uint64 // of the receiver
	heard  uint64
	silent int // ticks without an answer
}

// open opens the stream of a lane and greets.
func (l *link) open(ctx context.Context, conn *grpc.ClientConn, out *outLane, addr string) (*outStream, error) {
	desc := &grpc.StreamDesc{StreamName: framesName, ServerStreams: true, ClientStreams: true}
	stream, err := conn.NewStream(ctx, desc, "/"+serviceName+"/"+framesName, callOptions()...)
	if err != nil {
		return nil, err
	}
	me := l.t.who()
	h := me.hello()
	h.Lane, h.To = out.lane, l.to
	if err := sendOut(stream, h.append(nil, msgHello)); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	w, err := receiveHello(stream, msgWelcome)
	if err != nil {
		return nil, err
	}
	if why := me.accept(w, h, addr); why != nil {
		return nil, why
	}
	return &outStream{out: out, stream: stream, credit: int64(w.Credit), start: w.Start, heard: out.heard.Load()}, nil
}
