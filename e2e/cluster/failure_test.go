package cluster

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// settle lets some time pass, less than an election takes or more.
func settle(rng *rand.Rand, most time.Duration) {
	<-time.After(time.Duration(rng.Int64N(int64(most))))
}

// Every node is killed under load and started again. What was answered stays, and
// nothing is done twice; the others go on without anybody's help.
func TestKill(t *testing.T) {
	c := newCluster(t)
	l := startLoad(t, c)
	rng := rand.New(rand.NewPCG(*seed, 1))
	for range *rounds {
		for _, i := range rng.Perm(len(c.Nodes)) {
			l.more(t, 5)
			settle(rng, 300*time.Millisecond)
			begun := time.Now()
			c.Kill(i)
			l.more(t, 5)
			t.Logf("node %d is dead, all write again after %v", i, time.Since(begun))
			if err := c.Restart(i); err != nil {
				t.Fatal(err)
			}
		}
	}
	l.more(t, 5)
	l.check(t, c)
}

// Every node stands still for a while, longer than an election takes, and finds
// itself in another world.
func TestPause(t *testing.T) {
	c := newCluster(t)
	l := startLoad(t, c)
	rng := rand.New(rand.NewPCG(*seed, 2))
	for range *rounds {
		for _, i := range rng.Perm(len(c.Nodes)) {
			l.more(t, 5)
			if err := c.Pause(i); err != nil {
				t.Fatal(err)
			}
			settle(rng, 4*time.Second)
			if err := c.Resume(i); err != nil {
				t.Fatal(err)
			}
		}
	}
	l.more(t, 5)
	l.check(t, c)
}

// All nodes are killed at once, and go on where they were.
func TestKillAll(t *testing.T) {
	c := newCluster(t)
	l := startLoad(t, c)
	rng := rand.New(rand.NewPCG(*seed, 3))
	for range *rounds {
		l.more(t, 5)
		settle(rng, 300*time.Millisecond)
		for i := range c.Nodes {
			c.Kill(i)
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
	}
	l.more(t, 5)
	l.check(t, c)
}

// A node that is left alone answers as etcd does: at once where the client wants a
// leader, at the end of etcd's time where not; and reads that may be old go on.
func TestMinority(t *testing.T) {
	c := newCluster(t)
	cl := client(t, c)
	if _, err := cl.Put(t.Context(), "a", "1"); err != nil {
		t.Fatal(err)
	}
	alone, err := clientv3.New(clientv3.Config{Endpoints: c.Endpoints()[2:]})
	if err != nil {
		t.Fatal(err)
	}
	defer alone.Close()
	leader := clientv3.WithRequireLeader(t.Context())
	watch := alone.Watch(leader, "a", clientv3.WithCreatedNotify())
	<-watch
	// The put is answered when two of three have it. What the last does not know to be
	// committed when the others die, it can't serve.
	for known := false; !known; {
		resp, err := alone.Get(t.Context(), "a", clientv3.WithSerializable())
		if err != nil {
			t.Fatal(err)
		}
		known = len(resp.Kvs) == 1
	}
	c.Kill(0)
	c.Kill(1)

	for resp := range watch {
		if err := resp.Err(); err != nil {
			if err != rpctypes.ErrNoLeader {
				t.Errorf("the watch ends with %v", err)
			}
			break
		}
	}
	if _, err := alone.Get(leader, "a"); err != rpctypes.ErrNoLeader {
		t.Errorf("get that wants a leader: %v", err)
	}
	if _, err := alone.Put(leader, "a", "2"); err != rpctypes.ErrNoLeader {
		t.Errorf("put that wants a leader: %v", err)
	}
	if resp, err := alone.Get(t.Context(), "a", clientv3.WithSerializable()); err != nil || len(resp.Kvs) != 1 {
		t.Errorf("serializable get: %v, %v", resp, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	begun := time.Now()
	_, err = alone.Put(ctx, "a", "2")
	if took := time.Since(begun); err != rpctypes.ErrTimeout && err != rpctypes.ErrTimeoutDueToLeaderFail || took < time.Second || took > 15*time.Second {
		t.Errorf("put after %v: %v", took, err)
	}
	st, err := alone.Status(t.Context(), c.Endpoints()[2])
	if err != nil || st.Leader != 0 || len(st.Errors) == 0 {
		t.Errorf("status: %v, %v", st, err)
	}
	for i := range 2 {
		if err := c.Nodes[i].Launch(); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Serving(time.Minute); err != nil {
		t.Fatal(err)
	}
	if _, err := alone.Put(leader, "a", "3"); err != nil {
		t.Errorf("put with a quorum again: %v", err)
	}
}
