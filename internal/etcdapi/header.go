package etcdapi

import (
	"context"
	"unicode/utf8"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/metadata"
)

// fillHeader says who answers. A revision of 0 becomes the current one.
func fillHeader(id Identity, h **pb.ResponseHeader) {
	fillHeaderAt(id, h)
	if (*h).Revision == 0 {
		(*h).Revision = id.Revision()
	}
}

// fillHeaderAt is fillHeader that leaves the revision alone.
func fillHeaderAt(id Identity, h **pb.ResponseHeader) {
	if *h == nil {
		*h = &pb.ResponseHeader{}
	}
	(*h).ClusterId, (*h).MemberId = id.IDs()
	(*h).RaftTerm = id.Term()
}

// checkCaller looks at what a client says beside its request: what version it
// is, and whether it wants an answer only while there is a leader.
func checkCaller(ctx context.Context, id Identity) error {
	if v := metadata.ValueFromIncomingContext(ctx, rpctypes.MetadataClientAPIVersionKey); len(v) > 0 && !utf8.ValidString(v[0]) {
		return rpctypes.ErrGRPCInvalidClientAPIVersion
	}
	// Looked up only when it matters: with a leader any answer is right.
	if id.Leader() == 0 && wantsLeader(ctx) {
		return rpctypes.ErrGRPCNoLeader
	}
	return nil
}
