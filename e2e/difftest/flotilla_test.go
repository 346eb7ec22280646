package difftest

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"github.com/flotilladb/flotilla/e2e/proc"
	"github.com/flotilladb/flotilla/internal/model"
	"github.com/flotilladb/flotilla/proto/adminpb"
)

var flotilla = flag.String("flotilla", "../../bin/flotilla", "the program to compare with etcd")

// rangesMin is how many ranges the node has before the first request.
const rangesMin = 16

// Flotilla with many ranges, and splits while it works, must look like etcd.
func TestFlotillaAgainstEtcd(t *testing.T) {
	eachSeed(t, func(t *testing.T, r Run) {
		node := startFlotilla(t)
		conn := dial(t, node.Addr)
		admin := adminpb.NewAdminClient(conn)
		for i := range rangesMin {
			if err := split(t.Context(), admin, fmt.Appendf(nil, "k/%03d", 12*i+5)); err != nil {
				t.Fatal(err)
			}
		}
		r.between = func(ctx context.Context, rng *rand.Rand, g *model.Generator) error {
			if rng.IntN(r.Requests/50+1) != 0 {
				return nil
			}
			return split(ctx, admin, g.SplitKey(rng))
		}
		etcd, ours := newRemote(dial(t, startEtcd(t))), newRemote(conn)
		r.watch = watch(t, r.Seed, map[string]*remote{"etcd": etcd, "flotilla": ours})
		if err := r.compare(t.Context(), etcd, ours); err != nil {
			t.Fatalf("%v\n%s", err, node.Tail())
		}
		list, err := admin.ListRanges(t.Context(), &adminpb.ListRangesRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if len(list.Ranges) <= rangesMin {
			t.Fatalf("%d ranges: nothing was split during the run", len(list.Ranges))
		}
	})
}

func TestCornersAgainstEtcd(t *testing.T) {
	a, b := newRemote(dial(t, startEtcd(t))), newRemote(dial(t, startFlotilla(t).Addr))
	for i, req := range corners() {
		if err := (Run{}).step(t.Context(), i, req, a, b); err != nil {
			t.Error(err)
		}
	}
}

// startFlotilla starts a node on an empty folder.
func startFlotilla(t *testing.T) *proc.Node {
	t.Helper()
	dir := t.TempDir()
	node, err := proc.New(proc.Config{Bin: *flotilla, Dir: filepath.Join(dir, "data"), Log: filepath.Join(dir, "log")})
	if err != nil {
		t.Fatal(err)
	}
	if err := node.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(node.Kill)
	return node
}

func split(ctx context.Context, admin adminpb.AdminClient, key []byte) error {
	if _, err := admin.SplitRange(ctx, &adminpb.SplitRangeRequest{Key: key}); err != nil {
		return fmt.Errorf("split at %q: %w", key, err)
	}
	return nil
}
