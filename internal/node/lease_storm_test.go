package node

import (
	"fmt"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/flotilladb/flotilla/internal/clock"
	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/router"
)

// Many leases that expire at once end at the pace that is allowed, each with its
// keys; those without keys go many in one entry, and puts go on among them.
func TestExpiryStorm(t *testing.T) {
	const leases = 3000
	r := newCoreRun(t, CoreConfig{})
	r.cut()
	for id := int64(1); id <= leases; id++ {
		r.request(&pb.LeaseGrantRequest{ID: id, TTL: 10})
	}
	r.run()
	for id := int64(1); id <= leases; id += 3 {
		r.request(&pb.PutRequest{Key: leaseKey(int(id % 32)), Value: []byte("v"), Lease: id})
		if id%30 == 1 {
			r.run()
		}
	}
	r.run()
	r.tick(clock.Time(9 * time.Second))
	slowest := 0
	for round := range 200 {
		r.now += clock.Time(20 * time.Millisecond)
		r.core.Tick(r.now)
		id := r.request(&pb.PutRequest{Key: []byte("other"), Value: []byte{byte(round)}})
		steps := 0
		for {
			if _, ok := r.results[id]; ok {
				break
			}
			if r.core.HasReady() {
				r.step()
			} else {
				r.eng.CompleteSync(1)
				steps++
			}
		}
		slowest = max(slowest, steps)
		r.run()
	}
	list := r.must(&pb.LeaseLeasesRequest{}).(*pb.LeaseLeasesResponse)
	if live := r.live(); len(live) != 1 || len(list.Leases) != 0 {
		t.Fatalf("%d keys and %d leases are left", len(live), len(list.Leases))
	}
	if slowest > 4 {
		t.Errorf("a put among them waited for %d syncs", slowest)
	}
}

// A lease may have more keys on one range than transactions may lock there.
func TestRevokeOfManyKeys(t *testing.T) {
	const count = 20000
	r := newCoreRun(t, CoreConfig{})
	r.must(&router.SplitRequest{Address: []byte{byte(keys.KindUser)}})
	r.must(&pb.LeaseGrantRequest{ID: 7, TTL: 100})
	for i := range count {
		r.request(&pb.PutRequest{Key: fmt.Appendf(nil, "many%05d", i), Lease: 7})
		if i%1000 == 0 {
			r.run()
		}
	}
	r.run()
	resp := r.must(&router.RevokeRequest{ID: 7}).(*pb.DeleteRangeResponse)
	if n := r.tombstones()[metapb.Revision(resp.Header.Revision)]; n != count || len(r.live()) != 0 {
		t.Fatalf("%d keys deleted at %d, %d are left", n, resp.Header.Revision, len(r.live()))
	}
}
