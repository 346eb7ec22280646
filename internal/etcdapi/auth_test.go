package etcdapi

import (
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/status"
)

// There are no users and no roles, and who asks for them hears what etcd says when it has
// none. Only what would make some is not there.
func TestAuthWithoutUsers(t *testing.T) {
	_, conn := serve(t, testConfig(t, newFakeNode()))
	auth := pb.NewAuthClient(conn)
	ctx := t.Context()
	_, get := auth.UserGet(ctx, &pb.AuthUserGetRequest{Name: "u"})
	_, remove := auth.UserDelete(ctx, &pb.AuthUserDeleteRequest{Name: "u"})
	_, password := auth.UserChangePassword(ctx, &pb.AuthUserChangePasswordRequest{Name: "u"})
	_, grant := auth.UserGrantRole(ctx, &pb.AuthUserGrantRoleRequest{User: "u", Role: "r"})
	_, revoke := auth.UserRevokeRole(ctx, &pb.AuthUserRevokeRoleRequest{Name: "u", Role: "r"})
	_, role := auth.RoleGet(ctx, &pb.AuthRoleGetRequest{Role: "r"})
	_, removeRole := auth.RoleDelete(ctx, &pb.AuthRoleDeleteRequest{Role: "r"})
	_, permit := auth.RoleGrantPermission(ctx, &pb.AuthRoleGrantPermissionRequest{Name: "r"})
	_, forbid := auth.RoleRevokePermission(ctx, &pb.AuthRoleRevokePermissionRequest{Role: "r"})
	_, nobody := auth.UserAdd(ctx, &pb.AuthUserAddRequest{})
	_, nothing := auth.RoleAdd(ctx, &pb.AuthRoleAddRequest{})
	_, add := auth.UserAdd(ctx, &pb.AuthUserAddRequest{Name: "u", Password: "p"})
	_, addRole := auth.RoleAdd(ctx, &pb.AuthRoleAddRequest{Name: "r"})
	_, enable := auth.AuthEnable(ctx, &pb.AuthEnableRequest{})
	_, login := auth.Authenticate(ctx, &pb.AuthenticateRequest{Name: "u", Password: "p"})
	for name, c := range map[string]struct{ got, want error }{
		"get user":          {get, rpctypes.ErrGRPCUserNotFound},
		"delete user":       {remove, rpctypes.ErrGRPCUserNotFound},
		"change password":   {password, rpctypes.ErrGRPCUserNotFound},
		"grant role":        {grant, rpctypes.ErrGRPCUserNotFound},
		"revoke role":       {revoke, rpctypes.ErrGRPCUserNotFound},
		"get role":          {role, rpctypes.ErrGRPCRoleNotFound},
		"delete role":       {removeRole, rpctypes.ErrGRPCRoleNotFound},
		"grant permission":  {permit, rpctypes.ErrGRPCPermissionNotGiven},
		"revoke permission": {forbid, rpctypes.ErrGRPCRoleNotFound},
		"add nobody":        {nobody, rpctypes.ErrGRPCUserEmpty},
		"add no role":       {nothing, rpctypes.ErrGRPCRoleEmpty},
		"add user":          {add, errNoAuth},
		"add role":          {addRole, errNoAuth},
		"enable":            {enable, errNoAuth},
		"authenticate":      {login, rpctypes.ErrGRPCAuthNotEnabled},
	} {
		got, want := status.Convert(c.got), status.Convert(c.want)
		if got.Code() != want.Code() || got.Message() != want.Message() {
			t.Errorf("%s: %v, want %v", name, c.got, c.want)
		}
	}
	users, err := auth.UserList(ctx, &pb.AuthUserListRequest{})
	if err != nil || len(users.Users) != 0 || users.Header.GetRevision() == 0 {
		t.Errorf("users: %v, %v", users, err)
	}
	roles, err := auth.RoleList(ctx, &pb.AuthRoleListRequest{})
	if err != nil || len(roles.Roles) != 0 || roles.Header.GetRevision() == 0 {
		t.Errorf("roles: %v, %v", roles, err)
	}
	off, err := auth.AuthDisable(ctx, &pb.AuthDisableRequest{})
	if err != nil || off.Header.GetRevision() == 0 {
		t.Errorf("disable: %v, %v", off, err)
	}
}
