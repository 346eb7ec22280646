package etcdapi

import (
	"context"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

// firstAuthRevision is what etcd counts changes of users and roles from.
const firstAuthRevision = 1

// authServer is the Auth service of a cluster that has no users: it says so,
// and refuses to make any.
type authServer struct {
	pb.UnimplementedAuthServer

	id Identity
}

// AuthStatus says that authentication is off.
func (s *authServer) AuthStatus(ctx context.Context, _ *pb.AuthStatusRequest) (*pb.AuthStatusResponse, error) {
	if err := checkCaller(ctx, s.id); err != nil {
		return nil, err
	}
	resp := &pb.AuthStatusResponse{AuthRevision: firstAuthRevision}
	fillHeader(s.id, &resp.Header)
	return resp, nil
}

// Authenticate has nobody to authenticate.
func (s *authServer) Authenticate(context.Context, *pb.AuthenticateRequest) (*pb.AuthenticateResponse, error) {
	return nil, rpctypes.ErrGRPCAuthNotEnabled
}

// AuthEnable is refused before anybody trusts in it.
func (s *authServer) AuthEnable(context.Context, *pb.AuthEnableRequest) (*pb.AuthEnableResponse, error) {
	return nil, errNoAuth
}

// UserAdd is refused.
func (s *authServer) UserAdd(context.Context, *pb.AuthUserAddRequest) (*pb.AuthUserAddResponse, error) {
	return nil, errNoAuth
}

// RoleAdd is refused.
func (s *authServer) RoleAdd(context.Context, *pb.AuthRoleAddRequest) (*pb.AuthRoleAddResponse, error) {
	return nil, errNoAuth
}
