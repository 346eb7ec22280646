package model

import (
	"cmp"
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

// leaseTTLMax is the longest TTL that may be asked for, in seconds.
const leaseTTLMax = 9_000_000_000

// Expire says that a lease has run out. Nobody asks for it and nobody is
// answered: time does it, of which the model knows nothing, so whoever does
// know makes it a step.
type Expire struct {
	ID int64
}

// lease is a lease as it was granted; the keys are found by their pairs. The id
// of a lease that is gone may be granted again.
type lease struct {
	id, ttl int64
}

func (s *State) findLease(id int64) (at int, found bool) {
	return slices.BinarySearchFunc(s.leases, id, func(l lease, id int64) int { return cmp.Compare(l.id, id) })
}

// LeaseTTL is the granted TTL of a lease in seconds.
func (s *State) LeaseTTL(id int64) (ttl int64, known bool) {
	at, known := s.findLease(id)
	if !known {
		return 0, false
	}
	return s.leases[at].ttl, true
}

// LeaseIDs are the ids of all leases, in order.
func (s *State) LeaseIDs() []int64 {
	ids := make([]int64, 0, len(s.leases))
	for _, l := range s.leases {
		ids = append(ids, l.id)
	}
	return ids
}

// Attached returns the keys that live with a lease, in key order.
func (s *State) Attached(id int64) [][]byte {
	if id == 0 {
		return nil
	}
	var keys [][]byte
	for _, h := range s.keys {
		if kv := h.at(s.revision); kv != nil && kv.Lease == id {
			keys = append(keys, h.key)
		}
	}
	return keys
}

// grant takes the TTL for too large before it looks for the id. Id 0 asks for
// one that the server chooses; here it is the first that is free.
func (d *draft) grant(r *pb.LeaseGrantRequest) (*pb.LeaseGrantResponse, error) {
	if r.TTL > leaseTTLMax {
		return nil, rpctypes.ErrGRPCLeaseTTLTooLarge
	}
	id := r.ID
	at, found := d.findLease(id)
	for id == 0 || found && r.ID == 0 {
		id++
		at, found = d.findLease(id)
	}
	if found {
		return nil, rpctypes.ErrGRPCLeaseExist
	}
	l := lease{id: id, ttl: max(r.TTL, d.limits.LeaseTTLMin)}
	d.leases = slices.Insert(slices.Clone(d.leases), at, l)
	return &pb.LeaseGrantResponse{Header: header(d.revision), ID: l.id, TTL: l.ttl}, nil
}

// endLease deletes the keys of a lease in key order, all at one revision. A
// lease without keys takes none.
func (d *draft) endLease(id int64) (*pb.LeaseRevokeResponse, error) {
	at, found := d.findLease(id)
	if !found {
		return nil, rpctypes.ErrGRPCLeaseNotFound
	}
	for _, key := range d.Attached(id) {
		d.write(key, nil)
	}
	d.leases = slices.Delete(slices.Clone(d.leases), at, at+1)
	return &pb.LeaseRevokeResponse{Header: header(d.now())}, nil
}

// keepAlive answers an unknown lease with TTL 0, which is no error.
func (d *draft) keepAlive(r *pb.LeaseKeepAliveRequest) *pb.LeaseKeepAliveResponse {
	ttl, _ := d.LeaseTTL(r.ID)
	return &pb.LeaseKeepAliveResponse{Header: header(d.revision), ID: r.ID, TTL: ttl}
}

// timeToLive says that all of the granted TTL is left: the model has no clock.
// An unknown lease is no error.
func (d *draft) timeToLive(r *pb.LeaseTimeToLiveRequest) *pb.LeaseTimeToLiveResponse {
	resp := &pb.LeaseTimeToLiveResponse{Header: header(d.revision), ID: r.ID, TTL: -1}
	ttl, known := d.LeaseTTL(r.ID)
	if !known {
		return resp
	}
	resp.TTL, resp.GrantedTTL = ttl, ttl
	if r.Keys {
		resp.Keys = d.Attached(r.ID)
	}
	return resp
}

func (d *draft) listLeases() *pb.LeaseLeasesResponse {
	resp := &pb.LeaseLeasesResponse{Header: header(d.revision)}
	for _, l := range d.leases {
		resp.Leases = append(resp.Leases, &pb.LeaseStatus{ID: l.id})
	}
	return resp
}

// leaseOf is the lease that a put leaves its key with.
func leaseOf(r *pb.PutRequest, prev *mvccpb.KeyValue) int64 {
	if r.IgnoreLease && prev != nil {
		return prev.Lease
	}
	return r.Lease
}

// WithLeases returns the state in which just these leases exist, for a checker
// that does not know when each did. Their TTLs are 0.
func (s *State) WithLeases(ids ...int64) *State {
	next := *s
	next.leases = nil
	for _, id := range ids {
		if at, found := next.findLease(id); !found && id != 0 {
			next.leases = slices.Insert(next.leases, at, lease{id: id})
		}
	}
	return &next
}
