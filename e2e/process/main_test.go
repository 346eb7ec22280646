package process

import (
	"context"
	"flag"
	"path/filepath"
	"testing"
	"time"

	"github.com/flotilladb/flotilla/e2e/proc"
	"github.com/flotilladb/flotilla/proto/adminpb"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
)

var (
	flotilla = flag.String("flotilla", "../../bin/flotilla", "the program under test")
	etcd     = flag.String("etcd", "", "test this etcd instead, where that makes sense")
	kills    = flag.Int("kills", 10, "how often the node is killed")
	seed     = flag.Uint64("seed", 1, "where random moments come from")
)

// newNode prepares a node on an empty folder. It is killed when the test ends.
func newNode(t *testing.T, dir string, args ...string) *proc.Node {
	t.Helper()
	cfg := proc.Config{Bin: *flotilla, Dir: dir, Log: filepath.Join(t.TempDir(), "log"), Args: args}
	if *etcd != "" {
		cfg.Bin, cfg.Etcd = *etcd, true
	}
	node, err := proc.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(node.Kill)
	return node
}

func start(t *testing.T, node *proc.Node) {
	t.Helper()
	if err := node.Start(); err != nil {
		t.Fatal(err)
	}
}

// connect opens a connection that the test closes.
func connect(t *testing.T, node *proc.Node) *grpc.ClientConn {
	t.Helper()
	conn, err := node.Dial()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// kv is a client of a node that was started.
func kv(t *testing.T, node *proc.Node) pb.KVClient { return pb.NewKVClient(connect(t, node)) }

// splitAt cuts the node's ranges; etcd has none.
func splitAt(t *testing.T, node *proc.Node, keys ...string) {
	t.Helper()
	if *etcd != "" {
		return
	}
	admin := adminpb.NewAdminClient(connect(t, node))
	for _, key := range keys {
		if _, err := admin.SplitRange(t.Context(), &adminpb.SplitRangeRequest{Key: []byte(key)}); err != nil {
			t.Fatalf("split at %q: %v", key, err)
		}
	}
}

func onlyFlotilla(t *testing.T) {
	if *etcd != "" {
		t.Skip("about Flotilla's own folder or flags")
	}
}

// short bounds one request.
func short(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}
