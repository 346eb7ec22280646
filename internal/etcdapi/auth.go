package etcdapi

import (
	"context"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

// firstAuthRevision is what etcd counts changes of users and roles from.
const firstAuthRevision = 1

// authServer is the Auth service of a cluster that has no users and no roles: it
// answers as etcd does while there are none, and refuses to make any.
type authServer struct {
	pb.UnsafeAuthServer // a method that etcd adds is an error at compile time

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

// AuthDisable has nothing to do.
func (s *authServer) AuthDisable(ctx context.Context, _ *pb.AuthDisableRequest) (*pb.AuthDisableResponse, error) {
	if err := checkCaller(ctx, s.id); err != nil {
		return nil, err
	}
	resp := &pb.AuthDisableResponse{}
	fillHeader(s.id, &resp.Header)
	return resp, nil
}

// Authenticate has nobody to authenticate.
func (s *authServer) Authenticate(ctx context.Context, _ *pb.AuthenticateRequest) (*pb.AuthenticateResponse, error) {
	return nil, s.refuse(ctx, rpctypes.ErrGRPCAuthNotEnabled)
}

// AuthEnable is refused before anybody trusts in it.
func (s *authServer) AuthEnable(ctx context.Context, _ *pb.AuthEnableRequest) (*pb.AuthEnableResponse, error) {
	return nil, s.refuse(ctx, errNoAuth)
}

// UserAdd is refused.
func (s *authServer) UserAdd(ctx context.Context, r *pb.AuthUserAddRequest) (*pb.AuthUserAddResponse, error) {
	if r.Name == "" {
		return nil, s.refuse(ctx, rpctypes.ErrGRPCUserEmpty)
	}
	return nil, s.refuse(ctx, errNoAuth)
}

// UserList lists no users.
func (s *authServer) UserList(ctx context.Context, _ *pb.AuthUserListRequest) (*pb.AuthUserListResponse, error) {
	if err := checkCaller(ctx, s.id); err != nil {
		return nil, err
	}
	resp := &pb.AuthUserListResponse{}
	fillHeader(s.id, &resp.Header)
	return resp, nil
}

// UserGet finds no user.
func (s *authServer) UserGet(ctx context.Context, _ *pb.AuthUserGetRequest) (*pb.AuthUserGetResponse, error) {
	return nil, s.refuse(ctx, rpctypes.ErrGRPCUserNotFound)
}

// UserDelete finds no user.
func (s *authServer) UserDelete(ctx context.Context, _ *pb.AuthUserDeleteRequest) (*pb.AuthUserDeleteResponse, error) {
	return nil, s.refuse(ctx, rpctypes.ErrGRPCUserNotFound)
}

// UserChangePassword finds no user.
func (s *authServer) UserChangePassword(
	ctx context.Context, _ *pb.AuthUserChangePasswordRequest,
) (*pb.AuthUserChangePasswordResponse, error) {
	return nil, s.refuse(ctx, rpctypes.ErrGRPCUserNotFound)
}

// UserGrantRole finds no user.
func (s *authServer) UserGrantRole(ctx context.Context, _ *pb.AuthUserGrantRoleRequest) (*pb.AuthUserGrantRoleResponse, error) {
	return nil, s.refuse(ctx, rpctypes.ErrGRPCUserNotFound)
}

// UserRevokeRole finds no user.
func (s *authServer) UserRevokeRole(ctx context.Context, _ *pb.AuthUserRevokeRoleRequest) (*pb.AuthUserRevokeRoleResponse, error) {
	return nil, s.refuse(ctx, rpctypes.ErrGRPCUserNotFound)
}

// RoleAdd is refused.
func (s *authServer) RoleAdd(ctx context.Context, r *pb.AuthRoleAddRequest) (*pb.AuthRoleAddResponse, error) {
	if r.Name == "" {
		return nil, s.refuse(ctx, rpctypes.ErrGRPCRoleEmpty)
	}
	return nil, s.refuse(ctx, errNoAuth)
}

// RoleList lists no roles.
func (s *authServer) RoleList(ctx context.Context, _ *pb.AuthRoleListRequest) (*pb.AuthRoleListResponse, error) {
	if err := checkCaller(ctx, s.id); err != nil {
		return nil, err
	}
	resp := &pb.AuthRoleListResponse{}
	fillHeader(s.id, &resp.Header)
	return resp, nil
}

// RoleGet finds no role.
func (s *authServer) RoleGet(ctx context.Context, _ *pb.AuthRoleGetRequest) (*pb.AuthRoleGetResponse, error) {
	return nil, s.refuse(ctx, rpctypes.ErrGRPCRoleNotFound)
}

// RoleDelete finds no role.
func (s *authServer) RoleDelete(ctx context.Context, _ *pb.AuthRoleDeleteRequest) (*pb.AuthRoleDeleteResponse, error) {
	return nil, s.refuse(ctx, rpctypes.ErrGRPCRoleNotFound)
}

// RoleGrantPermission finds no role.
func (s *authServer) RoleGrantPermission(
	ctx context.Context, r *pb.AuthRoleGrantPermissionRequest,
) (*pb.AuthRoleGrantPermissionResponse, error) {
	if r.Perm == nil {
		return nil, s.refuse(ctx, rpctypes.ErrGRPCPermissionNotGiven)
	}
	return nil, s.refuse(ctx, rpctypes.ErrGRPCRoleNotFound)
}

// RoleRevokePermission finds no role.
func (s *authServer) RoleRevokePermission(
	ctx context.Context, _ *pb.AuthRoleRevokePermissionRequest,
) (*pb.AuthRoleRevokePermissionResponse, error) {
	return nil, s.refuse(ctx, rpctypes.ErrGRPCRoleNotFound)
}

// refuse returns what is wrong with the caller, else err.
func (s *authServer) refuse(ctx context.Context, err error) error {
	if fault := checkCaller(ctx, s.id); fault != nil {
		return fault
	}
	return err
}
