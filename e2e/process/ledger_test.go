package process

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"github.com/flotilladb/flotilla/e2e/proc"
	"github.com/flotilladb/flotilla/proto/adminpb"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// Each worker owns a pair of keys at both ends of the keyspace and counts in
// them: one request puts the next number in the first key alone, the next one
// in both by a transaction. So what must be found after a kill is known but for
// the one request that was under way.
const workers = 16

// acked is a write that the node answered.
type acked struct {
	worker   int
	number   int64
	both     bool
	revision int64
}

// ledger is what the clients know. Safe for concurrent use.
type ledger struct {
	mu struct {
		sync.Mutex
		writes   []acked
		byRev    map[int64]acked // revisions that answers carried
		last     [workers]acked  // the newest write of each worker that was answered
		sent     [workers]int64  // the newest number that each worker sent
		lastBoth [workers]int64  // the newest number of a worker's answered transaction
		highest  int64           // revision in any header
		err      error           // the first broken promise
	}
}

func newLedger() *ledger {
	l := &ledger{}
	l.mu.byRev = make(map[int64]acked)
	return l
}

func key(side string, worker int) []byte { return fmt.Appendf(nil, "%s/%02d", side, worker) }

// note records an answer. Two writes never share a revision, and a worker's
// revisions rise: it waits for each answer.
func (l *ledger) note(a acked) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if old, ok := l.mu.byRev[a.revision]; ok {
		l.failLocked("revision %d was given to %+v and to %+v", a.revision, old, a)
	}
	if last := l.mu.last[a.worker]; a.revision <= last.revision {
		l.failLocked("revision went from %d to %d for worker %d", last.revision, a.revision, a.worker)
	}
	l.mu.byRev[a.revision] = a
	l.mu.last[a.worker] = a
	l.mu.writes = append(l.mu.writes, a)
	l.mu.highest = max(l.mu.highest, a.revision)
	if a.both {
		l.mu.lastBoth[a.worker] = a.number
	}
}

func (l *ledger) failLocked(format string, args ...any) {
	if l.mu.err == nil {
		l.mu.err = fmt.Errorf(format, args...)
	}
}

func (l *ledger) next(worker int) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.sent[worker]++
	return l.mu.sent[worker]
}

// load runs the workers until stop; every request that fails ends its worker,
// since the node is gone.
func (l *ledger) load(node *proc.Node, stop <-chan struct{}) *sync.WaitGroup {
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			conn, err := node.Dial()
			if err != nil {
				return
			}
			defer conn.Close()
			client := pb.NewKVClient(conn)
			for {
				select {
				case <-stop:
					return
				default:
				}
				if !l.write(client, w) {
					return
				}
			}
		})
	}
	return &wg
}

// write sends a worker's next request.
func (l *ledger) write(client pb.KVClient, w int) bool {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	a := acked{worker: w, number: l.next(w)}
	a.both = a.number%2 == 0
	left := &pb.PutRequest{Key: key("a", w), Value: strconv.AppendInt(nil, a.number, 10)}
	if a.both {
		right := &pb.PutRequest{Key: key("z", w), Value: left.Value}
		resp, err := client.Txn(ctx, &pb.TxnRequest{Success: []*pb.RequestOp{
			{Request: &pb.RequestOp_RequestPut{RequestPut: left}},
			{Request: &pb.RequestOp_RequestPut{RequestPut: right}},
		}})
		if err != nil {
			return false
		}
		a.revision = resp.Header.Revision
	} else {
		resp, err := client.Put(ctx, left)
		if err != nil {
			return false
		}
		a.revision = resp.Header.Revision
	}
	l.note(a)
	return true
}

// splits cuts ranges at random places until stop.
func splits(node *proc.Node, rng *rand.Rand, stop <-chan struct{}) {
	conn, err := node.Dial()
	if err != nil {
		return
	}
	defer conn.Close()
	admin := adminpb.NewAdminClient(conn)
	for {
		select {
		case <-stop:
			return
		case <-time.After(time.Duration(rng.IntN(100)) * time.Millisecond):
		}
		at := append(key([]string{"a", "z"}[rng.IntN(2)], rng.IntN(workers)), fmt.Sprint(rng.IntN(1000))...)
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		_, _ = admin.SplitRange(ctx, &adminpb.SplitRangeRequest{Key: at})
		cancel()
	}
}

// check compares what a node holds with what its clients know. Called while
// nothing writes.
func (l *ledger) check(ctx context.Context, client pb.KVClient, rng *rand.Rand) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.err != nil {
		return l.mu.err
	}
	for w := range workers {
		if err := l.checkWorkerLocked(ctx, client, w); err != nil {
			return err
		}
	}
	for range min(50, len(l.mu.writes)) {
		a := l.mu.writes[rng.IntN(len(l.mu.writes))]
		if err := checkPast(ctx, client, a); err != nil {
			return err
		}
	}
	return nil
}

func (l *ledger) checkWorkerLocked(ctx context.Context, client pb.KVClient, w int) error {
	last := l.mu.last[w]
	left, leftMod, err := l.readLocked(ctx, client, key("a", w))
	if err != nil {
		return err
	}
	right, rightMod, err := l.readLocked(ctx, client, key("z", w))
	if err != nil {
		return err
	}
	switch {
	case left < last.number || left > l.mu.sent[w]:
		return fmt.Errorf("worker %d: %d was answered, %d was sent, %d is there", w, last.number, l.mu.sent[w], left)
	case left > 0 && leftMod < last.revision:
		return fmt.Errorf("worker %d: revision %d was answered, the key has %d", w, last.revision, leftMod)
	case right < l.mu.lastBoth[w] || right > left:
		return fmt.Errorf("worker %d: %d was answered for both keys, %d and %d are there", w, l.mu.lastBoth[w], left, right)
	case left%2 == 0 && (left != right || leftMod != rightMod):
		return fmt.Errorf("worker %d: half a transaction: %d at %d, %d at %d", w, left, leftMod, right, rightMod)
	}
	// What is there counts as answered from now on: it must not go away again.
	l.mu.last[w].number = max(last.number, left)
	l.mu.last[w].revision = max(last.revision, leftMod)
	l.mu.lastBoth[w] = max(l.mu.lastBoth[w], right)
	return nil
}

func (l *ledger) readLocked(ctx context.Context, client pb.KVClient, key []byte) (number, mod int64, err error) {
	resp, err := client.Range(ctx, &pb.RangeRequest{Key: key})
	if err != nil {
		return 0, 0, err
	}
	if resp.Header.Revision < l.mu.highest {
		return 0, 0, fmt.Errorf("revision went back from %d to %d", l.mu.highest, resp.Header.Revision)
	}
	l.mu.highest = resp.Header.Revision
	if len(resp.Kvs) == 0 {
		return 0, 0, nil
	}
	number, err = strconv.ParseInt(string(resp.Kvs[0].Value), 10, 64)
	return number, resp.Kvs[0].ModRevision, err
}

// checkPast reads an answered write at its own revision.
func checkPast(ctx context.Context, client pb.KVClient, a acked) error {
	sides := []string{"a"}
	if a.both {
		sides = append(sides, "z")
	}
	for _, side := range sides {
		resp, err := client.Range(ctx, &pb.RangeRequest{Key: key(side, a.worker), Revision: a.revision})
		if err != nil {
			return err
		}
		if len(resp.Kvs) != 1 || string(resp.Kvs[0].Value) != strconv.FormatInt(a.number, 10) || resp.Kvs[0].ModRevision != a.revision {
			return fmt.Errorf("%s at revision %d: %+v was answered, found %v", key(side, a.worker), a.revision, a, resp.Kvs)
		}
	}
	return nil
}
