package etcdapi

import (
	"context"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"go.etcd.io/etcd/api/v3/version"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// maintenanceServer is the Maintenance service.
type maintenanceServer struct {
	pb.UnsafeMaintenanceServer

	m      Maintenance
	alarms Alarms
	id     Identity
}

// Alarm lists, raises or lowers alarms.
func (s *maintenanceServer) Alarm(ctx context.Context, r *pb.AlarmRequest) (*pb.AlarmResponse, error) {
	if err := checkCaller(ctx, s.id); err != nil {
		return nil, err
	}
	resp, err := s.alarms.Alarm(ctx, r)
	if err != nil {
		return nil, toGRPC(err)
	}
	fillHeader(s.id, &resp.Header)
	return resp, nil
}

// Status describes this node. Its version is the etcd that we speak like:
// clients parse it to learn what they may ask for.
func (s *maintenanceServer) Status(ctx context.Context, _ *pb.StatusRequest) (*pb.StatusResponse, error) {
	if err := checkCaller(ctx, s.id); err != nil {
		return nil, err
	}
	resp, err := s.m.Status(ctx)
	if err != nil {
		return nil, toGRPC(err)
	}
	fillHeader(s.id, &resp.Header)
	resp.Version = version.Version
	resp.RaftTerm = s.id.Term()
	resp.Leader = s.id.Leader()
	resp.DowngradeInfo = &pb.DowngradeInfo{}
	if resp.Leader == 0 {
		resp.Errors = append(resp.Errors, status.Convert(rpctypes.ErrGRPCNoLeader).Message())
	}
	for _, a := range s.alarms.Alarms() {
		resp.Errors = append(resp.Errors, a.String())
	}
	return resp, nil
}

// Defragment answers OK: space comes back by itself.
func (s *maintenanceServer) Defragment(ctx context.Context, _ *pb.DefragmentRequest) (*pb.DefragmentResponse, error) {
	if err := checkCaller(ctx, s.id); err != nil {
		return nil, err
	}
	return &pb.DefragmentResponse{}, nil
}

// Hash is HashKV of everything. In etcd it hashes the file, which is of use to
// etcd's tests only.
func (s *maintenanceServer) Hash(ctx context.Context, _ *pb.HashRequest) (*pb.HashResponse, error) {
	kv, err := s.HashKV(ctx, &pb.HashKVRequest{})
	if err != nil {
		return nil, err
	}
	return &pb.HashResponse{Header: kv.Header, Hash: kv.Hash}, nil
}

// HashKV hashes what the compacted revision leaves, up to a revision.
func (s *maintenanceServer) HashKV(ctx context.Context, r *pb.HashKVRequest) (*pb.HashKVResponse, error) {
	if err := checkCaller(ctx, s.id); err != nil {
		return nil, err
	}
	resp, err := s.m.HashKV(ctx, r)
	if err != nil {
		return nil, toGRPC(err)
	}
	fillHeader(s.id, &resp.Header)
	return resp, nil
}

// Snapshot is not there yet.
func (s *maintenanceServer) Snapshot(_ *pb.SnapshotRequest, stream pb.Maintenance_SnapshotServer) error {
	if err := checkCaller(stream.Context(), s.id); err != nil {
		return err
	}
	return status.Error(codes.Unimplemented, "etcdserver: snapshots are not supported by this version of flotilla")
}

// MoveLeader has another node lead the system range, which is the leader that Status
// shows. As in etcd only the node that leads takes it.
func (s *maintenanceServer) MoveLeader(ctx context.Context, r *pb.MoveLeaderRequest) (*pb.MoveLeaderResponse, error) {
	if err := checkCaller(ctx, s.id); err != nil {
		return nil, err
	}
	_, member := s.id.IDs()
	switch {
	case s.id.Leader() != member:
		return nil, rpctypes.ErrGRPCNotLeader
	case r.TargetID == member:
		return &pb.MoveLeaderResponse{}, nil
	}
	if err := s.m.MoveLeader(ctx, r.TargetID); err != nil {
		return nil, toGRPC(err)
	}
	return &pb.MoveLeaderResponse{}, nil
}

// Downgrade is not there: every data format so far is the first.
func (s *maintenanceServer) Downgrade(ctx context.Context, _ *pb.DowngradeRequest) (*pb.DowngradeResponse, error) {
	if err := checkCaller(ctx, s.id); err != nil {
		return nil, err
	}
	return nil, status.Error(codes.Unimplemented, "etcdserver: downgrades are not supported by this version of flotilla")
}
