package router

import (
	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/lease"
	"github.com/flotilladb/flotilla/placement"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/peerpb"
)

// renewal is a client that renews a lease.
type renewal struct {
	id    uint64 // of the request
	lease int64
}

// renewOp renews the leases of one home that came since the last Ready: renewals
// are the most frequent of all requests about leases, and one costs little in
// company.
type renewOp struct {
	opBase
	all []renewal
}

// expiredTriesMax is how often the home is asked about a lease whose deadline
// passed until its client is told. As in etcd it is told when the keys are gone,
// but it does not wait for a storm to pass.
const expiredTriesMax = 10

// renew takes a client's renewal.
func (r *Router) renew(id uint64, leaseID int64) {
	r.renewals = append(r.renewals, renewal{id, leaseID})
}

// sendRenewals sends what came, one request to each home.
func (r *Router) sendRenewals() {
	if len(r.renewals) == 0 {
		return
	}
	all := r.renewals
	r.renewals = nil
	byRange := make(map[metapb.RangeID]*renewOp)
	var ops []*renewOp
	for _, rn := range all {
		var id metapb.RangeID
		if d := r.cache.Lookup(keys.Lease(rn.lease)); d != nil {
			id = d.ID()
		}
		o := byRange[id]
		if o == nil {
			o = &renewOp{}
			byRange[id] = o
			ops = append(ops, o)
		}
		o.all = append(o.all, rn)
	}
	for _, o := range ops {
		o.id, o.deadline = o.all[0].id, r.now.Add(r.cfg.RequestTimeout)
		r.begin(o)
	}
}

func (o *renewOp) start(r *Router) {
	ids := make([]int64, len(o.all))
	for i := range o.all {
		ids[i] = o.all[i].lease
	}
	r.sendHome(o, ids[0], &peerpb.RenewLeases{IDs: ids})
}

func (o *renewOp) reply(r *Router, _ int, body any, err error) {
	if err != nil {
		if !r.retry(o, safe(err)) {
			o.finish(r, err)
		}
		return
	}
	out, _ := body.(*peerpb.Renewed)
	if out == nil || len(out.TTLs) != len(o.all) {
		o.finish(r, ErrBadRequest)
		return
	}
	again := o.all[:0]
	for i, rn := range o.all {
		switch ttl := out.TTLs[i]; {
		case ttl > 0:
			r.ready.Results = append(r.ready.Results, Result{ID: rn.id, Resp: ttl})
		case ttl == peerpb.RenewUnknown, ttl == peerpb.RenewExpired && o.tries >= expiredTriesMax:
			r.ready.Results = append(r.ready.Results, Result{ID: rn.id, Err: lease.ErrNotFound})
		default:
			again = append(again, rn)
		}
	}
	o.all = again
	if len(again) == 0 {
		o.answered = true
		r.end(o)
		return
	}
	o.id = again[0].id
	r.wakeAt(o, r.now.Add(r.backoff(o.tries)))
	o.tries++
}

// finish answers everybody.
func (o *renewOp) finish(r *Router, err error) {
	for _, rn := range o.all[1:] {
		r.ready.Results = append(r.ready.Results, Result{ID: rn.id, Err: err})
	}
	r.finish(o, nil, err)
}

// tick asks again. The range may have been cut: a lease is renewed only by its
// home, so each looks anew.
func (o *renewOp) tick(r *Router) {
	switch {
	case o.answered: // the first was told that it took too long
		for _, rn := range o.all[1:] {
			r.ready.Results = append(r.ready.Results, Result{ID: rn.id, Err: ErrTimeout})
		}
		r.end(o)
	case o.sameHome(r):
		o.start(r)
	default:
		o.divide(r)
	}
}

// sameHome reports whether all leases still have one home.
func (o *renewOp) sameHome(r *Router) bool {
	first := r.cache.Lookup(keys.Lease(o.all[0].lease))
	for _, rn := range o.all {
		if d := r.cache.Lookup(keys.Lease(rn.lease)); d == nil || d != first {
			return false
		}
	}
	return true
}

// divide keeps the leases of the first's home and gives the others back.
func (o *renewOp) divide(r *Router) {
	first := r.cache.Lookup(keys.Lease(o.all[0].lease))
	if first == nil {
		o.reply(r, 0, nil, ErrNoRange)
		return
	}
	kept := o.all[:0]
	for _, rn := range o.all {
		if first.Contains(keys.Lease(rn.lease)) {
			kept = append(kept, rn)
		} else {
			r.renewals = append(r.renewals, rn)
		}
	}
	o.all = kept
	o.start(r)
}

func (*renewOp) granted(*Router, placement.Answer) {}
