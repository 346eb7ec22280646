package grow

import (
	"context"
	"flag"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/flotilladb/flotilla/e2e/proc"
	"github.com/flotilladb/flotilla/proto/adminpb"
	"github.com/flotilladb/flotilla/proto/metapb"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

var flotilla = flag.String("flotilla", "../../bin/flotilla", "the program under test")

// patience bounds what should take seconds.
const patience = time.Minute

// newNode prepares a node on an empty folder: the first of a cluster, or one that
// joins.
func newNode(t *testing.T, name, join string, args ...string) *proc.Node {
	t.Helper()
	dir := t.TempDir()
	cfg := proc.Config{Bin: *flotilla, Name: name, Dir: filepath.Join(dir, name), Log: filepath.Join(dir, "log"), Join: join, Args: args}
	n, err := proc.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if join == "" {
		cfg.Client, cfg.Peer = n.Addr, n.PeerAddr()
		cfg.Members = name + "=http://" + cfg.Peer
		if n, err = proc.New(cfg); err != nil {
			t.Fatal(err)
		}
	}
	endAfter(t, n, name)
	return n
}

// endAfter has a node end with its test, which shows what it said if it failed.
func endAfter(t *testing.T, n *proc.Node, name string) {
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("%s:\n%s", name, n.Tail())
		}
		n.Kill()
	})
}

func start(t *testing.T, nodes ...*proc.Node) {
	t.Helper()
	for _, n := range nodes {
		if err := n.Launch(); err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range nodes {
		if err := n.Serving(patience); err != nil {
			t.Fatal(err)
		}
	}
}

func dial(t *testing.T, n *proc.Node) *grpc.ClientConn {
	t.Helper()
	conn, err := n.Dial()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// until waits for something that comes about by itself.
func until(t *testing.T, what string, done func() (bool, string)) {
	t.Helper()
	for end := time.Now().Add(patience); ; {
		ok, now := done()
		if ok {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s: %s", what, now)
		}
		time.Sleep(50 * time.Millisecond) // between two looks at other processes
	}
}

// load writes without pause, by whichever node answers, and remembers what was
// acknowledged.
type load struct {
	t    *testing.T
	name string // of its keys
	by   []pb.KVClient
	done atomic.Int64
	stop chan struct{}
	wg   sync.WaitGroup
	mu   sync.Mutex
	seen map[string]int64 // revision, by key
	revs map[int64]string
}

func newLoad(t *testing.T, name string, workers int, nodes ...*proc.Node) *load {
	l := &load{t: t, name: name, stop: make(chan struct{}), seen: make(map[string]int64), revs: make(map[int64]string)}
	for _, n := range nodes {
		l.by = append(l.by, pb.NewKVClient(dial(t, n)))
	}
	for w := range workers {
		l.wg.Go(func() { l.work(w) })
	}
	t.Cleanup(l.end)
	return l
}

func (l *load) work(w int) {
	for i := 0; ; i++ {
		select {
		case <-l.stop:
			return
		default:
		}
		key := fmt.Sprintf("w%d/%s/%06d", w, l.name, i)
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		resp, err := l.by[(w+i)%len(l.by)].Put(ctx, &pb.PutRequest{Key: []byte(key), Value: []byte("v")})
		cancel()
		if err != nil {
			continue // it may be there or not
		}
		l.done.Add(1)
		l.mu.Lock()
		if other, taken := l.revs[resp.Header.Revision]; taken {
			l.t.Errorf("revision %d is of %s and of %s", resp.Header.Revision, other, key)
		}
		l.seen[key], l.revs[resp.Header.Revision] = resp.Header.Revision, key
		l.mu.Unlock()
	}
}

func (l *load) end() {
	select {
	case <-l.stop:
	default:
		close(l.stop)
		l.wg.Wait()
	}
}

// goesOn waits for some more writes.
func (l *load) goesOn(n int64) {
	l.t.Helper()
	from := l.done.Load()
	until(l.t, "writes go on", func() (bool, string) {
		now := l.done.Load()
		return now >= from+n, fmt.Sprintf("%d writes, %d before", now, from)
	})
}

// check wants all that was acknowledged at a node.
func (l *load) check(n *proc.Node) {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(l.t.Context(), patience)
	defer cancel()
	resp, err := pb.NewKVClient(dial(l.t, n)).Range(ctx, &pb.RangeRequest{Key: []byte("w"), RangeEnd: []byte("x")})
	if err != nil {
		l.t.Fatal(err)
	}
	have := make(map[string]int64)
	for _, kv := range resp.Kvs {
		have[string(kv.Key)] = kv.ModRevision
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for key, rev := range l.seen {
		if have[key] != rev {
			l.t.Errorf("%s was acknowledged at revision %d and is at %d", key, rev, have[key])
		}
	}
	l.t.Logf("%d writes acknowledged, %d there", len(l.seen), len(have))
}

// replicated waits until each range that a node has has three voters, none of them
// on a store.
func replicated(t *testing.T, n *proc.Node, ranges int, not uint64) {
	t.Helper()
	admin := adminpb.NewAdminClient(dial(t, n))
	until(t, "three replicas of each range", func() (bool, string) {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		resp, err := admin.ListRanges(ctx, &adminpb.ListRangesRequest{})
		if err != nil {
			return false, err.Error()
		}
		whole, all := 0, ""
		for _, r := range resp.Ranges {
			voters := 0
			for _, repl := range r.Descriptor_.Replicas {
				if repl.Kind == metapb.ReplicaKind_VOTER && repl.StoreId != not {
					voters++
				}
			}
			if voters == 3 && len(r.Descriptor_.Replicas) == 3 {
				whole++
			}
			all += fmt.Sprintf("%v ", r.Descriptor_)
		}
		return whole == len(resp.Ranges) && whole >= ranges, all
	})
}

// A cluster of one gets two more nodes under load, and then loses the first.
func TestGrow(t *testing.T) {
	first := newNode(t, "n0", "")
	start(t, first)
	admin := adminpb.NewAdminClient(dial(t, first))
	for _, key := range []string{"w1", "w2", "w3"} {
		if _, err := admin.SplitRange(t.Context(), &adminpb.SplitRangeRequest{Key: []byte(key)}); err != nil {
			t.Fatal(err)
		}
	}
	second, third := newNode(t, "n1", first.PeerAddr()), newNode(t, "n2", first.PeerAddr())
	l := newLoad(t, "before", 4, first)
	l.goesOn(200)
	begun := time.Now()
	start(t, second, third)
	replicated(t, first, 5, 0)
	t.Logf("three replicas of all ranges after %v", time.Since(begun))
	replicated(t, third, 5, 0)
	l.goesOn(200)
	l.end()
	members, err := pb.NewClusterClient(dial(t, third)).MemberList(t.Context(), &pb.MemberListRequest{Linearizable: true})
	if err != nil || len(members.Members) != 3 {
		t.Fatalf("%v, %v", members, err)
	}
	for _, m := range members.Members {
		if m.Name == "" || len(m.PeerURLs) != 1 || len(m.ClientURLs) != 1 {
			t.Errorf("a member is not known: %v", m)
		}
	}

	more := newLoad(t, "after", 4, second, third)
	more.goesOn(100)
	first.Kill()
	killed := time.Now()
	more.goesOn(200)
	t.Logf("200 writes within %v of the kill", time.Since(killed))
	more.end()
	l.check(second)
	l.check(third)
	more.check(third)
	start(t, first)
	more.check(first)
}

// The replicas of a node that does not come back are made anew on others, and so are
// those of one that is removed, which then ends.
func TestReplace(t *testing.T) {
	lost := []string{"--store-lost-after", "3s"}
	first := newNode(t, "n0", "", lost...)
	start(t, first)
	nodes := []*proc.Node{first}
	for _, name := range []string{"n1", "n2"} {
		nodes = append(nodes, newNode(t, name, first.PeerAddr(), lost...))
	}
	start(t, nodes[1:]...)
	replicated(t, first, 2, 0)
	fourth := newNode(t, "n3", first.PeerAddr(), lost...)
	joined(t, fourth)
	l := newLoad(t, "a", 2, first, nodes[1])
	l.goesOn(50)
	dead := storeOf(t, first, "n2")
	nodes[2].Kill()
	killed := time.Now()
	replicated(t, first, 1, dead)
	replicated(t, nodes[1], 1, dead)
	t.Logf("replaced after %v", time.Since(killed))
	l.goesOn(50)
	joined(t, nodes[2])

	id := storeOf(t, first, "n1") // nodes and stores have the same ids here
	if _, err := pb.NewClusterClient(dial(t, first)).MemberRemove(t.Context(), &pb.MemberRemoveRequest{ID: id}); err != nil {
		t.Fatal(err)
	}
	replicated(t, first, 1, id)
	if err := nodes[1].Ended(patience); err != nil {
		t.Fatal(err)
	}
	l.goesOn(50)
	l.end()
	l.check(first)
}

// An alarm holds on all nodes, also on one that has no replica of the system range
// and so does not hear of it by itself, until it is taken back.
func TestAlarmsEverywhere(t *testing.T) {
	first := newNode(t, "n0", "")
	start(t, first)
	nodes := []*proc.Node{first}
	for _, name := range []string{"n1", "n2", "n3"} {
		nodes = append(nodes, newNode(t, name, first.PeerAddr()))
		joined(t, nodes[len(nodes)-1])
	}
	id := storeOf(t, first, "n3")
	for i, n := range nodes {
		for _, action := range []pb.AlarmRequest_AlarmAction{pb.AlarmRequest_ACTIVATE, pb.AlarmRequest_DEACTIVATE} {
			_, err := pb.NewMaintenanceClient(dial(t, n)).Alarm(t.Context(), &pb.AlarmRequest{Action: action, Alarm: pb.AlarmType_NOSPACE, MemberID: id})
			if err != nil {
				t.Fatal(err)
			}
			raised := action == pb.AlarmRequest_ACTIVATE
			for j, other := range nodes {
				conn := dial(t, other)
				until(t, fmt.Sprintf("node %d has node %d's alarm: %v", j, i, raised), func() (bool, string) {
					_, err := pb.NewKVClient(conn).Put(t.Context(), &pb.PutRequest{Key: []byte("a")})
					return raised == (status.Code(err) == codes.ResourceExhausted), fmt.Sprint(err)
				})
				resp, err := pb.NewMaintenanceClient(conn).Alarm(t.Context(), &pb.AlarmRequest{})
				if err != nil || len(resp.Alarms) > 0 != raised {
					t.Errorf("node %d: alarms %v, %v; raised: %v", j, resp, err, raised)
				}
			}
		}
	}
}

// storeOf is the id of a node's store.
func storeOf(t *testing.T, n *proc.Node, name string) uint64 {
	t.Helper()
	resp, err := pb.NewClusterClient(dial(t, n)).MemberList(t.Context(), &pb.MemberListRequest{Linearizable: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range resp.Members {
		if m.Name == name {
			return m.ID
		}
	}
	t.Fatalf("no node %s in %v", name, resp.Members)
	return 0
}

// A node that joins what is not there waits, and says so; when it is there it comes
// in.
func TestJoinNowhere(t *testing.T) {
	first := newNode(t, "n0", "")
	second := newNode(t, "n1", first.PeerAddr())
	if err := second.Launch(); err != nil {
		t.Fatal(err)
	}
	until(t, "it says that it waits", func() (bool, string) {
		return strings.Contains(second.Tail(), "trying again for ever"), second.Tail()
	})
	start(t, first)
	until(t, "it joins", func() (bool, string) {
		return strings.Contains(second.Tail(), "ready to serve"), second.Tail()
	})
}

// ends wants a node to end by itself and to say why.
func ends(t *testing.T, n *proc.Node, why string) {
	t.Helper()
	if err := n.Launch(); err != nil {
		t.Fatal(err)
	}
	if err := n.Ended(patience); err != nil {
		t.Fatal(err)
	}
	if tail := n.Tail(); !strings.Contains(tail, why) {
		t.Errorf("it does not say %q:\n%s", why, tail)
	}
}

// joined starts a node that joins and waits until it has.
func joined(t *testing.T, n *proc.Node) {
	t.Helper()
	if err := n.Launch(); err != nil {
		t.Fatal(err)
	}
	if err := n.Serving(patience); err != nil {
		t.Fatalf("it does not join: %v", err)
	}
}

// Who is not let in ends, and says why.
func TestNotLetIn(t *testing.T) {
	first := newNode(t, "n0", "")
	start(t, first)
	ends(t, newNode(t, "n0", first.PeerAddr()), "another node of the cluster has this name")

	// A folder of another cluster, started to join this one.
	other := newNode(t, "n1", "")
	start(t, other)
	other.Kill()
	ends(t, other.With("--join", first.PeerAddr()), "belongs to another cluster")
}

// A copy of a node's folder ends soon after it was started beside the node.
func TestClone(t *testing.T) {
	first := newNode(t, "n0", "")
	second := newNode(t, "n1", first.PeerAddr())
	start(t, first)
	joined(t, second)
	second.Kill()
	clone := newNode(t, "n1", first.PeerAddr())
	if out, err := exec.Command("cp", "-r", second.Dir(), clone.Dir()).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	joined(t, second)
	ends(t, clone, "another process runs with this store's id")
	if err := second.Ended(time.Second); err == nil {
		t.Error("the node ended, too")
	}
}
