package cluster

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/flotilladb/flotilla/e2e/proc"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// The disk of the node that leads is filled to the last byte. Its leaders go to the
// others, which take puts all the time, and so does it for them; no alarm is raised.
func TestFullDisk(t *testing.T) {
	if *etcd != "" {
		t.Skip("etcd refuses puts when one member is full")
	}
	disks := proc.SmallDisks(t, 3, 512)
	cfg := proc.ClusterConfig{Bin: *flotilla, Args: []string{"--planner=false"}}
	for _, d := range disks {
		cfg.Dirs = append(cfg.Dirs, d.Dir)
	}
	c := proc.StartCluster(t, cfg)
	led, err := c.Led(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	full := slices.Index(led, slices.Max(led))
	if err := disks[full].Fill(); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	for n := 0; ; n++ {
		putBy(t, c, n%3, fmt.Sprint(n))
		if led, err = c.Led(t.Context()); err == nil && led[full] == 0 {
			t.Logf("no leader is left after %v, %d puts", time.Since(begun), n)
			break
		}
		if time.Since(begun) > 30*time.Second {
			t.Fatalf("leaders stay: %v, %v", led, err)
		}
	}
	for n := range 30 {
		putBy(t, c, n%3, fmt.Sprint(n))
	}
	if resp, err := client(t, c).AlarmList(t.Context()); err != nil || len(resp.Alarms) > 0 {
		t.Errorf("alarms: %v, %v", resp, err)
	}
	if err := disks[full].Empty(); err != nil {
		t.Fatal(err)
	}
	for n := range 30 {
		putBy(t, c, n%3, fmt.Sprint(n))
	}
}

// putBy puts a key by one node, which must take it.
func putBy(t *testing.T, c *proc.Cluster, i int, value string) {
	t.Helper()
	cl, err := clientv3.New(clientv3.Config{Endpoints: c.Endpoints()[i : i+1]})
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := cl.Put(ctx, "a", value); err != nil {
		t.Fatalf("put by node %d: %v", i, err)
	}
}
