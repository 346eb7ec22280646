package k8s

import (
	"context"
	"flag"
	"io"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/flotilladb/flotilla/e2e/proc"
	"google.golang.org/grpc/grpclog"
)

var (
	flotilla = flag.String("flotilla", "../../bin/flotilla", "the program under test")
	etcd     = flag.String("etcd", "", "test this etcd instead, to see what is the tests' own")
	seed     = flag.Uint64("seed", 1, "where random borders come from")
)

// rangesMax ends the splitting: small ranges are the point, not many.
const rangesMax = 200

func TestMain(m *testing.M) {
	flag.Parse()
	grpclog.SetLoggerV2(grpclog.NewLoggerV2(io.Discard, io.Discard, os.Stderr))
	os.Exit(m.Run())
}

// Two tests wait for progress that the server tells by itself.
func start(t *testing.T, nodes int) *proc.Cluster {
	cfg := proc.ClusterConfig{Bin: *flotilla, Nodes: nodes, Args: []string{"--watch-progress-notify-interval=1s"}}
	if *etcd != "" {
		cfg.Bin, cfg.Etcd = *etcd, true
	}
	return proc.StartCluster(t, cfg)
}

func TestOneNode(t *testing.T) { runAll(t, start(t, 1).Endpoints()) }

// Three nodes; each client knows all of them. Ranges are cut beside and between
// the keys of whatever test runs, and their leaders move, all the time.
func TestThreeNodes(t *testing.T) {
	c := start(t, 3)
	if *etcd == "" {
		disturb(t, c)
	}
	runAll(t, c.Endpoints())
}

// disturb cuts ranges at random places and hands leaders from node to node until
// the test ends.
func disturb(t *testing.T, c *proc.Cluster) {
	ctx, cancel := context.WithCancel(context.Background())
	cut, moved := make(chan int, 1), make(chan int, 1)
	go func() {
		cut <- c.KeepSplitting(ctx, rand.New(rand.NewPCG(*seed, 0)), rangesMax, 200*time.Millisecond)
	}()
	go func() {
		moved <- c.KeepTransferring(ctx, rand.New(rand.NewPCG(*seed, 1)), 200*time.Millisecond)
	}()
	t.Cleanup(func() {
		cancel()
		cuts, moves := <-cut, <-moved
		t.Logf("%d ranges were cut, leaders went over %d times", cuts, moves)
		if cuts == 0 || moves == 0 {
			t.Error("ranges or leaders were left alone")
		}
	})
}
