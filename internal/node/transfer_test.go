package node

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/flotilladb/flotilla/proto/adminpb"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/peerpb"
)

// load puts through every node, one key each, until stop is called, and reads it
// back. No request may fail, and none may be lost or done twice.
type load struct {
	stopping atomic.Bool
	wg       sync.WaitGroup
	done     []atomic.Int64 // puts by node
	errs     []error        // each of its own goroutine, until stop
}

func (c *netCluster) load() *load {
	l := &load{done: make([]atomic.Int64, len(c.nodes)), errs: make([]error, len(c.nodes))}
	c.every(func(i int) {
		kv := c.nodes[i].KV()
		l.wg.Go(func() {
			for !l.stopping.Load() && l.errs[i] == nil {
				l.errs[i] = l.step(c, kv, i)
			}
		})
	})
	return l
}

func (l *load) step(c *netCluster, kv *KV, i int) error {
	key := []byte(fmt.Sprintf("load%d", i))
	if _, err := kv.Put(c.t.Context(), &pb.PutRequest{Key: key}); err != nil {
		return fmt.Errorf("put through %d: %w", i, err)
	}
	n := l.done[i].Add(1)
	resp, err := kv.Range(c.t.Context(), &pb.RangeRequest{Key: key})
	switch {
	case err != nil:
		return fmt.Errorf("get through %d: %w", i, err)
	case resp.Kvs[0].Version != n:
		return fmt.Errorf("after %d puts of %s its version is %d", n, key, resp.Kvs[0].Version)
	}
	return nil
}

// more waits until every node has done some more.
func (l *load) more(t *testing.T) {
	t.Helper()
	for i := range l.done {
		was := l.done[i].Load()
		until(t, "nothing is written any more", func() bool { return l.done[i].Load() >= was+3 })
	}
}

func (l *load) stop(t *testing.T) (puts int64) {
	t.Helper()
	l.stopping.Store(true)
	l.wg.Wait()
	if err := errors.Join(l.errs...); err != nil {
		t.Fatal(err)
	}
	for i := range l.done {
		puts += l.done[i].Load()
	}
	return puts
}

// As a member of etcd, a node that leads hands that over to another.
func TestMoveLeader(t *testing.T) {
	c := newNetCluster(t, 3)
	c.start(0, 1, 2)
	for range 4 {
		from := c.nodes[0].Leader()
		to := from%3 + 1
		if err := c.nodes[from-1].MoveLeader(t.Context(), to); err != nil {
			t.Fatalf("from %d to %d: %v", from, to, err)
		}
		for _, n := range c.nodes {
			until(t, "the leader is another", func() bool { return n.Leader() == to })
		}
	}
	if err := c.nodes[0].MoveLeader(t.Context(), 9); !errors.Is(err, peerpb.ErrBadTransfer) {
		t.Errorf("to a node that is not there: %v", err)
	}
}

// A node that is alone cannot hand its leadership over. It says so, and goes on giving out
// revisions.
func TestMoveLeaderOfOne(t *testing.T) {
	n := open(t, t.TempDir())
	for i := range int64(3) {
		if err := n.MoveLeader(t.Context(), 9); !errors.Is(err, peerpb.ErrBadTransfer) {
			t.Errorf("to a node that is not there: %v", err)
		}
		put(t, n.KV(), "k", "v", 2+i)
	}
	closeNode(t, n)
}

// Every range goes to every store, whatever node is asked, while clients write:
// none of them notices, and no revision is passed over.
func TestTransferLeaders(t *testing.T) {
	c := newNetCluster(t, 3)
	c.start(0, 1, 2)
	l := c.load()
	for round := range 9 {
		id, to, through := metapb.SystemRange+metapb.RangeID(round/3%2), uint64(round%3+1), (round+round/3)%3
		var got *adminpb.TransferLeaderResponse
		var err error
		// Where the machine is busy an election may come in between, and the answer says who
		// leads then.
		for range 3 {
			got, err = c.nodes[through].TransferLeader(t.Context(), &adminpb.TransferLeaderRequest{RangeId: uint64(id), ToStoreId: to})
			if err != nil || got.LeaderStoreId == to {
				break
			}
		}
		if err != nil || got.LeaderStoreId != to {
			t.Fatalf("range %d to store %d through node %d: %v, %v", id, to, through, got, err)
		}
		l.more(t)
	}
	puts := l.stop(t)
	if rev := c.put(0, "last", ""); rev != puts+2 {
		t.Errorf("%d puts, and the next is at revision %d", puts, rev)
	}
	_, err := c.nodes[0].TransferLeader(t.Context(), &adminpb.TransferLeaderRequest{RangeId: 2, ToStoreId: 9})
	if !errors.Is(err, peerpb.ErrBadTransfer) {
		t.Errorf("to a store that is not there: %v", err)
	}
	_, err = c.nodes[0].TransferLeader(t.Context(), &adminpb.TransferLeaderRequest{RangeId: 77, ToStoreId: 1})
	if !errors.Is(err, peerpb.ErrRangeNotFound) {
		t.Errorf("a range that is not there: %v", err)
	}
}
