package proc

import (
	"context"
	"flag"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

var flotilla = flag.String("flotilla", "../../bin/flotilla", "the program under test")

// write puts a key by a node, and tries again until it is answered.
func write(t *testing.T, n *Node, value string) {
	t.Helper()
	conn, err := n.Dial()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	until := time.Now().Add(30 * time.Second)
	for {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		_, err := pb.NewKVClient(conn).Put(ctx, &pb.PutRequest{Key: []byte("k"), Value: []byte(value)})
		cancel()
		if err == nil {
			return
		}
		if time.Now().After(until) {
			t.Fatal(err)
		}
	}
}

func read(t *testing.T, n *Node) string {
	t.Helper()
	conn, err := n.Dial()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	resp, err := pb.NewKVClient(conn).Range(ctx, &pb.RangeRequest{Key: []byte("k")})
	if err != nil || len(resp.Kvs) != 1 {
		t.Fatalf("%v, %v", resp, err)
	}
	return string(resp.Kvs[0].Value)
}

// Each node in turn is killed, then each paused; the others go on, and it catches
// up.
func TestCluster(t *testing.T) {
	c := StartCluster(t, ClusterConfig{Bin: *flotilla})
	for i := range c.Nodes {
		other := c.Nodes[(i+1)%3]
		c.Kill(i)
		write(t, other, "killed")
		if err := c.Restart(i); err != nil {
			t.Fatal(err)
		}
		if err := c.Pause(i); err != nil {
			t.Fatal(err)
		}
		write(t, other, "paused")
		if err := c.Resume(i); err != nil {
			t.Fatal(err)
		}
		if got := read(t, c.Nodes[i]); got != "paused" {
			t.Errorf("node %d reads %q", i, got)
		}
	}
	for i := range c.Nodes {
		if err := c.Stop(i); err != nil {
			t.Errorf("node %d: %v", i, err)
		}
	}
}

// A node that is cut off serves nobody; the others go on; healed it serves what
// they wrote.
func TestNet(t *testing.T) {
	net := StartNet(t, 3)
	c := StartCluster(t, ClusterConfig{Bin: *flotilla, Net: net})
	for i := range c.Nodes {
		if err := net.Isolate(i); err != nil {
			t.Fatal(err)
		}
		write(t, c.Nodes[(i+1)%3], "cut")
		conn, err := c.Nodes[i].Dial()
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if resp, err := pb.NewKVClient(conn).Range(ctx, &pb.RangeRequest{Key: []byte("k")}); err == nil {
			t.Errorf("node %d, cut off, reads %v", i, resp)
		}
		if err := net.Heal(); err != nil {
			t.Fatal(err)
		}
		if got := read(t, c.Nodes[i]); got != "cut" {
			t.Errorf("node %d reads %q", i, got)
		}
	}
}
