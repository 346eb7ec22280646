package sim

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/flotilladb/flotilla/internal/clock"
	"github.com/flotilladb/flotilla/internal/model"
	"github.com/flotilladb/flotilla/proto/txnpb"
)

// Grants take no revision, neither does the end of a lease without keys, so the
// order of revisions does not say when a lease existed. What clients saw does:
// each answer about a lease proves that it was there, or was not, at some moment
// between question and answer.

// proof is what an answer, or an effect, proves about a lease.
type proof struct {
	kind         proofKind
	begun, ended int // moments
	from, to     clock.Time
	ttl          time.Duration // of what began or was renewed
	what         string
}

type proofKind int

const (
	leaseBegan proofKind = iota
	leaseMayBegin
	leaseRenewed
	leaseThere
	leaseEnded
	leaseMayEnd
	leaseGone
	// leaseOver: it is gone, or its time is up.
	leaseOver
)

func (k proofKind) there() bool { return k == leaseRenewed || k == leaseThere || k == leaseEnded }
func (k proofKind) gone() bool  { return k == leaseBegan || k == leaseGone || k == leaseOver }

// leaseProofs collects what is known of each lease.
type leaseProofs map[int64][]proof

func (p leaseProofs) add(id int64, kind proofKind, o *op, ttl int64) {
	pr := proof{
		kind: kind, begun: o.begun, ended: o.ended, from: o.beganAt, to: o.endedAt,
		ttl: time.Duration(min(ttl, int64(math.MaxInt64/time.Second))) * time.Second, what: fmt.Sprintf("#%d %s", o.number, describe(o.req)),
	}
	if o.ended == 0 {
		pr.ended, pr.to = math.MaxInt, math.MaxInt64
	}
	p[id] = append(p[id], pr)
}

// collectProofs is called before the writes are replayed.
func (c *checker) collectProofs() error {
	c.proofs = make(leaseProofs)
	for _, o := range c.h.ops {
		c.proofs.op(o)
	}
	// A home's clock may be fast.
	for _, all := range c.proofs {
		for i := range all {
			all[i].ttl -= time.Duration(float64(all[i].ttl) * c.drift)
		}
	}
	return nil
}

// checkLeases looks for leases that went before their time, or outlived it.
func (c *checker) checkLeases() error {
	p := c.proofs
	ids := make(map[int64]bool)
	for id := range p {
		ids[id] = true
	}
	c.puts(p)
	for _, o := range c.h.ops {
		if r, ok := o.resp.(*pb.LeaseLeasesResponse); ok && o.fate == fateAnswered {
			p.list(o, r, ids)
		}
	}
	for _, o := range c.h.ops {
		if r, ok := o.req.(*pb.LeaseGrantRequest); ok && r.ID == 0 && o.fate == fateUnknown {
			for id := range p {
				p.add(id, leaseMayBegin, o, 0) // it may have chosen any
			}
		}
	}
	var order []int64
	for id := range p {
		order = append(order, id)
	}
	slices.Sort(order)
	for _, id := range order {
		if err := p.check(id); err != nil {
			return err
		}
	}
	return nil
}

// op notes what a request about a lease proves.
func (p leaseProofs) op(o *op) {
	known := o.fate == fateAnswered
	switch r := o.req.(type) {
	case *pb.LeaseGrantRequest:
		switch {
		case known && o.err == nil:
			resp := o.resp.(*pb.LeaseGrantResponse)
			p.add(resp.ID, leaseBegan, o, resp.TTL)
		case known && o.err == rpctypes.ErrGRPCLeaseExist:
			p.add(r.ID, leaseThere, o, 0)
		case o.fate == fateUnknown && r.ID != 0:
			p.add(r.ID, leaseMayBegin, o, 0)
		}
	case *pb.LeaseRevokeRequest:
		switch {
		case known && o.err == nil:
			p.add(r.ID, leaseEnded, o, 0)
		case known && o.err == rpctypes.ErrGRPCLeaseNotFound:
			p.add(r.ID, leaseGone, o, 0)
		case o.fate == fateUnknown:
			p.add(r.ID, leaseMayEnd, o, 0)
		}
	case *pb.LeaseKeepAliveRequest:
		switch {
		case !known || o.err != nil:
		case o.resp.(*pb.LeaseKeepAliveResponse).TTL > 0:
			p.add(r.ID, leaseRenewed, o, o.resp.(*pb.LeaseKeepAliveResponse).TTL)
		default:
			p.add(r.ID, leaseOver, o, 0)
		}
	case *pb.LeaseTimeToLiveRequest:
		switch {
		case !known || o.err != nil:
		case o.resp.(*pb.LeaseTimeToLiveResponse).TTL >= 0:
			p.add(r.ID, leaseThere, o, 0)
		default:
			p.add(r.ID, leaseGone, o, 0)
		}
	}
}

// list notes what a list of all leases proves.
func (p leaseProofs) list(o *op, r *pb.LeaseLeasesResponse, ids map[int64]bool) {
	listed := make(map[int64]bool)
	for _, l := range r.Leases {
		listed[l.ID] = true
		p.add(l.ID, leaseThere, o, 0)
	}
	for id := range ids {
		if !listed[id] {
			p.add(id, leaseGone, o, 0)
		}
	}
}

// puts notes that a lease was there when a key was attached to it.
func (c *checker) puts(p leaseProofs) {
	for _, rev := range c.revs {
		for _, m := range c.h.effects[rev] {
			if o := c.owners[rev]; o != nil && m.Lease != 0 && slices.Contains(leasesIn(o.req), m.Lease) {
				at := *o
				at.ended, at.endedAt = c.h.applied[rev].n, c.h.applied[rev].at
				p.add(m.Lease, leaseThere, &at, 0)
			}
		}
	}
}

// check holds the proofs about one lease against each other.
func (p leaseProofs) check(id int64) error {
	all := p[id]
	for i := range all {
		x := &all[i]
		if x.kind.gone() {
			if q := early(all, x); q != nil {
				return fmt.Errorf("lease %d: %s says that it is over at %v, but %s gave it %v at %v",
					id, x.what, x.to.Sub(start), q.what, q.ttl, q.from.Sub(start))
			}
		}
		if x.kind.there() && !begun(all, x) {
			return fmt.Errorf("lease %d: %s says that it is there, but it had ended, or never began", id, x.what)
		}
	}
	return nil
}

// early finds what gave the lease time beyond x, if nothing can have ended it in
// between.
func early(all []proof, x *proof) *proof {
	for i := range all {
		q := &all[i]
		if q.kind != leaseBegan && q.kind != leaseRenewed || q.ended >= x.begun || q == x || q.from.Add(q.ttl) <= x.to {
			continue
		}
		ended := slices.ContainsFunc(all, func(e proof) bool {
			return (e.kind == leaseEnded || e.kind == leaseMayEnd) && e.begun < x.ended && e.ended > q.begun
		})
		if !ended {
			return q
		}
	}
	return nil
}

// begun reports whether some grant can be why x found the lease: one that began
// before x ended, and after which the lease did not certainly end before x.
func begun(all []proof, x *proof) bool {
	for i := range all {
		g := &all[i]
		if g.kind != leaseBegan && g.kind != leaseMayBegin || g.begun >= x.ended {
			continue
		}
		over := slices.ContainsFunc(all, func(e proof) bool {
			return e.kind == leaseEnded && e.begun > g.ended && e.ended < x.begun
		})
		if !over {
			return true
		}
	}
	return false
}

// tryEnd is the model's state after the end of a lease, if that is what a
// revision nobody claims was.
func (c *checker) tryEnd(before *model.State, rev int64, effects []*txnpb.Mutation) (*model.State, error) {
	id := int64(0)
	for i, m := range effects {
		kvs := before.Live(m.Key, nil, before.Revision())
		if !m.Tombstone || len(kvs) == 0 || i > 0 && kvs[0].Lease != id {
			return nil, nil
		}
		id = kvs[0].Lease
	}
	if id == 0 {
		return nil, nil
	}
	next, _, err := model.Step(before.WithLeases(id), model.Expire{ID: id})
	if err != nil {
		return nil, err
	}
	if why := sameEffects(next, next.Revision(), effects); why != "" {
		return nil, fmt.Errorf("revision %d deletes keys of lease %d, but %s", rev, id, why)
	}
	m := c.h.applied[rev]
	end := proof{
		kind: leaseMayEnd, begun: min(m.n, c.notBefore(rev)), ended: m.n, from: m.at, to: m.at,
		what: fmt.Sprintf("its end at revision %d", rev),
	}
	if q := early(c.proofs[id], &end); q != nil && !c.revoked(id, rev) {
		return nil, fmt.Errorf("lease %d ended by itself at revision %d, at %v, but %s gave it %v at %v",
			id, rev, m.at.Sub(start), q.what, q.ttl, q.from.Sub(start))
	}
	c.proofs[id] = append(c.proofs[id], end)
	return next, nil
}

// notBefore returns a moment at which a revision was not given out yet. Its effects may be
// applied much later than it took effect: by then there may be another lease of the same id.
func (c *checker) notBefore(rev int64) (n int) {
	for _, o := range c.h.ops {
		if o.ended > 0 && o.high < rev {
			n = max(n, o.ended+1)
		}
	}
	return n
}

// revoked reports whether a client may have revoked a lease at a revision.
func (c *checker) revoked(id, rev int64) bool {
	return slices.ContainsFunc(c.h.ops, func(o *op) bool {
		r, ok := o.req.(*pb.LeaseRevokeRequest)
		return ok && r.ID == id && rev > o.low && o.begun < c.h.applied[rev].n &&
			(o.fate == fateUnknown || o.fate == fateAnswered && o.err == nil && headerOf(o.resp) == rev)
	})
}

// leaseTTLLong is a TTL, in seconds, that no run waits for.
const leaseTTLLong = 60

// aboutLeases reports whether a request asks the Lease service.
func aboutLeases(req any) bool {
	switch req.(type) {
	case *pb.LeaseGrantRequest, *pb.LeaseRevokeRequest, *pb.LeaseKeepAliveRequest, *pb.LeaseTimeToLiveRequest, *pb.LeaseLeasesRequest:
		return true
	}
	return false
}

// leaseAnswer checks what is in an answer beside whether the lease is there.
func (c *checker) leaseAnswer(o *op) error {
	if o.err != nil {
		return nil
	}
	if rev := headerOf(o.resp); rev > o.high {
		return fmt.Errorf("its header is %d, and %d is current", rev, o.high)
	}
	switch r := o.resp.(type) {
	case *pb.LeaseGrantResponse:
		asked := o.req.(*pb.LeaseGrantRequest)
		if asked.ID != 0 && r.ID != asked.ID || r.ID == 0 || r.TTL != max(asked.TTL, c.limits.LeaseTTLMin) {
			return fmt.Errorf("it granted lease %d with TTL %d", r.ID, r.TTL)
		}
	case *pb.LeaseTimeToLiveResponse:
		if r.TTL > r.GrantedTTL {
			return fmt.Errorf("%d s of %d s are left", r.TTL, r.GrantedTTL)
		}
		if asked := o.req.(*pb.LeaseTimeToLiveRequest); asked.Keys && r.TTL >= 0 {
			return c.attached(o, r)
		}
	}
	return nil
}

// attached checks a list of keys. Each range may have been asked at another
// revision.
func (c *checker) attached(o *op, r *pb.LeaseTimeToLiveResponse) error {
	always, ever := map[string]int{}, map[string]bool{}
	revs := revisionsIn(o.low, o.high)
	for _, rev := range revs {
		for _, key := range c.at(rev).Attached(r.ID) {
			always[string(key)]++
			ever[string(key)] = true
		}
	}
	if !slices.IsSortedFunc(r.Keys, bytes.Compare) {
		return fmt.Errorf("keys %q are not in order", r.Keys)
	}
	for _, key := range r.Keys {
		if !ever[string(key)] {
			return fmt.Errorf("%q was not attached from %d to %d", key, o.low, o.high)
		}
		delete(always, string(key))
	}
	for key, n := range always {
		if n == len(revs) {
			return fmt.Errorf("%q was attached from %d to %d, and is not listed", key, o.low, o.high)
		}
	}
	return nil
}

// leasesIn are the leases that a request names in puts.
func leasesIn(req any) []int64 {
	var ids []int64
	switch r := req.(type) {
	case *pb.PutRequest:
		if r.Lease != 0 {
			ids = append(ids, r.Lease)
		}
	case *pb.TxnRequest:
		for _, ops := range [][]*pb.RequestOp{r.Success, r.Failure} {
			for _, op := range ops {
				if p := op.GetRequestPut(); p != nil {
					ids = append(ids, leasesIn(p)...)
				} else if t := op.GetRequestTxn(); t != nil {
					ids = append(ids, leasesIn(t)...)
				}
			}
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// refusedFor reports whether a request may have been refused because one lease
// was not there.
func (c *checker) refusedFor(state *model.State, o *op) bool {
	named := leasesIn(o.req)
	for i := range named {
		others := slices.Delete(slices.Clone(named), i, i+1)
		_, resp, err := model.Step(state.WithLeases(others...), o.req)
		if model.Equal(o.req, o.resp, nilIfError(resp, err), o.err, err) == "" {
			return true
		}
	}
	return false
}
