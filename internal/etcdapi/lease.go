package etcdapi

import (
	"context"
	"errors"
	"io"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/flotilladb/flotilla/internal/stop"
	"github.com/flotilladb/flotilla/lease"
)

// leaseCost is the space that a grant needs, as etcd reckons it.
const leaseCost = 64

// leaseServer is the Lease service.
type leaseServer struct {
	pb.UnsafeLeaseServer

	leases   Leases
	id       Identity
	quota    Quota
	alarms   Alarms
	draining context.Context // done when streams must end
	leader   *leaderWatch
	stopper  *stop.Stopper
}

// refused returns what an alarm answers to a grant or a revoke. A grant takes
// space, a revoke gives it back.
func (s *leaseServer) refused(grant bool) error {
	var full bool
	for _, a := range s.alarms.Alarms() {
		switch a.Alarm {
		case pb.AlarmType_CORRUPT:
			return rpctypes.ErrGRPCCorrupt
		case pb.AlarmType_NOSPACE:
			full = true
		}
	}
	if full && grant {
		return rpctypes.ErrGRPCNoSpace
	}
	return nil
}

// LeaseGrant makes a lease. Of its faults a lack of space comes first.
func (s *leaseServer) LeaseGrant(ctx context.Context, r *pb.LeaseGrantRequest) (*pb.LeaseGrantResponse, error) {
	if err := checkCaller(ctx, s.id); err != nil {
		return nil, err
	}
	if s.quota != nil && !s.quota.Available(leaseCost) {
		return nil, rpctypes.ErrGRPCNoSpace
	}
	if err := s.refused(true); err != nil {
		return nil, err
	}
	resp, err := s.leases.LeaseGrant(ctx, r)
	if err != nil {
		return nil, toGRPC(err)
	}
	fillHeader(s.id, &resp.Header)
	return resp, nil
}

// LeaseRevoke ends a lease and deletes its keys at one revision.
func (s *leaseServer) LeaseRevoke(ctx context.Context, r *pb.LeaseRevokeRequest) (*pb.LeaseRevokeResponse, error) {
	if err := checkCaller(ctx, s.id); err != nil {
		return nil, err
	}
	if err := s.refused(false); err != nil {
		return nil, err
	}
	resp, err := s.leases.LeaseRevoke(ctx, r)
	if err != nil {
		return nil, toGRPC(err)
	}
	fillHeader(s.id, &resp.Header)
	return resp, nil
}

// LeaseTimeToLive tells how long a lease has; one that does not exist has -1.
func (s *leaseServer) LeaseTimeToLive(ctx context.Context, r *pb.LeaseTimeToLiveRequest) (*pb.LeaseTimeToLiveResponse, error) {
	if err := checkCaller(ctx, s.id); err != nil {
		return nil, err
	}
	resp, err := s.leases.LeaseTimeToLive(ctx, r)
	if errors.Is(err, lease.ErrNotFound) {
		resp, err = &pb.LeaseTimeToLiveResponse{ID: r.ID, TTL: -1}, nil
	}
	if err != nil {
		return nil, toGRPC(err)
	}
	fillHeader(s.id, &resp.Header)
	return resp, nil
}

// LeaseLeases lists the leases.
func (s *leaseServer) LeaseLeases(ctx context.Context, r *pb.LeaseLeasesRequest) (*pb.LeaseLeasesResponse, error) {
	if err := checkCaller(ctx, s.id); err != nil {
		return nil, err
	}
	resp, err := s.leases.LeaseLeases(ctx, r)
	if err != nil {
		return nil, toGRPC(err)
	}
	fillHeader(s.id, &resp.Header)
	return resp, nil
}

// LeaseKeepAlive renews leases, one answer for each request and in their order.
// A lease that does not exist has a TTL of 0, and the stream goes on.
//
// It runs on the handler's goroutine alone: many clients open a stream for every
// single renewal. So only the client, the next request, or the end of Stop's
// patience ends it. A client that wants a leader, as those do that keep a stream open,
// has a goroutine more, "renewals", and hears at once when it should go elsewhere.
func (s *leaseServer) LeaseKeepAlive(stream pb.Lease_LeaseKeepAliveServer) error {
	if err := checkCaller(stream.Context(), s.id); err != nil {
		return err
	}
	if !wantsLeader(stream.Context()) {
		return s.keepAlive(stream)
	}
	lost := s.leader.lost()
	done := make(chan error, 1)
	if err := s.stopper.Go("renewals", func(context.Context) { done <- s.keepAlive(stream) }); err != nil {
		return rpctypes.ErrGRPCStopped
	}
	select {
	case err := <-done:
		return err
	case <-lost.Done():
		return rpctypes.ErrGRPCNoLeader
	case <-s.draining.Done():
		return rpctypes.ErrGRPCStopped
	}
}

func (s *leaseServer) keepAlive(stream pb.Lease_LeaseKeepAliveServer) error {
	ctx := stream.Context()
	// Used again for each renewal: they do not outlive the calls they are given to.
	var req pb.LeaseKeepAliveRequest
	conn := pacedConnOf(ctx)
	var header pb.ResponseHeader
	resp := pb.LeaseKeepAliveResponse{Header: &header}
	for {
		if err := stream.RecvMsg(&req); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		if s.draining.Err() != nil {
			return rpctypes.ErrGRPCStopped
		}
		// The header is filled before the renewal. Otherwise a client could see a
		// lease alive at a revision above the one it was revoked at.
		header.Revision = 0
		fillHeader(s.id, &resp.Header)
		ttl, err := s.leases.LeaseRenew(ctx, req.ID, conn.arrived())
		switch {
		case errors.Is(err, lease.ErrNotFound), errors.Is(err, lease.ErrExpired):
			ttl = 0
		case err != nil:
			return toGRPC(err)
		}
		conn.renewed()
		resp.ID, resp.TTL = req.ID, ttl
		if err := stream.SendMsg(&resp); err != nil {
			return err
		}
	}
}
