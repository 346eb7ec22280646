package model

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
)

// Equal compares two answers to one request and returns an empty string if a
// client must not be able to tell them apart, else what differs. Cluster id,
// member id and raft term do not count. Neither does the order of rows that a
// sort leaves open, nor which of the rows that tie at the limit were returned.
// Of leases, an id that the server chose, the order of lists and how much time is
// left do not count.
func Equal(req any, a, b proto.Message, errA, errB error) string {
	if errA != nil || errB != nil {
		sa, sb := status.Convert(errA), status.Convert(errB)
		if sa.Code() != sb.Code() || sa.Message() != sb.Message() {
			return fmt.Sprintf("errors differ: %s %q, %s %q", sa.Code(), sa.Message(), sb.Code(), sb.Message())
		}
		return ""
	}
	ca, cb := canonical(req, a), canonical(req, b)
	if proto.Equal(ca, cb) {
		return ""
	}
	return fmt.Sprintf("answers differ:\n  %s\n  %s", prototext.MarshalOptions{}.Format(ca), prototext.MarshalOptions{}.Format(cb))
}

// canonical is a copy of an answer without what does not count.
func canonical(req any, resp proto.Message) proto.Message {
	resp = proto.Clone(resp)
	if h, ok := resp.(interface{ GetHeader() *pb.ResponseHeader }); ok && h.GetHeader() != nil {
		h.GetHeader().ClusterId = 0
		h.GetHeader().MemberId = 0
		h.GetHeader().RaftTerm = 0
	}
	switch r := req.(type) {
	case *pb.RangeRequest:
		settleTies(r, resp.(*pb.RangeResponse))
	case Stream:
		settleTies(r.Range, resp.(*pb.RangeResponse))
	case *pb.TxnRequest:
		settleTxn(r, resp.(*pb.TxnResponse))
	case *pb.LeaseGrantRequest:
		if g := resp.(*pb.LeaseGrantResponse); r.ID == 0 && g.ID > 0 {
			g.ID = 0
		}
	case *pb.LeaseTimeToLiveRequest:
		t := resp.(*pb.LeaseTimeToLiveResponse)
		if t.TTL >= 0 && t.TTL <= t.GrantedTTL {
			t.TTL = 0
		}
		slices.SortFunc(t.Keys, bytes.Compare)
	case *pb.LeaseLeasesRequest:
		slices.SortFunc(resp.(*pb.LeaseLeasesResponse).Leases, func(x, y *pb.LeaseStatus) int { return cmp.Compare(x.ID, y.ID) })
	}
	return resp
}

func settleTxn(req *pb.TxnRequest, resp *pb.TxnResponse) {
	ops := req.Failure
	if resp.Succeeded {
		ops = req.Success
	}
	for i, op := range ops {
		if i >= len(resp.Responses) {
			return
		}
		if r := op.GetRequestRange(); r != nil && resp.Responses[i].GetResponseRange() != nil {
			settleTies(r, resp.Responses[i].GetResponseRange())
		}
		if r := op.GetRequestTxn(); r != nil && resp.Responses[i].GetResponseTxn() != nil {
			settleTxn(r, resp.Responses[i].GetResponseTxn())
		}
	}
}

// settleTies puts rows that tie in key order. If rows are missing, of the last
// tie only the number and the value of the sort target are kept.
func settleTies(req *pb.RangeRequest, resp *pb.RangeResponse) {
	if req.SortTarget == pb.RangeRequest_KEY {
		return
	}
	kvs := resp.Kvs
	for from := 0; from < len(kvs); {
		to := from + 1
		for to < len(kvs) && tie(req, kvs[from], kvs[to]) {
			to++
		}
		group := kvs[from:to]
		slices.SortFunc(group, func(x, y *mvccpb.KeyValue) int { return cmp.Compare(string(x.Key), string(y.Key)) })
		if to == len(kvs) && resp.More {
			for i, kv := range group {
				group[i] = targetOnly(req.SortTarget, kv)
			}
		}
		from = to
	}
}

// tie reports whether the sort leaves the order of two rows open. When values
// were sorted by and then left out, any two rows may have tied.
func tie(req *pb.RangeRequest, a, b *mvccpb.KeyValue) bool {
	if req.KeysOnly && req.SortTarget == pb.RangeRequest_VALUE {
		return true
	}
	return compareBy(req.SortTarget, a, b) == 0
}

func targetOnly(target pb.RangeRequest_SortTarget, kv *mvccpb.KeyValue) *mvccpb.KeyValue {
	switch target {
	case pb.RangeRequest_VERSION:
		return &mvccpb.KeyValue{Version: kv.Version}
	case pb.RangeRequest_CREATE:
		return &mvccpb.KeyValue{CreateRevision: kv.CreateRevision}
	case pb.RangeRequest_MOD:
		return &mvccpb.KeyValue{ModRevision: kv.ModRevision}
	default:
		return &mvccpb.KeyValue{Value: kv.Value}
	}
}
