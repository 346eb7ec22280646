package etcdapi

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	epb "go.etcd.io/etcd/server/v3/etcdserver/api/v3election/v3electionpb"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3lock/v3lockpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/flotilladb/flotilla/internal/stop"
)

// queueTest is Lock and Election of a model node, called directly.
type queueTest struct {
	*testing.T
	node     *modelNode
	st       *stop.Stopper
	lock     v3lockpb.LockServer
	election epb.ElectionServer
	conn     *localConn
}

func withQueue(t *testing.T, f func(*queueTest)) {
	synctest.Test(t, func(t *testing.T) {
		n := newModelNode(t)
		cfg := n.config(t)
		cfg.Stopper = stop.New(context.Background())
		s := &Server{cfg: cfg, draining: cfg.Stopper.Context()}
		kv := &kvServer{kv: n, id: n, maxTxnOps: 128, maxRequestBytes: 3 << 19}
		svc := services{kv: kv, lease: &leaseServer{leases: n, id: n, alarms: n, draining: s.draining}}
		q := s.newQueue(&svc)
		qt := &queueTest{t, n, cfg.Stopper, &lockServer{queue: q}, &electionServer{queue: q}, newLocalConn(cfg.Stopper)}
		epb.RegisterElectionServer(qt.conn, qt.election)
		func() {
			defer cfg.Stopper.Stop()
			f(qt)
		}()
		if len(n.streams) != 0 {
			t.Errorf("%d streams of watches are left", len(n.streams))
		}
	})
}

// start calls Lock on a goroutine; what it says comes when it comes.
func (t *queueTest) start(ctx context.Context, name string, lease int64) chan any {
	out := make(chan any, 1)
	if err := t.st.Go("client", func(context.Context) {
		resp, err := t.lock.Lock(ctx, &v3lockpb.LockRequest{Name: []byte(name), Lease: lease})
		if err != nil {
			out <- err
			return
		}
		out <- string(resp.Key)
	}); err != nil {
		t.Fatal(err)
	}
	synctest.Wait()
	return out
}

func (t *queueTest) wantNothing(c chan any) {
	t.Helper()
	synctest.Wait()
	select {
	case got := <-c:
		t.Fatalf("it did not wait: %v", got)
	default:
	}
}

func (t *queueTest) want(c chan any, want any) {
	t.Helper()
	synctest.Wait()
	select {
	case got := <-c:
		if err, ok := got.(error); ok {
			got = status.Convert(err).Message()
		}
		if got != want {
			t.Fatalf("got %v, want %v", got, want)
		}
	default:
		t.Fatalf("it still waits, want %v", want)
	}
}

// A lock passes from one to the next in the order in which they came; who goes
// away, or loses the lease, is passed over.
func TestLock(t *testing.T) {
	withQueue(t, func(t *queueTest) {
		for id := int64(10); id < 16; id++ {
			t.node.leases[id] = 60
		}
		ctx := context.Background()
		t.want(t.start(ctx, "l", 10), "l/a")
		t.want(t.start(ctx, "l", 10), "l/a") // once more is no more
		second := t.start(ctx, "l", 11)
		impatient, cancel := context.WithCancel(ctx)
		third := t.start(impatient, "l", 12)
		fourth := t.start(ctx, "l", 13)
		fifth := t.start(ctx, "l", 14)
		t.want(t.start(ctx, "other", 11), "other/b")
		for _, c := range []chan any{second, third, fourth, fifth} {
			t.wantNothing(c)
		}
		cancel()
		t.want(third, "context canceled")
		if kvs := t.node.state.Live([]byte("l/c"), nil, t.node.state.Revision()); len(kvs) != 0 {
			t.Fatalf("the key of who went away is left: %v", kvs)
		}
		unlock := func(key string) {
			if _, err := t.lock.Unlock(ctx, &v3lockpb.UnlockRequest{Key: []byte(key)}); err != nil {
				t.Fatal(err)
			}
		}
		unlock("l/a")
		t.want(second, "l/b")
		if _, err := t.node.LeaseRevoke(ctx, &pb.LeaseRevokeRequest{ID: 13}); err != nil {
			t.Fatal(err)
		}
		t.wantNothing(fourth) // still behind the second, as in etcd
		t.wantNothing(fifth)
		unlock("l/b")
		t.want(fourth, "mutex: session is expired")
		t.want(fifth, "l/e")
		t.want(t.start(ctx, "l", 99), "etcdserver: requested lease not found")
		if c := t.start(ctx, "l2", 0); len(t.node.leases) != 6 { // 13 is gone, a new one is there
			t.Fatalf("%v, leases %v", <-c, t.node.leases)
		}
	})
}

// A waiter is not lost when the history that it watches from is compacted.
func TestLockAcrossCompaction(t *testing.T) {
	withQueue(t, func(t *queueTest) {
		t.node.leases[10], t.node.leases[11] = 60, 60
		ctx := context.Background()
		t.want(t.start(ctx, "l", 10), "l/a")
		waits := t.start(ctx, "l", 11)
		if _, err := t.node.Put(ctx, &pb.PutRequest{Key: []byte("x")}); err != nil {
			t.Fatal(err)
		}
		if _, err := t.node.Compact(ctx, &pb.CompactionRequest{Revision: t.node.Revision()}); err != nil {
			t.Fatal(err)
		}
		if _, err := t.lock.Unlock(ctx, &v3lockpb.UnlockRequest{Key: []byte("l/a")}); err != nil {
			t.Fatal(err)
		}
		t.want(waits, "l/b")
	})
}

// Who waits for a lock does not hold up the end of the server.
func TestLockEndsWithTheServer(t *testing.T) {
	withQueue(t, func(t *queueTest) {
		t.node.leases[10], t.node.leases[11] = 60, 60
		t.want(t.start(context.Background(), "l", 10), "l/a")
		waits := t.start(context.Background(), "l", 11)
		t.st.Quiesce()
		t.want(waits, "etcdserver: server stopped")
	})
}

func TestElection(t *testing.T) {
	withQueue(t, func(t *queueTest) {
		for id := int64(10); id < 13; id++ {
			t.node.leases[id] = 60
		}
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		name := []byte("e")
		if _, err := t.election.Leader(ctx, &epb.LeaderRequest{Name: name}); status.Convert(err).Message() != "election: no leader" {
			t.Fatalf("nobody leads: %v", err)
		}
		observe, err := epb.NewElectionClient(t.conn).Observe(ctx, &epb.LeaderRequest{Name: name})
		if err != nil {
			t.Fatal(err)
		}
		seen := make(chan any, 100)
		if err := t.st.Go("observer", func(context.Context) {
			for {
				resp, err := observe.Recv()
				if err != nil {
					return
				}
				seen <- string(resp.Kv.Value)
			}
		}); err != nil {
			t.Fatal(err)
		}
		first, err := t.election.Campaign(ctx, &epb.CampaignRequest{Name: name, Lease: 10, Value: []byte("one")})
		if err != nil || first.Header.Revision != 2 || first.Leader.Rev != 2 || string(first.Leader.Key) != "e/a" || first.Leader.Lease != 10 {
			t.Fatalf("campaign: %v, %v", first, err)
		}
		t.want(seen, "one")
		won := make(chan any, 1)
		if err := t.st.Go("campaign", func(context.Context) {
			resp, err := t.election.Campaign(ctx, &epb.CampaignRequest{Name: name, Lease: 11, Value: []byte("two")})
			if err != nil {
				won <- err
				return
			}
			won <- string(resp.Leader.Key)
		}); err != nil {
			t.Fatal(err)
		}
		t.wantNothing(won)
		if _, err := t.election.Proclaim(ctx, &epb.ProclaimRequest{Leader: first.Leader, Value: []byte("more")}); err != nil {
			t.Fatal(err)
		}
		t.want(seen, "more")
		// The same lease campaigns again: it leads already, with a new value.
		if again, err := t.election.Campaign(ctx, &epb.CampaignRequest{Name: name, Lease: 10, Value: []byte("again")}); err != nil || again.Leader.Rev != 2 {
			t.Fatalf("campaign again: %v, %v", again, err)
		}
		t.want(seen, "again")
		leader, err := t.election.Leader(ctx, &epb.LeaderRequest{Name: name})
		if err != nil || string(leader.Kv.Value) != "again" {
			t.Fatalf("leader: %v, %v", leader, err)
		}
		if _, err := t.election.Resign(ctx, &epb.ResignRequest{Leader: first.Leader}); err != nil {
			t.Fatal(err)
		}
		t.want(won, "e/b")
		t.want(seen, "two")
		t.refusals(first.Leader)
	})
}

// refusals are those of a leader that is one no more.
func (t *queueTest) refusals(old *epb.LeaderKey) {
	ctx := context.Background()
	_, err := t.election.Proclaim(ctx, &epb.ProclaimRequest{Leader: old})
	if status.Code(err) != codes.Unknown || status.Convert(err).Message() != "election: not leader" {
		t.Errorf("proclaim: %v", err)
	}
	if _, err := t.election.Resign(ctx, &epb.ResignRequest{Leader: old}); err != nil {
		t.Errorf("resign twice: %v", err)
	}
	for _, err := range []error{
		func() error { _, err := t.election.Proclaim(ctx, &epb.ProclaimRequest{}); return err }(),
		func() error { _, err := t.election.Resign(ctx, &epb.ResignRequest{}); return err }(),
	} {
		if status.Code(err) != codes.Unknown || status.Convert(err).Message() != `"leader" field must be provided` {
			t.Errorf("without a leader: %v", err)
		}
	}
	// A campaign that is given up leaves no key.
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if _, err := t.election.Campaign(ctx, &epb.CampaignRequest{Name: []byte("e"), Lease: 12}); status.FromContextError(err).Code() != codes.DeadlineExceeded {
		t.Errorf("campaign: %v", err)
	}
	if kvs := t.node.state.Live([]byte("e/c"), nil, t.node.state.Revision()); len(kvs) != 0 {
		t.Errorf("a key is left: %v", kvs)
	}
}
