package node

import (
	"log/slog"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/internal/clock"
)

// TestElectionTimeoutIsPromised: promises run for the election timeout that the node is
// given, and so its start waits for them and a silent leader is waited for.
func TestElectionTimeoutIsPromised(t *testing.T) {
	cfg := Config{Dir: t.TempDir(), ElectionTimeout: 3 * time.Second, HeartbeatInterval: 200 * time.Millisecond}
	cfg.Logger = slog.New(slog.DiscardHandler)
	n, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer closeNode(t, n)
	n.locked(func() {
		if got := n.core.Store().ElectionTimeout(); got != 3*time.Second {
			t.Errorf("promises run for %v, want 3s", got)
		}
		if got := n.core.Store().HeartbeatInterval(); got != 200*time.Millisecond {
			t.Errorf("heartbeats every %v, want 200ms", got)
		}
	})
}

// TestStartWaitsForLongerPromise: a start with a shorter election timeout votes only when
// the promises of the starts before it have run out, whatever became of those between.
func TestStartWaitsForLongerPromise(t *testing.T) {
	eng := engine.NewMem()
	ident, err := Identify(eng, "token")
	if err != nil {
		t.Fatal(err)
	}
	start := func(timeout, want time.Duration) {
		t.Helper()
		cfg := Config{Dir: t.TempDir(), ElectionTimeout: timeout}
		cfg.setDefaults()
		begun, err := NextStart(eng)
		if err != nil {
			t.Fatal(err)
		}
		earlier, err := notePromise(eng, cfg.ElectionTimeout)
		if err != nil {
			t.Fatal(err)
		}
		core, err := coreOf(&cfg, ident, eng, begun, earlier)
		if err != nil {
			t.Fatal(err)
		}
		now := clock.Time(time.Hour)
		core.Tick(now)
		if got := core.Store().VotesFrom().Sub(now); got != want {
			t.Errorf("election timeout %v: votes after %v, want %v", timeout, got, want)
		}
	}
	start(200*time.Millisecond, time.Second) // a version without the row may have been there
	start(10*time.Second, 10*time.Second)
	start(200*time.Millisecond, 10*time.Second)
	start(200*time.Millisecond, 10*time.Second) // it was not long enough for the row to be lowered
	if err := writePromise(eng, 200*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	start(200*time.Millisecond, 200*time.Millisecond)
}

// As in etcd no lease is shorter than one and a half election timeouts, in whole seconds.
func TestShortestLease(t *testing.T) {
	for timeout, want := range map[time.Duration]int64{0: 2, 300 * time.Millisecond: 1, 5 * time.Second: 8} {
		n, err := Open(t.Context(), Config{Dir: t.TempDir(), ElectionTimeout: timeout, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		resp, err := n.Leases().LeaseGrant(t.Context(), &pb.LeaseGrantRequest{TTL: 1})
		if err != nil || resp.TTL != want {
			t.Errorf("election timeout %v: a lease of %v, %v, want %d s", timeout, resp.GetTTL(), err, want)
		}
		closeNode(t, n)
	}
}
