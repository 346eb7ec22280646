package stop

import (
	"context"
	"errors"
	"reflect"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// Members see their context end, and Stop returns only after the last of them.
func TestStopWaitsForMembers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(t.Context())
		var left atomic.Int32
		for range 3 {
			if err := s.Go("worker", func(ctx context.Context) {
				<-ctx.Done()
				time.Sleep(time.Second) // in the bubble's time
				left.Add(1)
			}); err != nil {
				t.Fatal(err)
			}
		}
		begin := time.Now()
		s.Stop()
		if got := left.Load(); got != 3 {
			t.Fatalf("Stop returned with %d of 3 members gone", got)
		}
		if took := time.Since(begin); took != time.Second {
			t.Fatalf("Stop took %v, want the members' second", took)
		}
	})
}

func TestGoRefusesWhileQuiescing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(t.Context())
		release := make(chan struct{})
		if err := s.Go("slow", func(context.Context) { <-release }); err != nil {
			t.Fatal(err)
		}
		s.Quiesce()
		ran := false
		if err := s.Go("late", func(context.Context) { ran = true }); !errors.Is(err, ErrStopping) {
			t.Fatalf("Go while quiescing: %v, want ErrStopping", err)
		}
		synctest.Wait()
		if ran {
			t.Fatal("a refused goroutine ran")
		}
		if got := s.Running(); !reflect.DeepEqual(got, []string{"slow"}) {
			t.Fatalf("running: %v, want the slow one", got)
		}
		close(release)
		s.Stop()
		if got := s.Running(); len(got) != 0 {
			t.Fatalf("running after Stop: %v", got)
		}
	})
}

// Wait gives up with its own context and can be called again.
func TestWaitHasALimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(t.Context())
		release := make(chan struct{})
		if err := s.Go("b", func(context.Context) { <-release }); err != nil {
			t.Fatal(err)
		}
		s.Quiesce()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := s.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("Wait with a member left: %v, want DeadlineExceeded", err)
		}
		close(release)
		if err := s.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}

// Without a member, and called twice, the end comes at once.
func TestStopIsIdempotent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(t.Context())
		s.Stop()
		s.Stop()
		if s.Context().Err() == nil {
			t.Fatal("the context outlives Stop")
		}
	})
}

// The parent's end reaches members, who may still finish what they do.
func TestParentEndsMembers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		parent, cancel := context.WithCancel(t.Context())
		s := New(parent)
		ended := make(chan struct{})
		if err := s.Go("m", func(ctx context.Context) { <-ctx.Done(); close(ended) }); err != nil {
			t.Fatal(err)
		}
		cancel()
		<-ended
		s.Stop()
	})
}
