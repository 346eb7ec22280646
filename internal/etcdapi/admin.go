package etcdapi

import (
	"context"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/flotilladb/flotilla/proto/adminpb"
)

// adminServer is the operators' service.
type adminServer struct {
	adminpb.UnsafeAdminServer

	admin Admin
}

// ListRanges returns every range in key order.
func (s *adminServer) ListRanges(ctx context.Context, _ *adminpb.ListRangesRequest) (*adminpb.ListRangesResponse, error) {
	resp, err := s.admin.ListRanges(ctx)
	if err != nil {
		return nil, toAdmin(err)
	}
	return resp, nil
}

// ShowRange returns one range, by its id or by a key that it holds.
func (s *adminServer) ShowRange(ctx context.Context, r *adminpb.ShowRangeRequest) (*adminpb.ShowRangeResponse, error) {
	if (r.RangeId == 0) == (len(r.Key) == 0) {
		return nil, status.Error(codes.InvalidArgument, "name a range by its id or by a key, not both")
	}
	info, err := s.admin.ShowRange(ctx, r)
	if err != nil {
		return nil, toAdmin(err)
	}
	return &adminpb.ShowRangeResponse{Range: info}, nil
}

// SplitRange cuts a range just before a key.
func (s *adminServer) SplitRange(ctx context.Context, r *adminpb.SplitRangeRequest) (*adminpb.SplitRangeResponse, error) {
	if len(r.Key) == 0 {
		return nil, status.Error(codes.InvalidArgument, "a range is split before a key: none was given")
	}
	resp, err := s.admin.SplitRange(ctx, r)
	if err != nil {
		return nil, toAdmin(err)
	}
	return resp, nil
}

// TransferLeader hands the leadership of a range to a store.
func (s *adminServer) TransferLeader(ctx context.Context, r *adminpb.TransferLeaderRequest) (*adminpb.TransferLeaderResponse, error) {
	if r.RangeId == 0 || r.ToStoreId == 0 {
		return nil, status.Error(codes.InvalidArgument, "name a range and a store by their ids")
	}
	resp, err := s.admin.TransferLeader(ctx, r)
	if err != nil {
		return nil, toAdmin(err)
	}
	return resp, nil
}

// MoveReplica changes which stores have replicas of a range.
func (s *adminServer) MoveReplica(ctx context.Context, r *adminpb.MoveReplicaRequest) (*adminpb.MoveReplicaResponse, error) {
	if r.RangeId == 0 || r.FromStoreId == 0 && r.ToStoreId == 0 || r.FromStoreId == r.ToStoreId {
		return nil, status.Error(codes.InvalidArgument, "name a range and one or two stores by their ids")
	}
	resp, err := s.admin.MoveReplica(ctx, r)
	if err != nil {
		return nil, toAdmin(err)
	}
	return resp, nil
}

// CheckRange has the replicas of a range compared.
func (s *adminServer) CheckRange(ctx context.Context, r *adminpb.CheckRangeRequest) (*adminpb.CheckRangeResponse, error) {
	if r.RangeId == 0 {
		return nil, status.Error(codes.InvalidArgument, "name a range by its id")
	}
	resp, err := s.admin.CheckRange(ctx, r)
	if err != nil {
		return nil, toAdmin(err)
	}
	return resp, nil
}

// TrustReplica has a replica of an undecided range in service again.
func (s *adminServer) TrustReplica(ctx context.Context, r *adminpb.TrustReplicaRequest) (*adminpb.TrustReplicaResponse, error) {
	if r.RangeId == 0 || r.StoreId == 0 {
		return nil, status.Error(codes.InvalidArgument, "name a range and a store by their ids")
	}
	resp, err := s.admin.TrustReplica(ctx, r)
	if err != nil {
		return nil, toAdmin(err)
	}
	return resp, nil
}

// ListStores returns the stores of the cluster, and what they allow it to write.
func (s *adminServer) ListStores(ctx context.Context, _ *adminpb.ListStoresRequest) (*adminpb.ListStoresResponse, error) {
	resp, err := s.admin.ListStores(ctx)
	if err != nil {
		return nil, toAdmin(err)
	}
	return resp, nil
}
