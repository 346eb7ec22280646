package load

import (
	"context"
	"flag"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/flotilladb/flotilla/bench/load"
	"github.com/flotilladb/flotilla/e2e/proc"
	"github.com/flotilladb/flotilla/e2e/realetcd"
	"github.com/flotilladb/flotilla/proto/adminpb"
)

var (
	flotilla = flag.String("flotilla", "../../bin/flotilla", "Flotilla's program")
	systems  = flag.String("systems", "etcd", "etcd, flotilla or both, separated by a comma")
)

// groups are the ranges that a Flotilla has for the keys of each load.
const groups = 16

func TestLoads(t *testing.T) {
	for _, system := range strings.Split(*systems, ",") {
		t.Run(system, func(t *testing.T) {
			addr := start(t, system)
			for _, mode := range []string{load.WatchLatency, load.WatchIdle, load.WatchProgress, load.WatchSlow, load.WatchResume} {
				for _, on := range []string{load.OnKey, load.OnPrefix, load.OnAll} {
					t.Run("watch "+mode+" "+on, func(t *testing.T) { watch(t, system, addr, mode, on) })
				}
			}
			for _, mode := range []string{load.LeaseGrant, load.LeaseKeepAlive, load.LeaseStorm} {
				t.Run("lease "+mode, func(t *testing.T) { lease(t, system, addr, mode) })
			}
		})
	}
}

func start(t *testing.T, system string) string {
	if system == "etcd" {
		return realetcd.Start(t)
	}
	dir := t.TempDir()
	node, err := proc.New(proc.Config{Bin: *flotilla, Dir: filepath.Join(dir, "data"), Log: filepath.Join(dir, "log")})
	if err != nil {
		t.Fatal(err)
	}
	if err := node.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := node.Stop(); err != nil || t.Failed() {
			t.Errorf("%v\n%s", err, node.Tail())
		}
	})
	return node.Addr
}

func watch(t *testing.T, system, addr, mode, on string) {
	c := load.DefaultWatchConfig(mode)
	c.Target = load.Target{Endpoints: []string{addr}, Conns: 2}
	c.Prefix = "w/" + mode + on + "/"
	c.Watchers, c.Streams, c.Keys, c.Groups, c.On, c.PrevKV = 30, 3, 20, groups, on, true
	c.PerSecond, c.Duration, c.AsksPerSec, c.Settle = 200, time.Second, 20, 0
	c.Events, c.PutsPerTxn = 500, 5
	if on == load.OnAll {
		c.Prefix = "v/" + mode + "/" // nobody else writes: these tests run one after the other
	}
	cut(t, system, addr, c.Prefix)
	r, err := load.Watch(t.Context(), c)
	check(t, r, err)
}

func lease(t *testing.T, system, addr, mode string) {
	c := load.DefaultLeaseConfig(mode)
	c.Target = load.Target{Endpoints: []string{addr}, Conns: 2}
	c.Prefix = "l/" + mode + "/"
	c.Leases, c.KeysPerLease, c.Groups, c.PerSecond, c.Duration, c.Settle = 60, 3, groups, 200, time.Second, 0
	if mode == load.LeaseStorm {
		c.TTL, c.PatienceTime = 3*time.Second, 20*time.Second
	}
	cut(t, system, addr, c.Prefix)
	r, err := load.Lease(t.Context(), c)
	check(t, r, err)
}

// cut cuts a Flotilla at the groups of a prefix.
func cut(t *testing.T, system, addr, prefix string) {
	if system == "etcd" {
		return
	}
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for i := range groups {
		req := &adminpb.SplitRangeRequest{Key: load.GroupStart(prefix, i)}
		if _, err := adminpb.NewAdminClient(conn).SplitRange(ctx, req); err != nil {
			t.Fatal(err)
		}
	}
}

func check(t *testing.T, r *load.Report, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := r.Print(&out); err != nil {
		t.Fatal(err)
	}
	if r.Wrong() != 0 {
		t.Errorf("%v things went wrong:\n%s", r.Wrong(), out.String())
	}
	for _, name := range []string{"puts", "delivered", "keepalives"} {
		if slices.Contains(r.Names(), name) && r.Get(name) == 0 {
			t.Errorf("nothing happened:\n%s", out.String())
		}
	}
}
