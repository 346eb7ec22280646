package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/flotilladb/flotilla/internal/config"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/watchfeed"
)

// netCluster is a static cluster in this process: nodes with folders of their own
// that talk over sockets. A node's port is another one after each start.
type netCluster struct {
	t     testing.TB
	nodes []*Node // nil: it does not run
	dirs  []string
	names []config.Member
	// static nodes begin the cluster; the others join it.
	static int
	// tune, if set, changes what a node is configured with.
	tune func(*Config)

	mu    sync.Mutex
	addrs []string
}

func newNetCluster(t testing.TB, n int) *netCluster {
	t.Helper()
	c := &netCluster{t: t, nodes: make([]*Node, n), addrs: make([]string, n), static: min(n, 3)}
	for i := range n {
		name := string(rune('a' + i))
		c.dirs = append(c.dirs, t.TempDir())
		c.names = append(c.names, config.Member{Name: name, PeerURLs: []string{"http://" + name + ":1"}})
	}
	t.Cleanup(func() {
		for i := range c.nodes {
			c.stop(i)
		}
	})
	return c
}

// address is where a store is.
func (c *netCluster) address(store metapb.StoreID) (string, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if i := int(store) - 1; i < len(c.addrs) && c.addrs[i] != "" {
		return c.addrs[i], true
	}
	return "", false
}

// start starts nodes at once: a cluster serves when most of them run.
func (c *netCluster) start(which ...int) {
	c.t.Helper()
	errs := make([]error, len(which))
	var wg sync.WaitGroup
	for k, i := range which {
		wg.Go(func() { errs[k] = c.open(i) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		c.t.Fatal(err)
	}
}

func (c *netCluster) open(i int) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.addrs[i] = l.Addr().String()
	c.mu.Unlock()
	ctx, cancel := context.WithTimeout(c.t.Context(), 30*time.Second)
	defer cancel()
	cfg := Config{
		Dir: c.dirs[i], Name: c.names[i].Name, ClusterToken: "t", PeerListener: l, PeerAddress: c.address,
		PeerURLs: []string{"http://" + l.Addr().String()}, NoPlanner: true, Logger: slog.New(slog.DiscardHandler),
	}
	if i < c.static {
		cfg.Members = c.names[:c.static]
	} else {
		first, _ := c.address(1)
		cfg.Join = []string{first}
	}
	if c.tune != nil {
		c.tune(&cfg)
	}
	n, err := Open(ctx, cfg)
	if err != nil {
		return fmt.Errorf("node %s: %w", c.names[i].Name, err)
	}
	c.nodes[i] = n
	return nil
}

func (c *netCluster) stop(i int) {
	c.t.Helper()
	if n := c.nodes[i]; n != nil {
		c.nodes[i] = nil
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := n.Stop(ctx); err != nil {
			c.t.Errorf("stop node %s: %v", c.names[i].Name, err)
		}
	}
}

// stopAll stops all nodes at once: one that is left behind would look for others to lead
// its ranges.
func (c *netCluster) stopAll() {
	var wg sync.WaitGroup
	for i := range c.nodes {
		wg.Go(func() { c.stop(i) })
	}
	wg.Wait()
}

func (c *netCluster) put(i int, key, value string) int64 {
	c.t.Helper()
	resp, err := c.nodes[i].KV().Put(c.t.Context(), &pb.PutRequest{Key: []byte(key), Value: []byte(value)})
	if err != nil {
		c.t.Fatalf("put %s through %d: %v", key, i, err)
	}
	return resp.Header.Revision
}

func (c *netCluster) get(i int, key string) string {
	c.t.Helper()
	resp, err := c.nodes[i].KV().Range(c.t.Context(), &pb.RangeRequest{Key: []byte(key)})
	if err != nil {
		c.t.Fatalf("get %s through %d: %v", key, i, err)
	}
	if len(resp.Kvs) == 0 {
		return ""
	}
	return string(resp.Kvs[0].Value)
}

// every calls fn for each node that runs.
func (c *netCluster) every(fn func(i int)) {
	for i, n := range c.nodes {
		if n != nil {
			fn(i)
		}
	}
}

// led tells who leads which range in which term. A revision that is missing is a failure of the
// program, unless somebody else leads than before: a machine that stood for an election timeout.
func (c *netCluster) led() string {
	var b strings.Builder
	c.every(func(i int) {
		list, err := c.nodes[i].ListRanges(c.t.Context())
		fmt.Fprintf(&b, "node %d: %v\n", i, err)
		for _, in := range list.GetRanges() {
			fmt.Fprintf(&b, "  range %d, term %d, led by replica %d, applied %d of %d\n",
				in.Descriptor_.RangeId, in.Term, in.LeaderReplicaId, in.AppliedIndex, in.LastIndex)
		}
	})
	return b.String()
}

// watch opens a watch of all keys here from a revision on.
func (c *netCluster) watch(i int, from int64) *recorder {
	c.t.Helper()
	s, err := c.nodes[i].Watches().Open(watchfeed.StreamConfig{WatchesMax: 1})
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(s.Close)
	if err := s.Create(watchfeed.CreateRequest{ID: 1, Key: []byte("a"), End: []byte("z"), Start: from}); err != nil {
		c.t.Fatal(err)
	}
	return &recorder{t: c.t, s: s}
}

// expectEvents is expect behind the answer that the watch was created, whose
// revision is what the node had heard of.
func (r *recorder) expectEvents(want ...string) {
	r.t.Helper()
	got := r.until(len(want) + 1)
	r.expect(append(got[:1:1], want...)...)
}

// Any node serves everything: what one writes all read, watch and renew, over
// ranges that are split, and after a node was away.
func TestThreeNodesOverSockets(t *testing.T) {
	c := newNetCluster(t, 3)
	c.start(0, 1, 2)
	rev := int64(1)
	c.every(func(i int) {
		if rev++; c.put(i, fmt.Sprintf("k%d", i), "1") != rev {
			t.Fatalf("put %d is not at revision %d\n%s", i, rev, c.led())
		}
		c.every(func(j int) {
			if got := c.get(j, fmt.Sprintf("k%d", i)); got != "1" {
				t.Fatalf("node %d reads %q of what node %d wrote", j, got, i)
			}
		})
	})
	if _, err := c.nodes[1].client.Split(t.Context(), []byte("k1")); err != nil {
		t.Fatal(err)
	}
	rev = c.txnOverRanges(2, rev)
	c.every(func(i int) {
		w := c.watch(i, 2)
		w.expectEvents("1 k0=1@2", "1 k1=1@3", "1 k2=1@4", "1 k0=2@5", "1 k2=2@5")
	})
	grant, err := c.nodes[0].Leases().LeaseGrant(t.Context(), &pb.LeaseGrantRequest{TTL: 600})
	if err != nil {
		t.Fatal(err)
	}
	c.every(func(i int) {
		if ttl, err := c.nodes[i].Leases().LeaseRenew(t.Context(), grant.ID, 0); err != nil || ttl != 600 {
			t.Fatalf("renewal through node %d: %d, %v", i, ttl, err)
		}
	})
	for i := range c.nodes {
		c.stop(i)
		j := (i + 1) % 3
		if next := c.put(j, "away", fmt.Sprint(i)); next == rev+1 {
			rev = next
		} else {
			t.Fatalf("after the stop of node %d revision %d follows %d\n%s", i, next, rev, c.led())
		}
		w := c.watch(j, rev)
		w.expectEvents(fmt.Sprintf("1 away=%d@%d", i, rev))
		c.start(i)
		if got := c.get(i, "away"); got != fmt.Sprint(i) {
			t.Fatalf("node %d reads %q after its start", i, got)
		}
	}
}

// txnOverRanges writes both sides of the split at one revision.
func (c *netCluster) txnOverRanges(i int, rev int64) int64 {
	c.t.Helper()
	resp, err := c.nodes[i].KV().Txn(c.t.Context(), &pb.TxnRequest{Success: []*pb.RequestOp{putOp("k0", "2"), putOp("k2", "2")}})
	if err != nil {
		c.t.Fatal(err)
	}
	if resp.Header.Revision != rev+1 {
		c.t.Fatalf("the transaction is at revision %d after %d\n%s", resp.Header.Revision, rev, c.led())
	}
	return resp.Header.Revision
}
