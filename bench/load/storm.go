package load

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	mvccpb "go.etcd.io/etcd/api/v3/mvccpb"
)

// storm grants leases, renews all of them at once so that they end at about the
// same moment, and sees them die under puts at a rate.
func (l *leases) storm(ctx context.Context, r *Report) error {
	g := newGroup(ctx)
	defer g.end()
	deaths := &deaths{leases: l, revision: make([]int64, l.Leases), gone: make([]int16, l.Leases)}
	if err := deaths.watch(g); err != nil {
		return err
	}
	if err := l.grantAll(g.ctx); err != nil {
		return err
	}
	alive, err := l.keepAlive(g.ctx, l.Leases, math.MaxInt32)
	if err != nil {
		return err
	}
	first, last := l.deadlines()
	r.set("deadlines_within_s", last.Sub(first).Seconds())

	limit := time.Until(last) + l.PatienceTime
	p := newPuts(keyspace{"other/" + l.Prefix, 10_000, l.Groups}, int(l.PerSecond*limit.Seconds()), l.ValueBytes)
	start := time.Now()
	before, err := l.usage()
	if err != nil {
		return err
	}
	write := newGroup(g.ctx)
	p.start(write, l.conns, l.Workers, l.PerSecond)
	want := int64(l.Leases * l.KeysPerLease)
	for deaths.count.Load() < want && time.Since(start) < limit {
		if !pause(g.ctx, time.Millisecond) {
			_ = write.end()
			return g.failed()
		}
	}
	end := time.Now()
	if !pause(g.ctx, linger) {
		return g.failed()
	}
	if err := write.end(); err != nil {
		return err
	}
	if err := r.usageSince(&l.Target, before, want, 0, "key", ""); err != nil {
		return err
	}
	if err := l.countKeys(ctx, r, "keys_left", 0); err != nil {
		return err
	}
	if err := g.end(); err != nil {
		return err
	}
	r.set("gone_after_s", end.Sub(first).Seconds())
	r.set("deleted_per_s", float64(deaths.count.Load())/max(end.Sub(first).Seconds(), 0.001))
	quiet, busy := p.between(start.Sub(p.base), first.Sub(p.base)), p.between(first.Sub(p.base), end.Sub(p.base))
	r.latencies("put_before", quiet)
	r.latencies("put_during", busy)
	if quiet.Quantile(0.99) > 0 {
		r.set("put_p99_ratio", float64(busy.Quantile(0.99))/float64(quiet.Quantile(0.99)))
	}
	r.must("puts_failed", p.failed.Load())
	alive.report(r)
	deaths.report(r, want)
	return nil
}

// deadlines are those of the lease that ends first and of the one that ends
// last, as far as a client can know.
func (l *leases) deadlines() (first, last time.Time) {
	first, last = l.deadline(0), l.deadline(0)
	for i := range l.sent {
		switch at := l.deadline(i); {
		case at.Before(first):
			first = at
		case at.After(last):
			last = at
		}
	}
	return first, last
}

// deaths are the deletes of leases' keys as a watch sees them. Written by its
// receiver.
type deaths struct {
	leases   *leases
	count    atomic.Int64
	revision []int64 // at which the keys of a lease went
	gone     []int16

	early, twice, apart, foreign int64
}

func (d *deaths) watch(g *group) error {
	conns, done, err := d.leases.dial(1)
	if err != nil {
		return err
	}
	client, err := pb.NewWatchClient(conns[0]).Watch(g.ctx)
	if err == nil {
		err = client.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: &pb.WatchCreateRequest{
			Key: []byte(d.leases.Prefix), RangeEnd: prefixEnd(d.leases.Prefix), Filters: []pb.WatchCreateRequest_FilterType{pb.WatchCreateRequest_NOPUT},
		}}})
	}
	var resp *pb.WatchResponse
	if err == nil {
		resp, err = client.Recv()
	}
	if err == nil && (!resp.Created || resp.Canceled) {
		err = fmt.Errorf("watch: %v", resp)
	}
	if err != nil {
		done()
		return err
	}
	g.run(func(ctx context.Context) error {
		defer done()
		for {
			resp, err := client.Recv()
			if ctx.Err() != nil {
				return nil
			}
			if err != nil {
				return fmt.Errorf("watch stream: %w", err)
			}
			if resp.Canceled {
				return fmt.Errorf("watch canceled: %s", resp.CancelReason)
			}
			for _, ev := range resp.Events {
				d.see(ev, time.Now())
			}
			d.count.Add(int64(len(resp.Events)))
		}
	})
	return nil
}

func (d *deaths) see(ev *mvccpb.Event, now time.Time) {
	var group, i, j int
	l := d.leases
	rest, ok := bytes.CutPrefix(ev.Kv.Key, []byte(l.Prefix))
	if n, err := fmt.Sscanf(string(rest), "%03d/%08d-%02d", &group, &i, &j); !ok || n != 3 || err != nil || i >= l.Leases || ev.Type != mvccpb.Event_DELETE {
		d.foreign++
		return
	}
	if now.Before(l.deadline(i)) {
		d.early++
	}
	switch {
	case int(d.gone[i]) >= l.KeysPerLease:
		d.twice++
	case d.gone[i] > 0 && d.revision[i] != ev.Kv.ModRevision:
		d.apart++
	}
	d.gone[i]++
	d.revision[i] = ev.Kv.ModRevision
}

func (d *deaths) report(r *Report, want int64) {
	missing := want
	for _, n := range d.gone {
		missing -= min(int64(n), int64(d.leases.KeysPerLease))
	}
	r.must("deletes_missing", missing)
	r.must("deleted_twice", d.twice)
	r.must("deleted_early", d.early)
	r.must("leases_at_two_revisions", d.apart)
	r.must("foreign", d.foreign)
}
