package etcdapi

import (
	"context"
	"net/url"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
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

// MemberAdd announces a node that is to join from its peer URLs. There are no
// learners among nodes: a node counts for nothing until ranges have replicas on it.
func (s *clusterServer) MemberAdd(ctx context.Context, r *pb.MemberAddRequest) (*pb.MemberAddResponse, error) {
	resp := &pb.MemberAddResponse{}
	err := checkCaller(ctx, s.id)
	if err == nil {
		err = checkPeerURLs(r.PeerURLs)
	}
	if err != nil {
		return nil, err
	}
	if resp.Member, resp.Members, err = s.cluster.ChangeMember(ctx, 0, false, r.PeerURLs); err != nil {
		return nil, toGRPC(err)
	}
	fillHeaderAt(s.id, &resp.Header)
	return resp, nil
}

// MemberRemove removes a node. Its replicas move to others by and by; if a range needs the
// node for its majority, before it is removed.
func (s *clusterServer) MemberRemove(ctx context.Context, r *pb.MemberRemoveRequest) (*pb.MemberRemoveResponse, error) {
	resp := &pb.MemberRemoveResponse{}
	err := checkCaller(ctx, s.id)
	if err == nil && r.ID == 0 {
		err = rpctypes.ErrGRPCMemberNotFound
	}
	if err != nil {
		return nil, err
	}
	if _, resp.Members, err = s.cluster.ChangeMember(ctx, r.ID, true, nil); err != nil {
		return nil, toGRPC(err)
	}
	fillHeaderAt(s.id, &resp.Header)
	return resp, nil
}

// MemberUpdate changes where other nodes reach a node.
func (s *clusterServer) MemberUpdate(ctx context.Context, r *pb.MemberUpdateRequest) (*pb.MemberUpdateResponse, error) {
	resp := &pb.MemberUpdateResponse{}
	err := checkCaller(ctx, s.id)
	if err == nil {
		err = checkPeerURLs(r.PeerURLs)
	}
	if err == nil && r.ID == 0 {
		err = rpctypes.ErrGRPCMemberNotFound
	}
	if err != nil {
		return nil, err
	}
	if _, resp.Members, err = s.cluster.ChangeMember(ctx, r.ID, false, r.PeerURLs); err != nil {
		return nil, toGRPC(err)
	}
	fillHeaderAt(s.id, &resp.Header)
	return resp, nil
}

// MemberPromote is refused: no member is a learner.
func (s *clusterServer) MemberPromote(ctx context.Context, r *pb.MemberPromoteRequest) (*pb.MemberPromoteResponse, error) {
	if err := checkCaller(ctx, s.id); err != nil {
		return nil, err
	}
	members, err := s.cluster.Members(ctx, true)
	if err != nil {
		return nil, toGRPC(err)
	}
	for _, m := range members {
		if m.ID == r.ID {
			return nil, rpctypes.ErrGRPCMemberNotLearner
		}
	}
	return nil, rpctypes.ErrGRPCMemberNotFound
}

// checkPeerURLs wants what etcd wants of URLs: at least one, each of a scheme that
// it knows, with a host and a port.
func checkPeerURLs(urls []string) error {
	if len(urls) == 0 {
		return rpctypes.ErrGRPCMemberBadURLs
	}
	for _, text := range urls {
		u, err := url.Parse(text)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Port() == "" || u.Path != "" {
			return rpctypes.ErrGRPCMemberBadURLs
		}
	}
	return nil
}
