package node

import (
	"fmt"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/range"
	"github.com/flotilladb/flotilla/router"
)

// leased counts the rows of attached keys.
func (r *coreRun) leased() (n int) {
	return r.rows(keys.LeasedSpan(keys.UserSpan(nil, nil)))
}

// rows counts those that the engine has.
func (r *coreRun) rows(span engine.Span) (n int) {
	it, err := r.eng.NewIter(engine.IterOptions{Lower: span.Start, Upper: span.End})
	if err != nil {
		r.t.Fatal(err)
	}
	for ok := it.First(); ok; ok = it.Next() {
		n++
	}
	if err := it.Close(); err != nil {
		r.t.Fatal(err)
	}
	return n
}

func (r *coreRun) keysOf(id int64) []string {
	r.t.Helper()
	resp := r.must(&pb.LeaseTimeToLiveRequest{ID: id, Keys: true}).(*pb.LeaseTimeToLiveResponse)
	out := make([]string, len(resp.Keys))
	for i, key := range resp.Keys {
		out[i] = string(key)
	}
	return out
}

// Keys that a large delete takes away piece by piece leave their lease with it: it
// has none when the delete is answered, and its revoke deletes none.
func TestLargeDeleteOfLeasedKeys(t *testing.T) {
	const n, keysMax = 200, 10
	for _, put := range []bool{false, true} {
		t.Run(fmt.Sprintf("put=%v", put), func(t *testing.T) {
			r := newCoreRun(t, CoreConfig{Ranges: ranges.Config{EntryKeysMax: keysMax}})
			for _, id := range []int64{7, 8} {
				r.must(&pb.LeaseGrantRequest{ID: id, TTL: 60})
			}
			r.must(&router.SplitRequest{Key: []byte("k100")})
			for i := range n {
				r.put(fmt.Appendf(nil, "k%03d", i), 7+int64(i%2))
			}
			r.put([]byte("other"), 7)
			r.put([]byte("x"), 8)
			if rows := r.leased(); rows != n+2 {
				t.Fatalf("%d rows of attached keys, want %d", rows, n+2)
			}
			before := r.core.Current()
			var req any = &pb.DeleteRangeRequest{Key: []byte("k"), RangeEnd: []byte("l")}
			if put {
				req = &pb.TxnRequest{Success: []*pb.RequestOp{
					{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: req.(*pb.DeleteRangeRequest)}},
					{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte("x")}}}, // detaches it
				}}
			}
			id := r.request(req)
			for r.results[id].Resp == nil {
				if r.eng.PendingSyncs() > 0 {
					r.eng.CompleteSync(1)
				}
				r.step()
			}
			if r.leased() <= 2*keysMax {
				t.Error("the delete is over when it is answered: the test shows nothing")
			}
			if got := fmt.Sprint(r.keysOf(7)); got != "[other]" {
				t.Errorf("when the delete is answered lease 7 has %s, want [other]", got)
			}
			want8 := "[x]"
			if put {
				want8 = "[]"
			}
			if got := fmt.Sprint(r.keysOf(8)); got != want8 {
				t.Errorf("lease 8 has %s, want %s", got, want8)
			}
			r.run()
			left := 1 + len(want8)/3
			if got := r.tombstones()[before+1]; got != n || r.leased() != left {
				t.Errorf("%d keys are deleted at %d, %d rows of attached keys are left, want %d and %d", got, before+1, r.leased(), n, left)
			}
			if got := r.must(&router.RevokeRequest{ID: 7}).(*pb.DeleteRangeResponse); got.Deleted != 1 {
				t.Errorf("the revoke of lease 7 deletes %d keys, want 1", got.Deleted)
			}
			if got := r.must(&router.RevokeRequest{ID: 8}).(*pb.DeleteRangeResponse); got.Deleted != int64(left-1) {
				t.Errorf("the revoke of lease 8 deletes %d keys, want %d", got.Deleted, left-1)
			}
			if rows := r.leased(); rows != 0 {
				t.Errorf("%d rows of attached keys are left", rows)
			}
		})
	}
}

// The revoke of a lease whose keys a large delete is taking away waits for it, and
// deletes none of them again.
func TestRevokeDuringLargeDelete(t *testing.T) {
	const n = 200
	for turns := range 60 {
		r := newCoreRun(t, CoreConfig{Ranges: ranges.Config{EntryKeysMax: 10}})
		r.must(&pb.LeaseGrantRequest{ID: 7, TTL: 60})
		r.must(&router.SplitRequest{Key: []byte("k100")})
		for i := range n {
			r.put(fmt.Appendf(nil, "k%03d", i), 7)
		}
		before := r.core.Current()
		del := r.request(&pb.DeleteRangeRequest{Key: []byte("k"), RangeEnd: []byte("l")})
		for range turns {
			if r.eng.PendingSyncs() > 0 {
				r.eng.CompleteSync(1)
			}
			r.step()
		}
		revoked := r.must(&router.RevokeRequest{ID: 7}).(*pb.DeleteRangeResponse).Deleted
		r.run()
		deleted := r.results[del].Resp.(*pb.DeleteRangeResponse).Deleted
		sum := 0
		for _, at := range r.tombstones() {
			sum += at
		}
		if revoked+deleted != n || sum != n || r.leased() != 0 {
			t.Errorf("revoke after %d turns: it deletes %d keys, the delete %d, there are %d tombstones from %d on, and %d rows of attached keys",
				turns, revoked, deleted, sum, before+1, r.leased())
		}
	}
}
