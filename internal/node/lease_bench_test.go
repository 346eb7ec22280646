package node

import (
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/flotilladb/flotilla/router"
)

// A renewal among a hundred that come together, through router and range.
func BenchmarkRenew(b *testing.B) {
	r := newCoreRun(b, CoreConfig{})
	for id := int64(1); id <= 1000; id++ {
		r.request(&pb.LeaseGrantRequest{ID: id, TTL: 1000})
	}
	r.run()
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		r.request(&router.RenewRequest{ID: int64(i%1000) + 1})
		if i%100 == 99 {
			r.run()
			clear(r.results)
		}
	}
}

// A lease with one key on another range than its home, from grant to revoke.
func BenchmarkRevoke(b *testing.B) {
	r := newCoreRun(b, CoreConfig{})
	r.cut()
	id := int64(0)
	b.ReportAllocs()
	for b.Loop() {
		for range 64 {
			id++
			r.request(&pb.LeaseGrantRequest{ID: id, TTL: 1000})
		}
		r.run()
		for i := range int64(64) {
			r.request(&pb.PutRequest{Key: leaseKey(int(i % 32)), Lease: id - i})
		}
		r.run()
		for i := range int64(64) {
			r.request(&router.RevokeRequest{ID: id - i})
		}
		r.run()
		clear(r.results)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(id), "ns/lease")
}
