package cluster

import (
	"flag"
	"fmt"
	"testing"
	"time"

	"github.com/flotilladb/flotilla/e2e/proc"
	"github.com/flotilladb/flotilla/proto/adminpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

var (
	flotilla = flag.String("flotilla", "../../bin/flotilla", "the program under test")
	etcd     = flag.String("etcd", "", "test this etcd instead, to see what it does")
	rounds   = flag.Int("rounds", 1, "how often every node fails")
	seed     = flag.Uint64("seed", 1, "where random moments come from")
)

// newCluster runs three nodes, with ranges that are split among the keys of the
// tests.
func newCluster(t *testing.T) *proc.Cluster {
	t.Helper()
	cfg := proc.ClusterConfig{Bin: *flotilla}
	if *etcd != "" {
		cfg.Bin, cfg.Etcd = *etcd, true
	}
	c := proc.StartCluster(t, cfg)
	if *etcd != "" {
		return c
	}
	conn, err := c.Nodes[0].Dial()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, at := range []string{"a/04", "b", "m", "z/04"} {
		if _, err := adminpb.NewAdminClient(conn).SplitRange(t.Context(), &adminpb.SplitRangeRequest{Key: []byte(at)}); err != nil {
			t.Fatalf("split at %s: %v", at, err)
		}
	}
	return c
}

// client is one of all nodes, as applications have it.
func client(t *testing.T, c *proc.Cluster) *clientv3.Client {
	t.Helper()
	cl, err := clientv3.New(clientv3.Config{Endpoints: c.Endpoints(), Logger: zap.NewNop(), DialTimeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cl.Close() })
	return cl
}

func key(side string, worker int) string { return fmt.Sprintf("%s/%02d", side, worker) }
