package etcdapi

import (
	"context"
	"errors"
	"io"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/flotilladb/flotilla/internal/clock"
	"github.com/flotilladb/flotilla/lease"
)

// The life of a lease, over the wire.
func TestLeaseSession(t *testing.T) {
	n := newModelNode(t)
	_, conn := serve(t, n.config(t))
	leases, kv, ctx := pb.NewLeaseClient(conn), pb.NewKVClient(conn), t.Context()

	grant, err := leases.LeaseGrant(ctx, &pb.LeaseGrantRequest{TTL: -3, ID: -7})
	if err != nil || grant.ID != -7 || grant.TTL != 2 || grant.Header.MemberId != 7 || grant.Header.Revision != 1 {
		t.Fatalf("grant: %v, %v", grant, err)
	}
	for _, key := range []string{"b", "a"} {
		if _, err := kv.Put(ctx, &pb.PutRequest{Key: []byte(key), Lease: -7}); err != nil {
			t.Fatal(err)
		}
	}
	ttl, err := leases.LeaseTimeToLive(ctx, &pb.LeaseTimeToLiveRequest{ID: -7, Keys: true})
	if err != nil || ttl.TTL != 1 || ttl.GrantedTTL != 2 || len(ttl.Keys) != 2 || string(ttl.Keys[0]) != "a" || ttl.Header.Revision != 3 {
		t.Fatalf("time to live: %v, %v", ttl, err)
	}
	all, err := leases.LeaseLeases(ctx, &pb.LeaseLeasesRequest{})
	if err != nil || len(all.Leases) != 1 || all.Leases[0].ID != -7 || all.Header.Revision != 3 {
		t.Fatalf("leases: %v, %v", all, err)
	}
	if revoke, err := leases.LeaseRevoke(ctx, &pb.LeaseRevokeRequest{ID: -7}); err != nil || revoke.Header.Revision != 4 {
		t.Fatalf("revoke: %v, %v", revoke, err)
	}
	gone, err := leases.LeaseTimeToLive(ctx, &pb.LeaseTimeToLiveRequest{ID: -7, Keys: true})
	if err != nil || gone.ID != -7 || gone.TTL != -1 || gone.GrantedTTL != 0 || gone.Header.Revision != 4 {
		t.Fatalf("time to live of a lease that is not: %v, %v", gone, err)
	}
}

// Of two faults the first in etcd's order counts.
func TestLeaseRefusals(t *testing.T) {
	n := newModelNode(t)
	n.leases[5] = 60
	_, conn := serve(t, n.config(t))
	leases := pb.NewLeaseClient(conn)
	grant := func(r *pb.LeaseGrantRequest) func(context.Context) error {
		return func(ctx context.Context) error { _, err := leases.LeaseGrant(ctx, r); return err }
	}
	revoke := func(ctx context.Context) error {
		_, err := leases.LeaseRevoke(ctx, &pb.LeaseRevokeRequest{ID: 6})
		return err
	}
	noSpace := []*pb.AlarmMember{{MemberID: 7, Alarm: pb.AlarmType_NOSPACE}}
	corrupt := []*pb.AlarmMember{{MemberID: 7, Alarm: pb.AlarmType_CORRUPT}}
	for _, tc := range []struct {
		name   string
		do     func(context.Context) error
		full   bool
		alarms []*pb.AlarmMember
		leader uint64
		want   error
	}{
		{"in use", grant(&pb.LeaseGrantRequest{ID: 5, TTL: 9}), false, nil, 7, rpctypes.ErrGRPCLeaseExist},
		{"too long", grant(&pb.LeaseGrantRequest{ID: 5, TTL: 9_000_000_001}), false, nil, 7, rpctypes.ErrGRPCLeaseTTLTooLarge},
		{"full", grant(&pb.LeaseGrantRequest{ID: 5}), true, nil, 7, rpctypes.ErrGRPCNoSpace},
		{"full of old", grant(&pb.LeaseGrantRequest{ID: 5}), false, noSpace, 7, rpctypes.ErrGRPCNoSpace},
		{"full, then corrupt", grant(&pb.LeaseGrantRequest{ID: 5}), true, corrupt, 7, rpctypes.ErrGRPCNoSpace},
		{"corrupt", grant(&pb.LeaseGrantRequest{ID: 5}), false, append(noSpace, corrupt...), 7, rpctypes.ErrGRPCCorrupt},
		{"no leader", grant(&pb.LeaseGrantRequest{ID: 5}), true, nil, 0, rpctypes.ErrGRPCNoLeader},
		{"revoke of none", revoke, false, nil, 7, rpctypes.ErrGRPCLeaseNotFound},
		{"a revoke needs no space", revoke, true, noSpace, 7, rpctypes.ErrGRPCLeaseNotFound},
		{"revoke of corrupt", revoke, false, corrupt, 7, rpctypes.ErrGRPCCorrupt},
	} {
		n.fakeNode.full, n.fakeNode.alarms, n.fakeNode.leader = tc.full, tc.alarms, tc.leader
		ctx := metadata.AppendToOutgoingContext(t.Context(), rpctypes.MetadataRequireLeaderKey, rpctypes.MetadataHasLeader)
		if err := tc.do(ctx); !sameStatus(err, tc.want) {
			t.Errorf("%s: %v, want %v", tc.name, err, tc.want)
		}
	}
}

// renewals answers from a table, and changes the revision while it does.
type renewals struct {
	*modelNode
	ttls map[int64]error
}

func (r *renewals) LeaseRenew(ctx context.Context, id int64, _ clock.Time) (int64, error) {
	if _, err := r.Put(ctx, &pb.PutRequest{Key: []byte("k")}); err != nil {
		return 0, err
	}
	return 60, r.ttls[id]
}

func TestLeaseKeepAlive(t *testing.T) {
	n := newModelNode(t)
	cfg := n.config(t)
	cfg.Leases = &renewals{n, map[int64]error{2: lease.ErrNotFound, 3: lease.ErrExpired, 4: errors.New("odd")}}
	_, conn := serve(t, cfg)
	stream, err := pb.NewLeaseClient(conn).LeaseKeepAlive(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ids := []int64{1, 2, 3, -9, 0}
	for _, id := range ids { // as many as one likes before the first answer
		if err := stream.Send(&pb.LeaseKeepAliveRequest{ID: id}); err != nil {
			t.Fatal(err)
		}
	}
	for i, id := range ids {
		resp, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		ttl := int64(60)
		if id == 2 || id == 3 {
			ttl = 0
		}
		// The header is older than the renewal.
		if resp.ID != id || resp.TTL != ttl || resp.Header.Revision != int64(1+i) || resp.Header.ClusterId != 11 {
			t.Errorf("renewal of %d: %v", id, resp)
		}
	}
	if err := stream.Send(&pb.LeaseKeepAliveRequest{ID: 4}); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); status.Code(err) != codes.Unknown || status.Convert(err).Message() != "odd" {
		t.Fatalf("a renewal that failed: %v", err)
	}
}

// renewStream is asked to renew, in bytes, as long as it is wanted.
type renewStream struct {
	pb.Lease_LeaseKeepAliveServer
	ctx   context.Context
	codec codecLike
	wire  []byte
	left  int
}

type codecLike interface {
	Marshal(any) (mem.BufferSlice, error)
	Unmarshal(mem.BufferSlice, any) error
}

func (s *renewStream) Context() context.Context { return s.ctx }

func (s *renewStream) RecvMsg(m any) error {
	if s.left--; s.left < 0 {
		return io.EOF
	}
	return s.codec.Unmarshal(mem.BufferSlice{mem.SliceBuffer(s.wire)}, m)
}

func (s *renewStream) SendMsg(m any) error {
	out, err := s.codec.Marshal(m)
	out.Free()
	return err
}

type alwaysRenewed struct{ Leases }

func (alwaysRenewed) LeaseRenew(context.Context, int64, clock.Time) (int64, error) { return 60, nil }

// BenchmarkKeepAlive is what a renewal costs between gRPC and the leases.
func BenchmarkKeepAlive(b *testing.B) {
	f, c := newFakeNode(), newCodec()
	s := &leaseServer{leases: alwaysRenewed{}, id: f, alarms: f, draining: b.Context()}
	for name, codec := range map[string]codecLike{"ours": c, "protobuf": c.rare} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			wire := mustMarshal(b, &pb.LeaseKeepAliveRequest{ID: 1 << 60})
			if err := s.LeaseKeepAlive(&renewStream{ctx: b.Context(), codec: codec, wire: wire, left: b.N}); err != nil {
				b.Fatal(err)
			}
		})
	}
}
