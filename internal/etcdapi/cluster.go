package etcdapi

import (
	"context"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// clusterServer is the Cluster service: a member is a node. Its headers carry
// no revision, as in etcd.
type clusterServer struct {
	pb.UnsafeClusterServer

	cluster Cluster
	id      Identity
}

// MemberList lists the nodes that clients may talk to.
func (s *clusterServer) MemberList(ctx context.Context, r *pb.MemberListRequest) (*pb.MemberListResponse, error) {
	if err := checkCaller(ctx, s.id); err != nil {
		return nil, err
	}
	members, err := s.cluster.Members(ctx, r.Linearizable)
	if err != nil {
		return nil, toGRPC(err)
	}
	resp := &pb.MemberListResponse{Members: members}
	fillHeaderAt(s.id, &resp.Header)
	return resp, nil
}

// MemberAdd is refused.
func (s *clusterServer) MemberAdd(context.Context, *pb.MemberAddRequest) (*pb.MemberAddResponse, error) {
	return nil, errOneNode
}

// MemberRemove is refused.
func (s *clusterServer) MemberRemove(context.Context, *pb.MemberRemoveRequest) (*pb.MemberRemoveResponse, error) {
	return nil, errOneNode
}

// MemberUpdate is refused.
func (s *clusterServer) MemberUpdate(context.Context, *pb.MemberUpdateRequest) (*pb.MemberUpdateResponse, error) {
	return nil, errOneNode
}

// MemberPromote is refused.
func (s *clusterServer) MemberPromote(context.Context, *pb.MemberPromoteRequest) (*pb.MemberPromoteResponse, error) {
	return nil, errOneNode
}
