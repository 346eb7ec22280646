package etcdapi

import (
	"context"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/flotilladb/flotilla/internal/clock"
	"github.com/flotilladb/flotilla/proto/adminpb"
	"github.com/flotilladb/flotilla/watchfeed"
)

// KV executes requests whose shape has been checked. Errors are those of
// packages mvcc, peerpb and placement, or the context's. A response's header
// carries its revision, or 0 for the current one; this package fills the rest.
type KV interface {
	Range(context.Context, *pb.RangeRequest) (*pb.RangeResponse, error)
	// RangeStream hands over the answer in pieces: all but the last have only
	// rows, the last has header, count and more. What send returns ends it.
	RangeStream(ctx context.Context, r *pb.RangeRequest, send func(*pb.RangeResponse) error) error
	Put(context.Context, *pb.PutRequest) (*pb.PutResponse, error)
	DeleteRange(context.Context, *pb.DeleteRangeRequest) (*pb.DeleteRangeResponse, error)
	Txn(context.Context, *pb.TxnRequest) (*pb.TxnResponse, error)
	Compact(context.Context, *pb.CompactionRequest) (*pb.CompactionResponse, error)
}

// WatchStream is what the hub keeps for one client's stream of watches. After
// Close, or when the hub ends, Create fails and Cancel and RequestProgress do
// nothing. None but Recv waits.
type WatchStream interface {
	// Create is answered by a Created, in the order of the calls.
	Create(watchfeed.CreateRequest) error
	// Cancel is answered by a Canceled, unless the watch ended before.
	Cancel(id int64)
	// RequestProgress may be answered once for several calls, or not at all.
	RequestProgress()
	// Recv waits for something to send and returns all there is, in the order to
	// send it in. The memory of buf may be used again.
	Recv(ctx context.Context, buf []watchfeed.Response) ([]watchfeed.Response, error)
	Close()
}

// Leases keeps clients' leases. Errors are those of package lease and of KV;
// headers are as KV's.
type Leases interface {
	// LeaseGrant chooses the id if it is 0, and raises a TTL that is too short.
	LeaseGrant(context.Context, *pb.LeaseGrantRequest) (*pb.LeaseGrantResponse, error)
	LeaseRevoke(context.Context, *pb.LeaseRevokeRequest) (*pb.LeaseRevokeResponse, error)
	// LeaseRenew returns the lease's full TTL in seconds. It lives from at on, when
	// the request had arrived; 0: now.
	LeaseRenew(ctx context.Context, id int64, at clock.Time) (ttl int64, err error)
	LeaseTimeToLive(context.Context, *pb.LeaseTimeToLiveRequest) (*pb.LeaseTimeToLiveResponse, error)
	LeaseLeases(context.Context, *pb.LeaseLeasesRequest) (*pb.LeaseLeasesResponse, error)
}

// Identity is who answers, as headers show it.
type Identity interface {
	// IDs returns the cluster's and the node's id; they never change.
	IDs() (cluster, member uint64)
	// Term returns a raft term that never goes down.
	Term() uint64
	// Revision returns the current revision.
	Revision() int64
	// Leader returns the id of the node that leads the system range, 0 if none
	// is known.
	Leader() uint64
}

// Maintenance answers operators' questions about this node.
type Maintenance interface {
	// Status fills DbSize, DbSizeInUse, DbSizeQuota, RaftIndex,
	// RaftAppliedIndex, StorageVersion and IsLearner.
	Status(context.Context) (*pb.StatusResponse, error)
	HashKV(context.Context, *pb.HashKVRequest) (*pb.HashKVResponse, error)
	// MoveLeader returns when the node leads the system range, or peerpb.ErrBadTransfer.
	MoveLeader(ctx context.Context, node uint64) error
}

// Alarms is what was raised in the cluster.
type Alarms interface {
	Alarm(context.Context, *pb.AlarmRequest) (*pb.AlarmResponse, error)
	// Alarms returns what this node knows to be raised, without asking anybody.
	Alarms() []*pb.AlarmMember
}

// Cluster lists the nodes and changes who they are.
type Cluster interface {
	Members(ctx context.Context, linearizable bool) ([]*pb.Member, error)
	// ChangeMember adds a node that is to come from peerURLs (id 0), removes one, or
	// changes its URLs. It returns the member, nil if it was removed, and all others
	// with it.
	ChangeMember(ctx context.Context, id uint64, remove bool, peerURLs []string) (*pb.Member, []*pb.Member, error)
}

// Quota says when the store is full.
type Quota interface {
	// Available reports whether a write that costs about so many bytes fits.
	Available(costBytes int64) bool
}

// Admin shows ranges, splits them and moves their leaders. A range that does not exist is
// peerpb.ErrRangeNotFound.
type Admin interface {
	// ListRanges returns those of this node alone where the others cannot be learned.
	ListRanges(context.Context) (*adminpb.ListRangesResponse, error)
	ShowRange(context.Context, *adminpb.ShowRangeRequest) (*adminpb.RangeInfo, error)
	SplitRange(context.Context, *adminpb.SplitRangeRequest) (*adminpb.SplitRangeResponse, error)
	// TransferLeader returns when the store leads, or peerpb.ErrBadTransfer.
	TransferLeader(context.Context, *adminpb.TransferLeaderRequest) (*adminpb.TransferLeaderResponse, error)
	// MoveReplica returns when the replica has moved.
	MoveReplica(context.Context, *adminpb.MoveReplicaRequest) (*adminpb.MoveReplicaResponse, error)
	// CheckRange returns when the replicas were compared.
	CheckRange(context.Context, *adminpb.CheckRangeRequest) (*adminpb.CheckRangeResponse, error)
	// TrustReplica returns when the replica is in service again.
	TrustReplica(context.Context, *adminpb.TrustReplicaRequest) (*adminpb.TrustReplicaResponse, error)
	// ListStores says who is in the cluster, and what each reads.
	ListStores(context.Context) (*adminpb.ListStoresResponse, error)
}
