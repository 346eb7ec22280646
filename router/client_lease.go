package router

import (
	"context"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// LeaseGrant makes a lease. An id of 0 is replaced by one that is not in use, a
// TTL below the least by that.
func (c *Client) LeaseGrant(ctx context.Context, req *pb.LeaseGrantRequest) (*pb.LeaseGrantResponse, error) {
	resp, err := do[*pb.LeaseGrantResponse](c, ctx, req)
	if err != nil {
		return nil, err
	}
	resp.Header, err = c.doneHeader(ctx)
	return resp, err
}

// LeaseRevoke ends a lease and deletes its keys, at one revision. Errors are as
// Put's.
func (c *Client) LeaseRevoke(ctx context.Context, req *pb.LeaseRevokeRequest) (*pb.LeaseRevokeResponse, error) {
	done, err := do[*pb.DeleteRangeResponse](c, ctx, &RevokeRequest{ID: req.ID})
	if err != nil {
		return nil, err
	}
	resp := &pb.LeaseRevokeResponse{Header: done.Header}
	if done.Header.Revision == 0 { // it had no keys
		resp.Header, err = c.doneHeader(ctx)
	}
	return resp, err
}

// LeaseRenew renews a lease and returns its TTL as granted.
func (c *Client) LeaseRenew(ctx context.Context, id int64) (ttl int64, err error) {
	return do[int64](c, ctx, &RenewRequest{ID: id})
}

// LeaseTimeToLive says what remains of a lease, and which keys it has.
func (c *Client) LeaseTimeToLive(ctx context.Context, req *pb.LeaseTimeToLiveRequest) (*pb.LeaseTimeToLiveResponse, error) {
	resp, err := do[*pb.LeaseTimeToLiveResponse](c, ctx, req)
	if err == nil {
		resp.Header, err = c.currentHeader(ctx)
	}
	return resp, err
}

// LeaseLeases lists all leases.
func (c *Client) LeaseLeases(ctx context.Context, req *pb.LeaseLeasesRequest) (*pb.LeaseLeasesResponse, error) {
	resp, err := do[*pb.LeaseLeasesResponse](c, ctx, req)
	if err == nil {
		resp.Header, err = c.currentHeader(ctx)
	}
	return resp, err
}

// currentHeader is the header of what took no revision.
func (c *Client) currentHeader(ctx context.Context) (*pb.ResponseHeader, error) {
	current, _, err := c.current(ctx, nil, 0)
	return &pb.ResponseHeader{Revision: int64(current)}, err
}

// doneHeader is currentHeader of what is done. If there is none, whatever the
// reason, the client must not be told that nothing was done.
func (c *Client) doneHeader(ctx context.Context) (*pb.ResponseHeader, error) {
	h, err := c.currentHeader(ctx)
	if err != nil {
		return nil, ErrTimeout
	}
	return h, nil
}
