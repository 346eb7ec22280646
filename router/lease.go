package router

import (
	"bytes"
	"cmp"
	"errors"
	"slices"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/lease"
	"github.com/flotilladb/flotilla/placement"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/peerpb"
)

// bounded reports whether there are never many of a request: who makes it bounds
// that. Revokes of expired leases are: were they refused under overload, ever
// more leases would be overdue.
func bounded(req any) bool {
	q, ok := req.(*RevokeRequest)
	return ok && q.Expired
}

// sendHome sends a request to the home of a lease; false: it is not known, and
// the op was told.
func (r *Router) sendHome(o op, id int64, body peerpb.Body) {
	d := r.cache.Lookup(keys.Lease(id))
	if d == nil {
		o.reply(r, 0, nil, ErrNoRange)
		return
	}
	r.send(o, 0, d.ID(), d.Generation, body)
}

// grantOp makes a lease. Its number tells the home whether a record is of this
// grant, so that it may be asked for again when the outcome is not known.
type grantOp struct {
	opBase
	id, ttl int64
	chosen  bool // the id is ours
	unsure  bool // it was asked for, and may be on its way to the log
	number  uint64
}

func newGrantOp(q *pb.LeaseGrantRequest) (op, error) {
	if q.TTL > lease.TTLMax {
		return nil, lease.ErrTTLTooLarge
	}
	return &grantOp{id: q.ID, ttl: q.TTL}, nil
}

func (o *grantOp) start(r *Router) {
	if o.number == 0 {
		o.ttl = max(o.ttl, r.cfg.LeaseTTLMin)
		o.number = r.cfg.Random.Uint64() | 1
	}
	for o.id == 0 {
		o.id, o.chosen = r.cfg.Random.Int64(), true
	}
	r.sendHome(o, o.id, &peerpb.GrantLease{ID: o.id, TTL: o.ttl, Number: o.number})
}

func (o *grantOp) reply(r *Router, _ int, _ any, err error) {
	o.unsure = o.unsure || err != nil && judge(err) == verdictUnknown
	err = safe(err)
	switch {
	case err == nil:
		r.finish(o, &pb.LeaseGrantResponse{ID: o.id, TTL: o.ttl}, nil)
	case o.unsure && !o.chosen:
		// Others know the id: it may have been granted and revoked, and would be there again.
		r.finish(o, nil, peerpb.ErrUnknown)
	case o.unsure && errors.Is(err, peerpb.ErrDiskFull):
		r.finish(o, nil, peerpb.ErrUnknown)
	case o.chosen && errors.Is(err, lease.ErrExists):
		o.id = 0
		o.start(r)
	case !r.retry(o, err):
		r.finish(o, nil, err)
	}
}

func (o *grantOp) tick(r *Router) {
	if o.answered {
		r.end(o)
		return
	}
	o.start(r)
}

func (*grantOp) granted(*Router, placement.Answer) {}

// revokeOp ends a lease: at its home, if that holds all keys it can have, else
// as a transaction.
type revokeOp struct {
	opBase
	req *RevokeRequest
}

func (o *revokeOp) start(r *Router) {
	r.sendHome(o, o.req.ID, &peerpb.RevokeLease{ID: o.req.ID, Expired: o.req.Expired})
}

func (o *revokeOp) reply(r *Router, _ int, body any, err error) {
	switch {
	case err == nil:
		r.finish(o, body, nil)
	case errors.Is(err, peerpb.ErrNeedsTxn) && !o.answered:
		r.become(o, newRevokeTxn(r, o.req))
	case !r.retry(o, err):
		r.finish(o, nil, err)
	}
}

func (o *revokeOp) tick(r *Router) {
	if o.answered {
		r.end(o)
		return
	}
	o.start(r)
}

func (*revokeOp) granted(*Router, placement.Answer) {}

// ttlOp says what remains of a lease and, if asked for, which keys it has. The
// keys are those of each range when it was asked.
type ttlOp struct {
	opBase
	req  *pb.LeaseTimeToLiveRequest
	resp *pb.LeaseTimeToLiveResponse // nil: the home was not heard
	// s is what was current when the request came. The home is closed there before it
	// is asked: somebody may have seen a revision whose put registers the lease, and
	// is not applied yet.
	s metapb.Revision
	// pieces are where keys may be. Each is closed at s, and then asked: it may hold
	// intents that others know as committed.
	pieces []piece
	open   int
	err    error
}

func (o *ttlOp) start(r *Router) {
	o.resp, o.err = nil, nil
	if o.req.Keys {
		r.ask(o, 0)
		return
	}
	o.lookUp(r)
}

func (o *ttlOp) lookUp(r *Router) { r.sendHome(o, o.req.ID, &peerpb.LookupLease{ID: o.req.ID}) }

func (o *ttlOp) reply(r *Router, tag int, body any, err error) {
	if o.open > 0 {
		if p := &o.pieces[tag]; err == nil && body != nil {
			if _, closed := body.(*peerpb.Closed); closed {
				r.send(o, tag, p.desc.ID(), p.desc.Generation, &peerpb.LeaseKeys{ID: o.req.ID, Span: p.span})
				return
			}
		}
		o.keysOf(r, tag, body, err)
		return
	}
	if _, closed := body.(*peerpb.Closed); closed && err == nil {
		o.lookUp(r)
		return
	}
	info, _ := body.(*peerpb.LeaseInfo)
	switch {
	case errors.Is(err, peerpb.ErrLeaseNotFound):
		r.finish(o, &pb.LeaseTimeToLiveResponse{ID: o.req.ID, TTL: -1}, nil)
	case err != nil:
		o.failed(r, err)
	case info == nil:
		r.finish(o, nil, ErrBadRequest)
	default:
		o.resp = &pb.LeaseTimeToLiveResponse{
			ID: o.req.ID, TTL: int64(info.Remaining / time.Second), GrantedTTL: info.TTL,
		}
		o.askKeys(r, info.Spans)
	}
}

func (o *ttlOp) failed(r *Router, err error) {
	if !r.retry(o, safe(err)) {
		r.finish(o, nil, err)
	}
}

func (o *ttlOp) askKeys(r *Router, spans []metapb.Span) {
	if !o.req.Keys {
		r.finish(o, o.resp, nil)
		return
	}
	o.pieces = o.pieces[:0]
	for _, s := range spans {
		var err error
		if o.pieces, err = divide(r.cache, o.pieces, s); err != nil {
			o.failed(r, err)
			return
		}
	}
	if len(o.pieces) == 0 {
		r.finish(o, o.resp, nil)
		return
	}
	o.open = len(o.pieces)
	for i, p := range o.pieces {
		r.send(o, i, p.desc.ID(), p.desc.Generation, &peerpb.Close{S: o.s, Spans: []metapb.Span{p.span}})
	}
}

// granted takes what is current.
func (o *ttlOp) granted(r *Router, a placement.Answer) {
	if a.Err != nil {
		o.failed(r, peerpb.ErrRefused)
		return
	}
	o.s = a.First
	r.sendHome(o, o.req.ID, &peerpb.Close{S: o.s})
}

func (o *ttlOp) keysOf(r *Router, tag int, body any, err error) {
	o.open--
	if found, ok := body.(*peerpb.LeaseFound); ok {
		o.resp.Keys = append(o.resp.Keys, found.Keys...)
		if p := &o.pieces[tag]; len(found.Spans) > 0 {
			p.span = found.Spans[0]
			o.open++
			r.send(o, tag, p.desc.ID(), p.desc.Generation, &peerpb.LeaseKeys{ID: o.req.ID, Span: p.span})
			return
		}
	}
	if err != nil {
		o.err = err
	}
	switch {
	case o.open > 0:
	case o.err != nil:
		o.failed(r, o.err)
	default:
		slices.SortFunc(o.resp.Keys, bytes.Compare)
		r.finish(o, o.resp, nil)
	}
}

func (o *ttlOp) tick(r *Router) {
	switch {
	case o.answered:
		r.end(o)
	case o.slots == 0:
		o.start(r)
	}
}

// leasesOp lists all leases, page by page over their homes.
type leasesOp struct {
	opBase
	from    []byte
	end     []byte // of the range that was asked
	entries []peerpb.LeaseEntry
}

// leasePageMax bounds the leases that a range tells at a time.
const leasePageMax = 1 << 14

func (o *leasesOp) start(r *Router) {
	if o.from == nil {
		o.from = keys.LeaseSpan().Start
	}
	d := r.cache.Lookup(o.from)
	if d == nil {
		o.reply(r, 0, nil, ErrNoRange)
		return
	}
	o.end = d.End
	r.send(o, 0, d.ID(), d.Generation, &peerpb.ListLeases{From: o.from, LimitMax: leasePageMax})
}

func (o *leasesOp) reply(r *Router, _ int, body any, err error) {
	list, _ := body.(*peerpb.LeaseList)
	switch {
	case err != nil:
		if !r.retry(o, safe(err)) {
			r.finish(o, nil, err)
		}
		return
	case list == nil:
		r.finish(o, nil, ErrBadRequest)
		return
	}
	o.entries = append(o.entries, list.Leases...)
	o.from = o.end
	if n := len(list.Leases); list.More && n > 0 && list.Leases[n-1].ID != -1 { // no id comes behind -1
		o.from = keys.Lease(list.Leases[n-1].ID + 1)
	}
	if len(o.from) > 0 && keys.LeaseSpan().Contains(o.from) {
		o.start(r)
		return
	}
	// As etcd: who ends first comes first.
	slices.SortStableFunc(o.entries, func(a, b peerpb.LeaseEntry) int { return cmp.Compare(a.Remaining, b.Remaining) })
	resp := &pb.LeaseLeasesResponse{Leases: make([]*pb.LeaseStatus, 0, len(o.entries))}
	for _, e := range o.entries {
		resp.Leases = append(resp.Leases, &pb.LeaseStatus{ID: e.ID})
	}
	r.finish(o, resp, nil)
}

func (o *leasesOp) tick(r *Router) {
	if o.answered {
		r.end(o)
		return
	}
	o.start(r)
}

func (*leasesOp) granted(*Router, placement.Answer) {}
