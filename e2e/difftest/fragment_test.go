package difftest

import (
	"context"
	"fmt"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
)

// responseBytesMax is etcd's bound of a response that is not to be in fragments
// if the client takes them: what a request may have, and 512 KiB.
const responseBytesMax = (1536 + 512) * 1024

// A watch that takes fragments gets them within bounds, and together they are the
// events; one that does not gets each revision in one piece, however large.
func TestFragments(t *testing.T) {
	servers := map[string]func(t *testing.T) string{
		"etcd":     startEtcd,
		"flotilla": func(t *testing.T) string { return startFlotilla(t).Addr },
	}
	for name, start := range servers {
		t.Run(name, func(t *testing.T) {
			r := newRemote(dial(t, start(t)))
			for i := range 4 {
				txn := &pb.TxnRequest{}
				for j := range 10 {
					put := &pb.PutRequest{Key: fmt.Appendf(nil, "%c/%d", 'a'+j, i%2), Value: make([]byte, 140_000)}
					txn.Success = append(txn.Success, &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: put}})
				}
				if _, err := r.do(t.Context(), txn); err != nil {
					t.Fatal(err)
				}
			}
			for _, fragment := range []bool{true, false} {
				fragments, events := watchLarge(t, r, fragment)
				if events != 40 {
					t.Errorf("fragments %t: %d events", fragment, events)
				}
				if fragment != (fragments > 0) {
					t.Errorf("fragments %t: %d came", fragment, fragments)
				}
			}
		})
	}
}

// watchLarge watches everything from the start, with pairs before, which makes a
// revision of 2.8 MB, and counts.
func watchLarge(t *testing.T, r *remote, fragment bool) (fragments, events int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), requestTimeout)
	defer cancel()
	s, err := r.watch.Watch(ctx)
	if err != nil {
		t.Fatal(err)
	}
	req := &pb.WatchCreateRequest{Key: []byte{0}, RangeEnd: []byte{0}, StartRevision: 2, PrevKv: true, Fragment: fragment}
	if err := s.Send(create(req)); err != nil {
		t.Fatal(err)
	}
	last, within := int64(0), false
	for events < 40 || within {
		resp, err := s.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if len(resp.Events) == 0 {
			continue
		}
		if first := resp.Events[0].Kv.ModRevision; first <= last && !within {
			t.Errorf("revision %d goes on in another response", first)
		}
		if n := proto.Size(resp); fragment && n > responseBytesMax && len(resp.Events) > 1 {
			t.Errorf("a fragment of %d bytes", n)
		}
		if within = resp.Fragment; within {
			fragments++
		}
		events += len(resp.Events)
		last = resp.Events[len(resp.Events)-1].Kv.ModRevision
	}
	return fragments, events
}
