package recipes

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/flotilladb/flotilla/e2e/proc"
	"github.com/flotilladb/flotilla/proto/adminpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

var (
	flotilla = flag.String("flotilla", "../../bin/flotilla", "the program under test")
	etcd     = flag.String("etcd", "", "test this etcd instead")
	etcdctl  = flag.String("etcdctl", "../../bin/etcdctl", "etcd's command line")
	seed     = flag.Uint64("seed", 1, "where the splits come from")
)

const (
	rangesMin  = 16
	splitEvery = 25 * time.Millisecond
	splitsMax  = 400 // of a test
	// patience bounds a test: reaching it is a hang.
	patience = time.Minute
)

// server is a server of its own for one test, and a client of it.
type server struct {
	*clientv3.Client
	node   *proc.Node
	splits atomic.Int64
}

// start starts a server with many ranges that go on being split until the test
// ends. Etcd has none.
func start(t *testing.T) *server {
	t.Helper()
	dir := t.TempDir()
	cfg := proc.Config{Bin: *flotilla, Dir: filepath.Join(dir, "data"), Log: filepath.Join(dir, "log")}
	if *etcd != "" {
		cfg.Bin, cfg.Etcd = *etcd, true
	}
	node, err := proc.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(node.Kill)
	if err := node.Start(); err != nil {
		t.Fatal(err)
	}
	s := &server{node: node}
	s.Client = s.client(t)
	if *etcd == "" {
		s.keepSplitting(t)
	}
	t.Cleanup(func() {
		if t.Failed() && *etcd == "" {
			t.Logf("%d splits; the server's last words:\n%s", s.splits.Load(), node.Tail())
		}
	})
	return s
}

// client returns another client, on a connection of its own.
func (s *server) client(t *testing.T) *clientv3.Client {
	t.Helper()
	c, err := clientv3.New(clientv3.Config{
		Endpoints: []string{s.node.Addr}, DialTimeout: 10 * time.Second, Logger: zap.NewNop(),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// keepSplitting cuts between the keys that are there, wherever that is.
func (s *server) keepSplitting(t *testing.T) {
	t.Helper()
	conn, err := s.node.Dial()
	if err != nil {
		t.Fatal(err)
	}
	admin := adminpb.NewAdminClient(conn)
	ctx, cancel := context.WithCancel(context.Background())
	for i := range rangesMin {
		if err := s.split(ctx, admin, fmt.Appendf(nil, "%c%d", 'a'+i*26/rangesMin, i)); err != nil {
			t.Fatal(err)
		}
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		rng := rand.New(rand.NewPCG(*seed, 0))
		ticker := time.NewTicker(splitEvery)
		defer ticker.Stop()
		for s.splits.Load() < splitsMax {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
			if err := s.splitSomewhere(ctx, admin, rng); err != nil && ctx.Err() == nil {
				t.Errorf("split: %v", err)
				return
			}
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait(); conn.Close() })
}

func (s *server) splitSomewhere(ctx context.Context, admin adminpb.AdminClient, rng *rand.Rand) error {
	resp, err := s.Get(ctx, "\x00", clientv3.WithFromKey(), clientv3.WithKeysOnly())
	if err != nil || len(resp.Kvs) == 0 {
		return err
	}
	key := resp.Kvs[rng.IntN(len(resp.Kvs))].Key
	if rng.IntN(2) == 0 {
		key = append(key, byte(rng.IntN(256)))
	}
	return s.split(ctx, admin, key)
}

func (s *server) split(ctx context.Context, admin adminpb.AdminClient, key []byte) error {
	if _, err := admin.SplitRange(ctx, &adminpb.SplitRangeRequest{Key: key}); err != nil {
		return fmt.Errorf("at %q: %w", key, err)
	}
	s.splits.Add(1)
	return nil
}

// soon bounds a test.
func soon(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// must ends a test with an error.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// put writes, for a test that wants nothing but that.
func (s *server) put(t *testing.T, key, value string, opts ...clientv3.OpOption) int64 {
	t.Helper()
	resp, err := s.Put(soon(t), key, value, opts...)
	must(t, err)
	return resp.Header.Revision
}

// get reads a key; absent tells an empty value from none.
func (s *server) get(t *testing.T, key string) (value string, present bool) {
	t.Helper()
	resp, err := s.Get(soon(t), key)
	must(t, err)
	if len(resp.Kvs) == 0 {
		return "", false
	}
	return string(resp.Kvs[0].Value), true
}

// pairs reads a prefix.
func pairs(t *testing.T, kv clientv3.KV, prefix string) map[string]string {
	t.Helper()
	resp, err := kv.Get(soon(t), prefix, clientv3.WithPrefix())
	must(t, err)
	of := make(map[string]string)
	for _, kv := range resp.Kvs {
		of[string(kv.Key)] = string(kv.Value)
	}
	return of
}

// gone waits until a key is deleted, and returns when that was.
func (s *server) gone(t *testing.T, key string) (rev int64) {
	t.Helper()
	ctx := soon(t)
	resp, err := s.Get(ctx, key)
	must(t, err)
	if len(resp.Kvs) == 0 {
		return 0
	}
	for wr := range s.Watch(ctx, key, clientv3.WithRev(resp.Header.Revision+1), clientv3.WithFilterPut()) {
		must(t, wr.Err())
		return wr.Events[0].Kv.ModRevision
	}
	t.Fatalf("%q is still there", key)
	return 0
}
