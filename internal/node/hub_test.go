package node

import (
	"fmt"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/flotilladb/flotilla/watchfeed"
)

// recorder keeps what a stream says, as text.
type recorder struct {
	t   testing.TB
	s   *watchfeed.Stream
	got []string
}

// until receives until n lines have come.
func (r *recorder) until(n int) []string {
	r.t.Helper()
	for len(r.got) < n {
		rs, err := r.s.Recv(r.t.Context(), nil)
		if err != nil {
			r.t.Fatal(err)
		}
		for _, resp := range rs {
			switch resp.Kind {
			case watchfeed.Created:
				r.got = append(r.got, fmt.Sprintf("%d created at %d", resp.ID, resp.Revision))
			case watchfeed.Events:
				for _, ev := range resp.Events {
					line := fmt.Sprintf("%d %s=%s@%d", resp.ID, ev.Key, ev.Value, ev.Revision)
					if resp.PrevKV && ev.PrevKV != nil {
						line += fmt.Sprintf(" was %s", ev.PrevKV.Value)
					}
					r.got = append(r.got, line)
				}
			case watchfeed.StreamProgress:
				r.got = append(r.got, fmt.Sprintf("%d progress %d", resp.ID, resp.Revision))
			default:
				r.got = append(r.got, fmt.Sprintf("%d kind %d", resp.ID, resp.Kind))
			}
		}
	}
	return r.got
}

func (r *recorder) expect(want ...string) {
	r.t.Helper()
	got := r.until(len(want))
	r.got = nil
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		r.t.Fatalf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// A watch over four ranges, two of which are split under it, gets what is put,
// once and in order; one that comes later gets it from the rings, and after a
// restart from the engine.
func TestWatchOverRangesAndSplits(t *testing.T) {
	dir := t.TempDir()
	n := open(t, dir)
	kv := n.KV()
	split := func(at string) {
		t.Helper()
		if _, err := n.client.Split(t.Context(), []byte(at)); err != nil {
			t.Fatal(err)
		}
	}
	for _, at := range []string{"k2", "k4", "k6"} {
		split(at)
	}
	put(t, kv, "k1", "before", 2)
	s, err := n.Watches().Open(watchfeed.StreamConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	rec := &recorder{t: t, s: s}
	if err := s.Create(watchfeed.CreateRequest{ID: 0, Key: []byte("k"), End: []byte("l"), PrevKV: true}); err != nil {
		t.Fatal(err)
	}
	rec.expect("0 created at 2")
	put(t, kv, "k1", "a", 3)
	put(t, kv, "k7", "b", 4)
	split("k1")
	split("k5")
	put(t, kv, "k5", "c", 5)
	txn := &pb.TxnRequest{}
	for _, key := range []string{"k7", "k1"} {
		txn.Success = append(txn.Success, &pb.RequestOp{Request: &pb.RequestOp_RequestPut{
			RequestPut: &pb.PutRequest{Key: []byte(key), Value: []byte("d")}}})
	}
	if _, err := kv.Txn(t.Context(), txn); err != nil {
		t.Fatal(err)
	}
	want := []string{"0 k1=a@3 was before", "0 k7=b@4", "0 k5=c@5", "0 k7=d@6 was b", "0 k1=d@6 was a"}
	rec.expect(want...)
	s.RequestProgress()
	rec.expect("-1 progress 6")
	again := func(n *Node, r int64) {
		t.Helper()
		s, err := n.Watches().Open(watchfeed.StreamConfig{})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		rec := &recorder{t: t, s: s}
		if err := s.Create(watchfeed.CreateRequest{Key: []byte("k"), End: []byte{}, Start: 3, PrevKV: true}); err != nil {
			t.Fatal(err)
		}
		rec.expect(append([]string{fmt.Sprintf("0 created at %d", r)}, want...)...)
	}
	again(n, 6)
	closeNode(t, n)
	n = open(t, dir)
	again(n, 6)
	closeNode(t, n)
}
