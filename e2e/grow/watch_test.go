package grow

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/flotilladb/flotilla/e2e/proc"
	"github.com/flotilladb/flotilla/proto/adminpb"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc"
)

// A watch on any node sees all that happens, in order, once and whole, while ranges are
// split and move: also on nodes that have none of them, or lose them, or get them.
func TestWatchesEverywhere(t *testing.T) {
	nodes := five(t)
	admin := adminpb.NewAdminClient(dial(t, nodes[0]))
	split(t, admin, "w1", "w2", "w3")
	var watches []*watch
	for _, n := range nodes {
		watches = append(watches, newWatch(t, n, "w", "x", 0), newWatch(t, n, "w2/", "w20", 0))
	}
	l := newLoad(t, "a", 4, nodes...)
	hot := newHot(t, nodes)
	l.goesOn(100)
	move(t, nodes, 4)
	split(t, admin, "w0/a/0003", "w2/a/00005")
	move(t, nodes, 4)
	l.goesOn(100)
	l.end()
	hot.end()
	last := current(t, nodes[1])
	for _, w := range watches {
		w.upTo(last)
	}
	for i, w := range watches {
		if i%2 == 0 && i > 0 {
			sameEvents(t, watches[0].events, w.events)
		}
	}
	acked(t, l, watches[2].events)
	// What was before is had by who comes late, too.
	late := newWatch(t, nodes[4], "w", "x", watches[0].events[0].Kv.ModRevision)
	late.upTo(last)
	sameEvents(t, watches[0].events, late.events)
	sameHash(t, nodes, last)
	t.Logf("%d events", len(late.events))
}

// five starts five nodes, and waits until there are three replicas of each range.
func five(t *testing.T) []*proc.Node {
	t.Helper()
	first := newNode(t, "n0", "")
	start(t, first)
	nodes := []*proc.Node{first}
	for i := 1; i < 5; i++ {
		n := newNode(t, fmt.Sprintf("n%d", i), first.PeerAddr())
		joined(t, n)
		nodes = append(nodes, n)
	}
	replicated(t, first, 1, 0)
	return nodes
}

func split(t *testing.T, admin adminpb.AdminClient, at ...string) {
	t.Helper()
	for _, key := range at {
		until(t, "split at "+key, func() (bool, string) {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			_, err := admin.SplitRange(ctx, &adminpb.SplitRangeRequest{Key: []byte(key)})
			return err == nil, fmt.Sprint(err)
		})
	}
}

// move moves replicas of ranges with client keys to stores that have none, up to some
// times, for a while: the cluster moves them too, and may be about to move the same.
func move(t *testing.T, nodes []*proc.Node, times int) {
	t.Helper()
	rng := rand.New(rand.NewPCG(1, 2))
	moved, last := 0, error(nil)
	for end := time.Now().Add(patience / 3); moved < times && time.Now().Before(end); {
		if last = moveOne(t, nodes[rng.IntN(len(nodes))], rng, len(nodes)); last == nil {
			moved++
		}
	}
	t.Logf("%d replicas moved by hand, the last: %v", moved, last)
}

func moveOne(t *testing.T, n *proc.Node, rng *rand.Rand, stores int) error {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	admin := adminpb.NewAdminClient(dial(t, n))
	resp, err := admin.ListRanges(ctx, &adminpb.ListRangesRequest{})
	if err != nil {
		return err
	}
	if len(resp.Ranges) == 0 {
		return errors.New("no range here")
	}
	d := resp.Ranges[rng.IntN(len(resp.Ranges))].Descriptor_
	var has []uint64
	for _, r := range d.Replicas {
		has = append(has, r.StoreId)
	}
	to := uint64(1 + rng.IntN(stores))
	if d.RangeId == 1 || len(has) != 3 || slices.Contains(has, to) {
		return errors.New("not this one")
	}
	_, err = admin.MoveReplica(ctx, &adminpb.MoveReplicaRequest{RangeId: d.RangeId, FromStoreId: has[rng.IntN(3)], ToStoreId: to})
	return err
}

// hot writes the same few keys again and again, two ranges at a time: there is always
// something before, and a revision that must not be torn.
type hot struct {
	stop chan struct{}
	done chan struct{}
}

func newHot(t *testing.T, nodes []*proc.Node) *hot {
	h := &hot{stop: make(chan struct{}), done: make(chan struct{})}
	var by []pb.KVClient
	for _, n := range nodes {
		by = append(by, pb.NewKVClient(dial(t, n)))
	}
	go func() {
		defer close(h.done)
		for i := 0; ; i++ {
			select {
			case <-h.stop:
				return
			default:
			}
			ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
			req := &pb.TxnRequest{}
			for _, key := range []string{"w0hot", "w2/hot"} {
				req.Success = append(req.Success, &pb.RequestOp{Request: &pb.RequestOp_RequestPut{
					RequestPut: &pb.PutRequest{Key: []byte(key), Value: fmt.Append(nil, i)},
				}})
			}
			_, _ = by[i%len(by)].Txn(ctx, req) // it may be done or not: the watches tell
			cancel()
		}
	}()
	t.Cleanup(h.end)
	return h
}

func (h *hot) end() {
	select {
	case <-h.stop:
	default:
		close(h.stop)
		<-h.done
	}
}

// watch is one watch with all that it was sent.
type watch struct {
	t      *testing.T
	name   string
	stream grpc.BidiStreamingClient[pb.WatchRequest, pb.WatchResponse]
	key    string
	events []*mvccpb.Event
	last   int64
	prev   map[string]*mvccpb.KeyValue
	from   int64
}

func newWatch(t *testing.T, n *proc.Node, key, end string, from int64) *watch {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
	t.Cleanup(cancel)
	stream, err := pb.NewWatchClient(dial(t, n)).Watch(ctx)
	if err != nil {
		t.Fatal(err)
	}
	w := &watch{t: t, name: fmt.Sprintf("%s of [%s, %s)", n.Addr, key, end), stream: stream, prev: make(map[string]*mvccpb.KeyValue), from: from}
	if err := stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: &pb.WatchCreateRequest{
		Key: []byte(key), RangeEnd: []byte(end), StartRevision: from, PrevKv: true,
	}}}); err != nil {
		t.Fatal(err)
	}
	resp, err := stream.Recv()
	if err != nil || !resp.Created || resp.Canceled {
		t.Fatalf("watch %s: %v, %v", w.name, resp, err)
	}
	return w
}

// upTo reads until the watch is known to have everything up to a revision.
func (w *watch) upTo(rev int64) {
	w.t.Helper()
	ask := func() {
		if err := w.stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_ProgressRequest{ProgressRequest: &pb.WatchProgressRequest{}}}); err != nil {
			w.t.Fatalf("watch %s: %v", w.name, err)
		}
	}
	for ask(); ; {
		resp, err := w.stream.Recv()
		if err != nil || resp.Canceled {
			w.t.Fatalf("watch %s, after %d events up to %d, wants %d: %v, %v", w.name, len(w.events), w.last, rev, resp, err)
		}
		w.take(resp)
		if len(resp.Events) == 0 {
			if resp.Header.Revision < w.last {
				w.t.Errorf("watch %s: progress at %d after an event at %d", w.name, resp.Header.Revision, w.last)
			}
			if resp.Header.Revision >= rev {
				return
			}
			ask()
		}
	}
}

func (w *watch) take(resp *pb.WatchResponse) {
	w.t.Helper()
	for i, ev := range resp.Events {
		rev := ev.Kv.ModRevision
		if rev < w.last || i == 0 && rev == w.last {
			w.t.Errorf("watch %s: an event at %d after %d", w.name, rev, w.last)
		}
		w.last = rev
		key := string(ev.Kv.Key)
		if was := w.prev[key]; was != nil {
			if ev.PrevKv == nil || ev.PrevKv.ModRevision != was.ModRevision || string(ev.PrevKv.Value) != string(was.Value) {
				w.t.Errorf("watch %s: %s at %d was %v before, not %v", w.name, key, rev, was, ev.PrevKv)
			}
		} else if ev.Kv.Version > 1 && ev.PrevKv == nil {
			w.t.Errorf("watch %s: %s at %d comes without what was before", w.name, key, rev)
		}
		w.prev[key] = ev.Kv
		w.events = append(w.events, ev)
	}
}

func sameEvents(t *testing.T, want, got []*mvccpb.Event) {
	t.Helper()
	for i := range max(len(want), len(got)) {
		switch {
		case i >= len(want) || i >= len(got):
			t.Errorf("%d events, others have %d", len(got), len(want))
			return
		case want[i].Kv.ModRevision != got[i].Kv.ModRevision || string(want[i].Kv.Key) != string(got[i].Kv.Key) || string(want[i].Kv.Value) != string(got[i].Kv.Value):
			t.Errorf("event %d is %v, others have %v", i, got[i], want[i])
			return
		}
	}
}

// acked wants an event of all that was acknowledged.
func acked(t *testing.T, l *load, events []*mvccpb.Event) {
	t.Helper()
	have := make(map[string]int64)
	for _, ev := range events {
		have[string(ev.Kv.Key)] = ev.Kv.ModRevision
	}
	for key, rev := range l.seen {
		if have[key] != rev {
			t.Errorf("%s was acknowledged at %d, its event is at %d", key, rev, have[key])
		}
	}
}

func current(t *testing.T, n *proc.Node) int64 {
	t.Helper()
	resp, err := pb.NewKVClient(dial(t, n)).Range(t.Context(), &pb.RangeRequest{Key: []byte("w")})
	if err != nil {
		t.Fatal(err)
	}
	return resp.Header.Revision
}

// sameHash wants the same hash of all nodes, before and after a compaction.
func sameHash(t *testing.T, nodes []*proc.Node, rev int64) {
	t.Helper()
	for _, compact := range []int64{0, rev / 2, rev} {
		if compact > 0 {
			if _, err := pb.NewKVClient(dial(t, nodes[3])).Compact(t.Context(), &pb.CompactionRequest{Revision: compact}); err != nil {
				t.Fatal(err)
			}
		}
		var first *pb.HashKVResponse
		for i, n := range nodes {
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			resp, err := pb.NewMaintenanceClient(dial(t, n)).HashKV(ctx, &pb.HashKVRequest{Revision: rev})
			cancel()
			if err != nil {
				t.Errorf("hash at node %d, compacted at %d: %v", i, compact, err)
				continue
			}
			if first == nil {
				first = resp
			}
			if resp.Hash != first.Hash || resp.CompactRevision != first.CompactRevision || resp.HashRevision != first.HashRevision {
				t.Errorf("node %d: %v, others: %v", i, resp, first)
			}
		}
	}
}
