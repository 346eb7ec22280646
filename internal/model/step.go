package model

import (
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/protobuf/proto"
)

// Stream asks for a range by RangeStream. Its answer is the one range response
// that the chunks merge into.
type Stream struct {
	Range *pb.RangeRequest
}

// Step executes one request and returns the state after it. The request is one
// of *pb.RangeRequest, Stream, *pb.PutRequest, *pb.DeleteRangeRequest,
// *pb.TxnRequest and *pb.CompactionRequest, of the requests about leases, or
// Expire, whose answer is that of a revoke. The answer is of the matching type,
// its header holding nothing but the revision. With an error the state is the
// one before. Step panics on any other type.
func Step(s *State, req any) (*State, proto.Message, error) {
	if err := s.check(req); err != nil {
		return s, nil, err
	}
	d := s.begin()
	resp, err := d.execute(req)
	if err != nil {
		return s, nil, err
	}
	return d.end(), resp, nil
}

func (d *draft) execute(req any) (resp proto.Message, err error) {
	switch r := req.(type) {
	case *pb.RangeRequest:
		resp, err = d.rangeOf(r)
	case Stream:
		resp, err = d.rangeOf(r.Range)
	case *pb.PutRequest:
		if err = d.checkPut(r); err == nil {
			resp = d.put(r)
		}
	case *pb.DeleteRangeRequest:
		resp = d.deleteRange(r)
	case *pb.TxnRequest:
		resp, err = d.txn(r)
	case *pb.CompactionRequest:
		resp, err = d.compact(r)
	case *pb.LeaseGrantRequest:
		resp, err = d.grant(r)
	case *pb.LeaseRevokeRequest:
		resp, err = d.endLease(r.ID)
	case Expire:
		resp, err = d.endLease(r.ID)
	case *pb.LeaseKeepAliveRequest:
		resp = d.keepAlive(r)
	case *pb.LeaseTimeToLiveRequest:
		resp = d.timeToLive(r)
	case *pb.LeaseLeasesRequest:
		resp = d.listLeases()
	}
	return resp, err
}

func header(rev int64) *pb.ResponseHeader { return &pb.ResponseHeader{Revision: rev} }

// checkPut refuses a put before anything is written.
func (d *draft) checkPut(r *pb.PutRequest) error {
	if _, known := d.findLease(r.Lease); r.Lease != 0 && !known {
		return rpctypes.ErrGRPCLeaseNotFound
	}
	if (r.IgnoreValue || r.IgnoreLease) && d.get(r.Key) == nil {
		return rpctypes.ErrGRPCKeyNotFound
	}
	return nil
}

func (d *draft) get(key []byte) *mvccpb.KeyValue {
	if kvs := d.Live(key, nil, d.now()); len(kvs) > 0 {
		return kvs[0]
	}
	return nil
}

// put writes one key, and moves it to the put's lease, which may be none.
func (d *draft) put(r *pb.PutRequest) *pb.PutResponse {
	prev := d.get(r.Key)
	kv := &mvccpb.KeyValue{
		Key:            r.Key,
		Value:          r.Value,
		CreateRevision: d.revision + 1,
		ModRevision:    d.revision + 1,
		Version:        1,
		Lease:          leaseOf(r, prev),
	}
	resp := &pb.PutResponse{Header: header(d.revision + 1)}
	if prev != nil {
		kv.CreateRevision = prev.CreateRevision
		kv.Version = prev.Version + 1
		if r.IgnoreValue {
			kv.Value = prev.Value
		}
		if r.PrevKv {
			resp.PrevKv = prev
		}
	}
	d.write(r.Key, kv)
	return resp
}

// deleteRange deletes in key order, which is the order of sub-revisions.
func (d *draft) deleteRange(r *pb.DeleteRangeRequest) *pb.DeleteRangeResponse {
	found := d.Live(r.Key, r.RangeEnd, d.now())
	resp := &pb.DeleteRangeResponse{Deleted: int64(len(found))}
	for _, kv := range found {
		d.write(kv.Key, nil)
		if r.PrevKv {
			resp.PrevKvs = append(resp.PrevKvs, kv)
		}
	}
	resp.Header = header(d.now())
	return resp
}

// compact forgets what no read at or above the revision can see.
func (d *draft) compact(r *pb.CompactionRequest) (*pb.CompactionResponse, error) {
	if r.Revision <= d.compacted {
		return nil, rpctypes.ErrGRPCCompacted
	}
	if r.Revision > d.revision {
		return nil, rpctypes.ErrGRPCFutureRev
	}
	d.compacted = r.Revision
	var keys []*history
	for _, h := range d.keys {
		if rest := h.since(r.Revision); len(rest) > 0 {
			keys = append(keys, &history{key: h.key, versions: rest})
		}
	}
	d.keys = keys
	return &pb.CompactionResponse{Header: header(d.revision)}, nil
}

// since returns the versions that reads and watches from rev on can see. A
// deletion at rev itself is kept: a watch may begin there.
func (h *history) since(rev int64) []version {
	first := 0
	for i, v := range h.versions {
		if v.main > rev {
			break
		}
		first = i
		if v.kv == nil && v.main < rev {
			first = i + 1 // a deletion is only the absence of what it deleted
		}
	}
	return h.versions[first:]
}
