package cluster

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/flotilladb/flotilla/e2e/proc"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// follower watches the keys of the load and keeps a lease alive.
type follower struct {
	events atomic.Int64
	err    atomic.Pointer[error]
}

func (f *follower) fail(format string, args ...any) {
	err := fmt.Errorf(format, args...)
	f.err.CompareAndSwap(nil, &err)
}

// follow begins to watch. Each key's versions must come one after the other.
func follow(t *testing.T, c *proc.Cluster) *follower {
	t.Helper()
	f := &follower{}
	cl := client(t, c)
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(context.Background()))
	grant, err := cl.Grant(t.Context(), 5)
	if err != nil {
		t.Fatal(err)
	}
	alive, err := cl.KeepAlive(ctx, grant.ID)
	if err != nil {
		t.Fatal(err)
	}
	watch := cl.Watch(ctx, "a", clientv3.WithRange("zz"), clientv3.WithRev(1))
	done := make(chan struct{}, 2)
	go func() {
		f.watch(ctx, watch)
		done <- struct{}{}
	}()
	go func() {
		for range alive {
		}
		if ctx.Err() == nil {
			f.fail("the lease is not kept alive any more")
		}
		done <- struct{}{}
	}()
	t.Cleanup(func() {
		cancel()
		<-done
		<-done
	})
	return f
}

func (f *follower) watch(ctx context.Context, watch clientv3.WatchChan) {
	versions := make(map[string]int64)
	for resp := range watch {
		if err := resp.Err(); err != nil && ctx.Err() == nil {
			f.fail("watch: %w", err)
		}
		for _, ev := range resp.Events {
			k := string(ev.Kv.Key)
			if versions[k]++; ev.Kv.Version != versions[k] {
				f.fail("watch: version %d of %s follows %d", ev.Kv.Version, k, versions[k]-1)
			}
			f.events.Add(1)
		}
	}
	if ctx.Err() == nil {
		f.fail("the watch ended")
	}
}

// All nodes are stopped in order and started again, one after the other. Clients of
// all three see no error, in what they write, read, watch or keep alive, and no
// revision is passed over.
func TestRollingRestart(t *testing.T) {
	c := newCluster(t)
	f := follow(t, c)
	l := startLoad(t, c)
	l.more(t, 100)
	l.times()
	l.more(t, 300)
	p50, p99 := l.times()
	t.Logf("before: p50 %v, p99 %v", p50, p99)
	for round := range *rounds {
		for i := range c.Nodes {
			begun := time.Now()
			if err := c.Stop(i); err != nil {
				t.Fatalf("stop node %d: %v\n%s", i, err, c.Nodes[i].Tail())
			}
			took := time.Since(begun)
			l.more(t, 20)
			if err := c.Restart(i); err != nil {
				t.Fatal(err)
			}
			l.more(t, 20)
			p50, p99 := l.times()
			t.Logf("round %d, node %d: stopped in %v; put p50 %v, p99 %v", round, i, took, p50, p99)
		}
	}
	if n := l.check(t, c); n > 0 {
		t.Errorf("%d requests failed, the last: %v", n, l.lastErrs(5))
	}
	if err := f.err.Load(); err != nil {
		t.Error(*err)
	}
	if f.events.Load() == 0 {
		t.Error("the watch saw nothing")
	}
}
