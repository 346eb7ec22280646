package grow

import (
	"context"
	"os"
	"strings"
	"testing"

	"github.com/flotilladb/flotilla/e2e/proc"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// remove removes a member by a node.
func remove(t *testing.T, by *proc.Node, id uint64) {
	t.Helper()
	if _, err := pb.NewClusterClient(dial(t, by)).MemberRemove(t.Context(), &pb.MemberRemoveRequest{ID: id}); err != nil {
		t.Fatal(err)
	}
}

// threeNodes is a cluster that begins with all its nodes.
func threeNodes(t *testing.T) *proc.Cluster {
	t.Helper()
	return proc.StartCluster(t, proc.ClusterConfig{Bin: *flotilla})
}

// another is the node as it would be started to join, on an empty folder.
func another(t *testing.T, n *proc.Node, name string, by *proc.Node) *proc.Node {
	t.Helper()
	dir := t.TempDir()
	other, err := proc.New(proc.Config{Bin: *flotilla, Name: name, Dir: dir + "/data", Log: dir + "/log",
		Client: n.Addr, Peer: n.PeerAddr(), Join: by.PeerAddr()})
	if err != nil {
		t.Fatal(err)
	}
	endAfter(t, other, name+", again")
	return other
}

// A member of three whose data is lost is not itself when it is started as before. It is
// removed while it is away, and joins under its name and at its address.
func TestRemoveDead(t *testing.T) {
	c := threeNodes(t)
	first, lost := c.Nodes[0], c.Nodes[2]
	l := newLoad(t, "a", 4, first, c.Nodes[1])
	l.goesOn(100)
	id := storeOf(t, first, "m2")
	lost.Kill()
	if err := os.RemoveAll(lost.Dir()); err != nil {
		t.Fatal(err)
	}
	ends(t, lost, "another data folder")
	l.goesOn(100)
	remove(t, first, id)
	l.goesOn(100)
	ends(t, lost, "was removed")

	back := another(t, lost, "m2", first)
	joined(t, back)
	replicated(t, first, 2, id)
	l.goesOn(100)
	if now := storeOf(t, first, "m2"); now == id {
		t.Errorf("it has its old id, %d", id)
	}
	c.Kill(1)
	l.goesOn(50)
	l.end()
	l.check(first)
	l.check(back)
}

// Each member of three is removed while it serves, by itself, and another one comes in
// its place: whoever leads, all goes on.
func TestRemoveLive(t *testing.T) {
	c := threeNodes(t)
	nodes := append([]*proc.Node(nil), c.Nodes...)
	spare := newNode(t, "m3", nodes[0].PeerAddr())
	joined(t, spare)
	l := newLoad(t, "a", 4, spare)
	for i, name := range []string{"m0", "m1", "m2"} {
		id := storeOf(t, spare, name)
		l.goesOn(50)
		remove(t, nodes[i], id)
		if err := nodes[i].Ended(patience); err != nil {
			t.Fatalf("%s was removed: %v", name, err)
		}
		if tail := nodes[i].Tail(); !strings.Contains(tail, "removed") || strings.Contains(tail, "panic") {
			t.Errorf("%s says:\n%s", name, tail)
		}
		replicated(t, spare, 2, id)
		l.goesOn(50)
		nodes[i] = another(t, nodes[i], name, spare)
		joined(t, nodes[i])
	}
	l.goesOn(50)
	l.end()
	for _, n := range append(nodes, spare) {
		l.check(n)
	}
}

// Two of three are removed, one after the other. Each range needs the second for its
// majority, so its replicas are taken away from it first.
func TestRemoveToOne(t *testing.T) {
	c := threeNodes(t)
	last := c.Nodes[0]
	id := []uint64{storeOf(t, last, "m0"), storeOf(t, last, "m1"), storeOf(t, last, "m2")} // of node and store
	l := newLoad(t, "a", 2, last)
	for i := 2; i > 0; i-- {
		l.goesOn(50)
		remove(t, last, id[i])
		resp, err := pb.NewClusterClient(dial(t, last)).MemberList(t.Context(), &pb.MemberListRequest{})
		if err != nil || len(resp.Members) != i {
			t.Fatalf("m%d was removed; the members: %v, %v", i, resp, err)
		}
		if err := c.Nodes[i].Ended(patience); err != nil {
			t.Fatal(err)
		}
	}
	l.goesOn(50)
	l.end()
	l.check(last)
	last.Kill()
	start(t, last)
	l.check(last)
}

// One of two is to be removed and dies before all is taken away from it. It is still a
// member: when it is back the removal goes on, though nobody waits for it any more.
func TestRemoveToOneInterrupted(t *testing.T) {
	c := threeNodes(t)
	last, leaves := c.Nodes[0], c.Nodes[1]
	id := []uint64{storeOf(t, last, "m0"), storeOf(t, last, "m1"), storeOf(t, last, "m2")}
	l := newLoad(t, "a", 2, last)
	l.goesOn(50)
	remove(t, last, id[2])
	if err := c.Nodes[2].Ended(patience); err != nil {
		t.Fatal(err)
	}
	l.goesOn(50)
	l.end()
	ctx, cancel := context.WithCancel(t.Context())
	asked := make(chan error, 1)
	cluster := pb.NewClusterClient(dial(t, last))
	go func() {
		_, err := cluster.MemberRemove(ctx, &pb.MemberRemoveRequest{ID: id[1]})
		asked <- err
	}()
	until(t, "the member leaves", func() (bool, string) { return strings.Contains(last.Tail(), "ranges need it"), last.Tail() })
	leaves.Kill()
	cancel()
	<-asked
	ends(t, leaves, "was removed")
	l.check(last)
}
