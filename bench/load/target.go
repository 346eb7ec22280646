package load

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// Target is the server that is measured.
type Target struct {
	Endpoints []string // host:port; connections go to them in turn
	Conns     int      // connections to share, at least 1
	PID       int      // of the server on this machine; 0: CPU and memory are not measured
}

// Validate reports what is wrong with a target.
func (t *Target) Validate() error {
	switch {
	case len(t.Endpoints) == 0:
		return errors.New("no endpoint")
	case t.Conns <= 0:
		return errors.New("connections: want at least 1")
	case t.PID < 0:
		return errors.New("pid: want a process id")
	}
	return nil
}

// dial opens n connections; close closes them.
func (t *Target) dial(n int, opts ...grpc.DialOption) (conns []*grpc.ClientConn, done func(), err error) {
	opts = append(opts, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(1<<30), grpc.MaxCallSendMsgSize(1<<30)))
	done = func() {
		for _, c := range conns {
			_ = c.Close()
		}
	}
	for i := range n {
		c, err := grpc.NewClient(t.Endpoints[i%len(t.Endpoints)], opts...)
		if err != nil {
			done()
			return nil, nil, err
		}
		conns = append(conns, c)
	}
	return conns, done, nil
}

// group runs goroutines until the first fails.
type group struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup
}

// errEnd ends a group that did what it had to.
var errEnd = errors.New("the end")

func newGroup(ctx context.Context) *group {
	g := &group{}
	g.ctx, g.cancel = context.WithCancelCause(ctx)
	return g
}

func (g *group) run(f func(ctx context.Context) error) {
	g.wg.Go(func() {
		if err := f(g.ctx); err != nil {
			g.cancel(err)
		}
	})
}

// end stops all and returns the first error. What fails because of the end does
// not count.
func (g *group) end() error {
	g.cancel(errEnd)
	g.wg.Wait()
	if err := context.Cause(g.ctx); !errors.Is(err, errEnd) {
		return err
	}
	return nil
}

// wait returns when all have returned.
func (g *group) wait() error {
	g.wg.Wait()
	return g.end()
}

// failed is what ended a group, or nil.
func (g *group) failed() error { return context.Cause(g.ctx) }

// pause waits, or returns false when the context is done first.
func pause(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// schedule calls op for i from 0 to n-1, each when it is due, from a number of
// workers. When all workers are busy an operation begins late; it still counts
// from when it was due.
func schedule(g *group, workers, n int, perSecond float64, op func(ctx context.Context, i int, due time.Time) error) {
	start := time.Now()
	var next atomic.Int64
	for range workers {
		g.run(func(ctx context.Context) error {
			for {
				i := int(next.Add(1)) - 1
				if i >= n {
					return nil
				}
				due := start.Add(time.Duration(float64(i) / perSecond * float64(time.Second)))
				if !pause(ctx, time.Until(due)) {
					return nil
				}
				if err := op(ctx, i, due); err != nil {
					return err
				}
			}
		})
	}
}
