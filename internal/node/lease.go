package node

import (
	"context"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/flotilladb/flotilla/internal/clock"
	"github.com/flotilladb/flotilla/lease"
)

// Leases returns the node's Lease service.
func (n *Node) Leases() *Leases { return &Leases{n.KV()} }

// Leases is the node's Lease service, as etcd's: a lease is not made when there
// is no space, while what ends one goes on.
type Leases struct{ kv *KV }

// LeaseGrant makes a lease.
func (l *Leases) LeaseGrant(ctx context.Context, req *pb.LeaseGrantRequest) (*pb.LeaseGrantResponse, error) {
	if err := l.kv.capped(true); err != nil {
		return nil, err
	}
	return l.kv.Client.LeaseGrant(ctx, req)
}

// LeaseRevoke ends a lease and deletes its keys.
func (l *Leases) LeaseRevoke(ctx context.Context, req *pb.LeaseRevokeRequest) (*pb.LeaseRevokeResponse, error) {
	if err := l.kv.capped(false); err != nil {
		return nil, err
	}
	return l.kv.Client.LeaseRevoke(ctx, req)
}

// LeaseRenew renews a lease: on the caller's goroutine if there is nothing to
// decide, for there is nothing as frequent. At is a time between the client's
// sending and now, from which on the lease lives; 0: now.
func (l *Leases) LeaseRenew(ctx context.Context, id int64, at clock.Time) (ttl int64, err error) {
	if at == 0 {
		at = clock.Now()
	}
	if ttl, ok := l.kv.n.pub.Renew(lease.ID(id), at, clock.Now); ok {
		return ttl, nil
	}
	return l.kv.Client.LeaseRenew(ctx, id)
}

// LeaseTimeToLive says what remains of a lease.
func (l *Leases) LeaseTimeToLive(ctx context.Context, req *pb.LeaseTimeToLiveRequest) (*pb.LeaseTimeToLiveResponse, error) {
	return l.kv.Client.LeaseTimeToLive(ctx, req)
}

// LeaseLeases lists all leases.
func (l *Leases) LeaseLeases(ctx context.Context, req *pb.LeaseLeasesRequest) (*pb.LeaseLeasesResponse, error) {
	return l.kv.Client.LeaseLeases(ctx, req)
}
