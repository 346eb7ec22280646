package node

import (
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/flotilladb/flotilla/internal/clock"
	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/lease"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/router"
)

// directRun is a core whose published ranges renew leases.
type directRun struct {
	*coreRun
	pub *Published
}

func newDirectRun(t *testing.T) *directRun {
	d := &directRun{newCoreRun(t, CoreConfig{}), NewPublished()}
	d.publish()
	return d
}

// publish lets renewals see all ranges as they are.
func (d *directRun) publish() {
	var all []*metapb.Descriptor
	for _, id := range d.core.Store().IDs() {
		all = append(all, d.core.Store().Replica(id).Descriptor())
	}
	d.pub.Ranges(d.core, all)
}

func (d *directRun) renew(id int64) bool {
	_, ok := d.pub.Renew(lease.ID(id), d.now, func() clock.Time { return d.now })
	return ok
}

func (d *directRun) want(id int64, want bool, why string) {
	d.t.Helper()
	if got := d.renew(id); got != want {
		d.t.Errorf("%s: lease %d was renewed: %t", why, id, got)
	}
}

// A lease that is renewed beside the core lives on, and ends when that stops.
func TestRenewedDirectly(t *testing.T) {
	d := newDirectRun(t)
	d.want(7, false, "not there")
	d.must(&pb.LeaseGrantRequest{ID: 7, TTL: 10})
	d.put(leaseKey(1), 7)
	for range 4 {
		d.tick(clock.Time(9 * time.Second))
		d.want(7, true, "in time")
	}
	if len(d.live()) != 1 {
		t.Fatal("the lease ended early")
	}
	d.tick(clock.Time(10 * time.Second))
	d.want(7, false, "at its deadline")
	for range 100 {
		d.tick(clock.Time(20 * time.Millisecond))
	}
	d.want(7, false, "gone")
	if len(d.live()) != 0 {
		t.Fatal("the lease did not end")
	}
}

// A split takes leases away from what was published before it, with what they
// were promised.
func TestRenewedDirectlyOverSplit(t *testing.T) {
	d := newDirectRun(t)
	for _, id := range []int64{7, 150} {
		d.must(&pb.LeaseGrantRequest{ID: id, TTL: 10})
		d.put(leaseKey(int(id%32)), id)
	}
	d.tick(clock.Time(9 * time.Second))
	d.want(150, true, "before the split")
	d.must(&router.SplitRequest{Address: keys.Lease(100)})
	d.want(150, false, "through what was published before the split")
	d.want(7, true, "left of the split")
	d.publish()
	d.tick(clock.Time(9 * time.Second))
	d.want(150, true, "right of the split")
	for range 300 {
		d.tick(clock.Time(20 * time.Millisecond))
	}
	if live := d.live(); len(live) != 1 || live[string(leaseKey(150%32))].Lease != 150 {
		t.Fatalf("live: %v", live)
	}
}

// While the end of a lease is undecided it is not renewed beside the core, whether
// it is a transaction or one entry.
func TestNotRenewedDirectly(t *testing.T) {
	for name, cut := range map[string]bool{"over ranges": true, "in one range": false} {
		t.Run(name, func(t *testing.T) {
			d := newDirectRun(t)
			if cut {
				d.cut()
				d.publish()
			}
			d.must(&pb.LeaseGrantRequest{ID: 7, TTL: 10})
			d.put(leaseKey(1), 7)
			d.put(leaseKey(30), 7)
			d.want(7, true, "before")
			id := d.request(&router.RevokeRequest{ID: 7})
			if _, err := d.core.Ready(); err != nil { // and no further: it is under way
				t.Fatal(err)
			}
			d.want(7, false, "its revoke is under way")
			if _, ok := d.results[id]; ok {
				t.Fatal("the revoke is over")
			}
		})
	}
}
