// Package stop starts goroutines and ends them: the only place of the server
// that says `go`.
//
// A Stopper is a family of named goroutines with one end. Its life has three
// parts:
//
//	running ──Quiesce──> quiescing ──the last goroutine returns──> stopped
//
// While it runs, Go starts members. From Quiesce on, Go refuses, and the context
// of every member is done: a member hands over what it holds and returns. Wait
// returns when all have. A goroutine that does not return is visible by its name,
// in Running and in the goroutine profile (label "stop").
package stop

import (
	"context"
	"runtime/pprof"
	"sort"
	"sync"
)

// Stopper owns goroutines. It is safe for concurrent use. Its zero value is not
// usable: see New.
type Stopper struct {
	ctx    context.Context // done from Quiesce on
	cancel context.CancelFunc
	idle   chan struct{} // closed when quiescing and nothing runs

	mu struct {
		sync.Mutex
		quiescing bool
		running   map[string]int // goroutines by name. Invariant: every count > 0.
		total     int            // sum over running
	}
}

// New returns a Stopper under a parent: when the parent's context is done, so
// are the members' contexts, but only Quiesce makes Go refuse.
func New(parent context.Context) *Stopper {
	s := &Stopper{idle: make(chan struct{})}
	s.ctx, s.cancel = context.WithCancel(parent)
	s.mu.running = make(map[string]int)
	return s
}

// Go starts f on its own goroutine under a name. The context it gets is done
// when the Stopper quiesces. Go returns ErrStopping, and does not start f, if it
// quiesces already.
func (s *Stopper) Go(name string, f func(ctx context.Context)) error {
	s.mu.Lock()
	if s.mu.quiescing {
		s.mu.Unlock()
		return ErrStopping
	}
	s.mu.running[name]++
	s.mu.total++
	s.mu.Unlock()

	go pprof.Do(s.ctx, pprof.Labels("stop", name), func(ctx context.Context) {
		// Not called after a panic in f: that ends the process, and should.
		defer s.done(name)
		f(ctx)
	})
	return nil
}

func (s *Stopper) done(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.running[name]--; s.mu.running[name] == 0 {
		delete(s.mu.running, name)
	}
	s.mu.total--
	s.maybeIdleLocked()
}

// maybeIdleLocked announces the end. Nothing can start after it, because
// quiescing never goes back to false.
func (s *Stopper) maybeIdleLocked() {
	if !s.mu.quiescing || s.mu.total > 0 {
		return
	}
	select {
	case <-s.idle:
	default:
		close(s.idle)
	}
}

// Context is done from Quiesce on.
func (s *Stopper) Context() context.Context { return s.ctx }

// Quiesce asks every member to return and refuses new ones. It does not wait.
func (s *Stopper) Quiesce() {
	s.mu.Lock()
	s.mu.quiescing = true
	s.maybeIdleLocked()
	s.mu.Unlock()
	s.cancel()
}

// Wait returns when the Stopper has quiesced and every member has returned, or
// with ctx's error when ctx is done before that.
func (s *Stopper) Wait(ctx context.Context) error {
	select {
	case <-s.idle:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Stop is Quiesce and Wait without a limit.
func (s *Stopper) Stop() {
	s.Quiesce()
	<-s.idle
}

// Running returns the names of the members that have not returned, sorted, one
// entry for each.
func (s *Stopper) Running() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	names := make([]string, 0, s.mu.total)
	for name, n := range s.mu.running {
		for range n {
			names = append(names, name)
		}
	}
	sort.Strings(names)
	return names
}
