package model

import (
	"bytes"
	"cmp"
	"sort"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/protobuf/proto"
)

// rangeOf reads. The header carries the newest revision, whatever the
// revision that was asked for.
func (d *draft) rangeOf(r *pb.RangeRequest) (*pb.RangeResponse, error) {
	rev := r.Revision
	switch {
	case rev > d.now():
		return nil, rpctypes.ErrGRPCFutureRev
	case rev <= 0:
		rev = d.now()
	case rev < d.compacted:
		return nil, rpctypes.ErrGRPCCompacted
	}
	kvs := d.Live(r.Key, r.RangeEnd, rev)
	resp := &pb.RangeResponse{Header: header(d.now()), Count: int64(len(kvs))}
	if r.CountOnly {
		return resp, nil
	}
	// Without an order the limit binds before the sort: only the first limit+1
	// keys take part in it, even when it is by another target than the key.
	if r.SortOrder == pb.RangeRequest_NONE && !filtered(r) && r.Limit > 0 && int64(len(kvs)) > r.Limit {
		kvs = kvs[:r.Limit+1]
	}
	kvs = sorted(r, filter(r, kvs))
	if r.Limit > 0 && int64(len(kvs)) > r.Limit {
		kvs = kvs[:r.Limit]
		resp.More = true
	}
	for _, kv := range kvs {
		if r.KeysOnly {
			kv = proto.CloneOf(kv)
			kv.Value = nil
			if r.SortTarget != pb.RangeRequest_VALUE {
				kv.Lease = 0 // etcd's index, from which it answers, knows of no leases
			}
		}
		resp.Kvs = append(resp.Kvs, kv)
	}
	return resp, nil
}

func filtered(r *pb.RangeRequest) bool {
	return r.MinModRevision != 0 || r.MaxModRevision != 0 || r.MinCreateRevision != 0 || r.MaxCreateRevision != 0
}

// filter keeps the pairs inside the four inclusive bounds; 0 is no bound.
func filter(r *pb.RangeRequest, kvs []*mvccpb.KeyValue) []*mvccpb.KeyValue {
	var kept []*mvccpb.KeyValue
	for _, kv := range kvs {
		if r.MinModRevision != 0 && kv.ModRevision < r.MinModRevision ||
			r.MaxModRevision != 0 && kv.ModRevision > r.MaxModRevision ||
			r.MinCreateRevision != 0 && kv.CreateRevision < r.MinCreateRevision ||
			r.MaxCreateRevision != 0 && kv.CreateRevision > r.MaxCreateRevision {
			continue
		}
		kept = append(kept, kv)
	}
	return kept
}

// sorted orders by the target. Ties stay in key order here; etcd leaves their
// order open, and so does Equal.
func sorted(r *pb.RangeRequest, kvs []*mvccpb.KeyValue) []*mvccpb.KeyValue {
	sort.SliceStable(kvs, func(i, j int) bool {
		c := compareBy(r.SortTarget, kvs[i], kvs[j])
		if r.SortOrder == pb.RangeRequest_DESCEND {
			return c > 0
		}
		return c < 0
	})
	return kvs
}

// compareBy orders two pairs by a sort target.
func compareBy(target pb.RangeRequest_SortTarget, a, b *mvccpb.KeyValue) int {
	switch target {
	case pb.RangeRequest_VERSION:
		return cmp.Compare(a.Version, b.Version)
	case pb.RangeRequest_CREATE:
		return cmp.Compare(a.CreateRevision, b.CreateRevision)
	case pb.RangeRequest_MOD:
		return cmp.Compare(a.ModRevision, b.ModRevision)
	case pb.RangeRequest_VALUE:
		return bytes.Compare(a.Value, b.Value)
	default:
		return bytes.Compare(a.Key, b.Key)
	}
}
