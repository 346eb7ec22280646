package model

import (
	"math"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// LeaseIDs are the ids that grants ask for, the ends of the numbers among them.
// They are few, so that ids are in use, or used again, often.
func LeaseIDs() []int64 {
	return []int64{1, 2, 3, 7, 250, 100_000, 1 << 40, math.MaxInt64, -1, -2, -1 << 33, math.MinInt64}
}

// leaseRequest draws a request of the Lease service.
func (g *Generator) leaseRequest(s *State) any {
	switch n := g.rng.IntN(20); {
	case n < 8:
		return &pb.LeaseGrantRequest{ID: g.freeLease(s), TTL: g.ttl()}
	case n < 11:
		return &pb.LeaseRevokeRequest{ID: g.lease(s)}
	case n < 14:
		return &pb.LeaseKeepAliveRequest{ID: g.lease(s)}
	case n < 18:
		return &pb.LeaseTimeToLiveRequest{ID: g.lease(s), Keys: !g.oneIn(4)}
	default:
		return &pb.LeaseLeasesRequest{}
	}
}

// lease draws a lease that exists, mostly, or 0 if there is none.
func (g *Generator) lease(s *State) int64 {
	if ids := s.LeaseIDs(); len(ids) > 0 && !g.invalid() {
		return ids[g.rng.IntN(len(ids))]
	}
	if g.oneIn(4) {
		return 0
	}
	ids := LeaseIDs()
	return ids[g.rng.IntN(len(ids))]
}

// freeLease draws an id that is not in use, if it finds one quickly.
func (g *Generator) freeLease(s *State) int64 {
	if g.oneIn(8) {
		return 0
	}
	ids := LeaseIDs()
	id := ids[g.rng.IntN(len(ids))]
	for range 2 {
		if _, used := s.findLease(id); !used || g.invalid() {
			return id
		}
		id = ids[g.rng.IntN(len(ids))]
	}
	return id
}

func (g *Generator) ttl() int64 {
	if g.invalid() {
		odd := []int64{0, -1, math.MinInt64, 1, leaseTTLMax, leaseTTLMax + 1, math.MaxInt64}
		return odd[g.rng.IntN(len(odd))]
	}
	return g.cfg.LeaseTTLLow + g.rng.Int64N(g.cfg.LeaseTTLHigh-g.cfg.LeaseTTLLow+1)
}

// Watch draws a request to watch, valid or not; id 0 leaves the choice to the
// server. Most begin near the newest revision, some where it was compacted.
func (g *Generator) Watch(s *State) *pb.WatchCreateRequest {
	key, end := g.span()
	r := &pb.WatchCreateRequest{
		Key: key, RangeEnd: end, StartRevision: g.revision(s),
		PrevKv: g.oneIn(2), Fragment: g.oneIn(4), ProgressNotify: g.oneIn(4),
	}
	if g.oneIn(4) {
		r.Filters = append(r.Filters, pb.WatchCreateRequest_FilterType(g.rng.IntN(2)))
	}
	if g.invalid() {
		r.Filters = append(r.Filters, 0, 1, 7)
	}
	return r
}
