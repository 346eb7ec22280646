package node

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/flotilladb/flotilla/router"
	"github.com/flotilladb/flotilla/watchfeed"
)

// until waits for something to become true, as long as the test may take.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	limit := time.After(30 * time.Second)
	for !ok() {
		select {
		case <-limit:
			t.Fatal(what)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// minorityAsksNobody does through a node without a leader what needs nobody else: to read
// nothing, serializably, and to begin watches, which as on a member of etcd begin at what
// the node knows.
func (c *netCluster) minorityAsksNobody(i int) {
	t, n := c.t, c.nodes[i]
	ctx, cancel := context.WithTimeout(t.Context(), readTimeout/2)
	defer cancel()
	nothing := &pb.RangeRequest{Key: []byte("k"), RangeEnd: []byte("a"), Serializable: true}
	if resp, err := n.KV().Range(ctx, nothing); err != nil || resp.Count != 0 {
		t.Errorf("a serializable read of nothing: %v, %v", resp, err)
	}
	w, err := n.Watches().Open(watchfeed.StreamConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if err := w.Create(watchfeed.CreateRequest{Key: []byte("k")}); err != nil {
		t.Fatal(err)
	}
	got, err := w.Recv(ctx, nil)
	if err != nil || got[0].Kind != watchfeed.Created || got[0].Revision < 1 {
		t.Errorf("a watch from now on: %v, %v", got, err)
	}
}

// A node that is left alone says so, and goes on with reads that may be old; what
// else it is asked ends in etcd's time. When the others are back all goes on.
func TestMinority(t *testing.T) {
	c := newNetCluster(t, 3)
	c.start(0, 1, 2)
	c.put(0, "k", "1")
	last := c.put(1, "k", "2")
	c.get(2, "k")
	c.stop(0)
	c.stop(1)
	n := c.nodes[2]
	until(t, "there is a leader for ever", func() bool { return n.Leader() == 0 })

	read := func() (*pb.RangeResponse, error) {
		return n.KV().Range(t.Context(), &pb.RangeRequest{Key: []byte("k"), Serializable: true})
	}
	resp, err := read()
	if err != nil || string(resp.Kvs[0].Value) != "2" || resp.Header.Revision < last {
		t.Errorf("a serializable read: %v, %v", resp, err)
	}
	txn := &pb.TxnRequest{Success: []*pb.RequestOp{
		{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: []byte("k"), Serializable: true}}},
	}}
	if resp, err := n.KV().Txn(t.Context(), txn); err != nil || len(resp.Responses[0].GetResponseRange().Kvs) != 1 {
		t.Errorf("a serializable transaction: %v, %v", resp, err)
	}
	c.minorityAsksNobody(2)
	var wg sync.WaitGroup
	for name, ask := range map[string]func() error{
		"put": func() error {
			_, err := n.KV().Put(t.Context(), &pb.PutRequest{Key: []byte("k"), Value: []byte("3")})
			return err
		},
		"get": func() error {
			_, err := n.KV().Range(t.Context(), &pb.RangeRequest{Key: []byte("k")})
			return err
		},
		"grant": func() error {
			_, err := n.Leases().LeaseGrant(t.Context(), &pb.LeaseGrantRequest{TTL: 60})
			return err
		},
	} {
		wg.Go(func() {
			if err := ask(); !errors.Is(err, router.ErrTimeout) {
				t.Errorf("%s in a minority: %v", name, err)
			}
		})
	}
	wg.Wait()

	c.start(0, 1)
	if c.put(2, "k", "4"); c.get(0, "k") != "4" {
		t.Error("the cluster does not go on")
	}
	until(t, "no leader is known", func() bool { return n.Leader() != 0 })
}
