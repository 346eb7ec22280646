package node

import (
	"errors"
	"fmt"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/flotilladb/flotilla/internal/clock"
	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/lease"
	"github.com/flotilladb/flotilla/mvcc"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/router"
)

// do runs a request until its result is there.
func (r *coreRun) do(req any) (any, error) {
	r.t.Helper()
	id := r.request(req)
	r.run()
	for range 200 { // what waits for its time
		if _, ok := r.results[id]; ok {
			break
		}
		r.tick(clock.Time(20 * time.Millisecond))
	}
	res, ok := r.results[id]
	if !ok {
		r.t.Fatalf("%T has no result", req)
	}
	return res.Resp, res.Err
}

func (r *coreRun) must(req any) any {
	r.t.Helper()
	resp, err := r.do(req)
	if err != nil {
		r.t.Fatalf("%T: %v", req, err)
	}
	return resp
}

// live returns the live keys with their leases and mod-revisions.
func (r *coreRun) live() map[string]mvcc.Row {
	out := make(map[string]mvcc.Row)
	st := mvcc.NewEngineState(r.eng, nil, nil)
	defer st.Close()
	err := st.Scan(nil, nil, mvcc.Latest, func(row *mvcc.Row) bool {
		out[string(row.Key)] = *row
		return true
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return out
}

// tombstones returns the revisions of all deletions.
func (r *coreRun) tombstones() map[metapb.Revision]int {
	win, err := mvcc.History(r.eng, mvcc.HistoryOptions{To: mvcc.Latest - 1, BytesMax: 1 << 30})
	if err != nil {
		r.t.Fatal(err)
	}
	out := make(map[metapb.Revision]int)
	for _, v := range win.Versions {
		if v.Tombstone {
			out[v.Revision]++
		}
	}
	return out
}

func leaseKey(i int) []byte { return fmt.Appendf(nil, "k%02d", i) }

// cut makes 16 ranges of client keys and two of leases.
func (r *coreRun) cut() {
	for i := 1; i < 16; i++ {
		r.must(&router.SplitRequest{Key: leaseKey(i * 2)})
	}
	r.must(&router.SplitRequest{Address: keys.Lease(100)})
	r.must(&router.SplitRequest{Address: []byte{byte(keys.KindUser)}})
}

func (r *coreRun) put(key []byte, id int64) *pb.PutResponse {
	r.t.Helper()
	return r.must(&pb.PutRequest{Key: key, Value: []byte("v"), Lease: id}).(*pb.PutResponse)
}

// A lease with keys on 16 ranges ends at one revision, with all of them.
func TestRevokeOverRanges(t *testing.T) {
	r := newCoreRun(t, CoreConfig{})
	r.cut()
	for _, id := range []int64{7, 200, -5} {
		r.must(&pb.LeaseGrantRequest{ID: id, TTL: 60})
		for i := range 32 {
			r.put(leaseKey(i), id)
		}
		r.put([]byte("other"), 0)
		before := r.core.Current()
		got := r.must(&pb.LeaseTimeToLiveRequest{ID: id, Keys: true}).(*pb.LeaseTimeToLiveResponse)
		if len(got.Keys) != 32 || got.GrantedTTL != 60 {
			t.Fatalf("lease %d has %d keys and TTL %d, want 32 and 60", id, len(got.Keys), got.GrantedTTL)
		}
		resp := r.must(&router.RevokeRequest{ID: id}).(*pb.DeleteRangeResponse)
		if resp.Header.Revision != int64(before)+1 || resp.Deleted != 32 {
			t.Fatalf("revoke of %d: %v, want 32 deleted at %d", id, resp, before+1)
		}
		if live := r.live(); len(live) != 1 {
			t.Fatalf("live after the revoke of %d: %v", id, live)
		}
		if n := r.tombstones()[before+1]; n != 32 {
			t.Fatalf("%d keys are deleted at %d, want 32", n, before+1)
		}
		if _, err := r.do(&router.RevokeRequest{ID: id}); !errors.Is(err, lease.ErrNotFound) {
			t.Fatalf("second revoke of %d: %v", id, err)
		}
		if _, err := r.do(&pb.PutRequest{Key: leaseKey(3), Lease: id}); !errors.Is(err, lease.ErrNotFound) {
			t.Fatalf("put with lease %d: %v", id, err)
		}
	}
}

// A lease that is not renewed ends, with its keys; one that is renewed lives on.
func TestExpire(t *testing.T) {
	r := newCoreRun(t, CoreConfig{})
	r.cut()
	for id := int64(1); id <= 3; id++ {
		r.must(&pb.LeaseGrantRequest{ID: id, TTL: 10})
	}
	r.put(leaseKey(1), 1)
	r.put(leaseKey(30), 1)
	r.put(leaseKey(2), 2)
	r.tick(clock.Time(6 * time.Second))
	if ttl := r.must(&router.RenewRequest{ID: 2}).(int64); ttl != 10 {
		t.Fatalf("renewed for %d", ttl)
	}
	before := r.core.Current()
	for range 300 {
		r.tick(clock.Time(20 * time.Millisecond))
	}
	if live := r.live(); len(live) != 1 || live[string(leaseKey(2))].Lease != 2 {
		t.Fatalf("live: %v", live)
	}
	if n := r.tombstones()[before+1]; n != 2 || r.core.Current() != before+1 {
		t.Fatalf("%d keys deleted at %d, current %d", n, before+1, r.core.Current())
	}
	list := r.must(&pb.LeaseLeasesRequest{}).(*pb.LeaseLeasesResponse)
	if len(list.Leases) != 1 || list.Leases[0].ID != 2 {
		t.Fatalf("leases: %v", list.Leases)
	}
}
