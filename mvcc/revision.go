package mvcc

import (
	"math"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"

	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/txnpb"
)

// Revision is the logical time of a write.
type Revision = metapb.Revision

const (
	// OpenRevision is the first revision that is not known yet: the i-th change
	// of a batch (counted from 0) is evaluated at OpenRevision+i. It is above
	// every revision that a cluster can reach.
	OpenRevision Revision = 1 << 62
	// Latest, as the revision of a read, means the newest state.
	Latest Revision = math.MaxInt64
)

// IsOpen reports whether a revision is still to be filled in. The header of a
// request before the first change of a batch is open as well.
func IsOpen(rev Revision) bool { return rev >= OpenRevision-1 }

// Fill returns the known revision for one that may be open, given the revision
// that the batch's first change got.
func Fill(rev, first Revision) Revision {
	if IsOpen(rev) {
		return first + (rev - OpenRevision)
	}
	return rev
}

// FillMutations fills open create revisions in. first is the revision of the
// batch's first change. Doing it twice does no harm.
func FillMutations(muts []*txnpb.Mutation, first Revision) {
	for _, m := range muts {
		fill(&m.CreateRevision, first)
	}
}

// FillResponse fills the open revisions of a response of Evaluate in: in its
// headers and in its keys. Constants that the client sent are not in responses,
// and lease ids, which may be as high, are left alone.
func FillResponse(resp proto.Message, first Revision) {
	switch r := resp.(type) {
	case *pb.PutResponse:
		fillHeader(r.Header, first)
		fillKV(r.PrevKv, first)
	case *pb.DeleteRangeResponse:
		fillHeader(r.Header, first)
		fillKVs(r.PrevKvs, first)
	case *pb.RangeResponse:
		fillHeader(r.Header, first)
		fillKVs(r.Kvs, first)
	case *pb.TxnResponse:
		fillTxnResponse(r, first)
	}
}

func fillTxnResponse(r *pb.TxnResponse, first Revision) {
	fillHeader(r.Header, first)
	for _, op := range r.Responses {
		switch o := op.Response.(type) {
		case *pb.ResponseOp_ResponsePut:
			FillResponse(o.ResponsePut, first)
		case *pb.ResponseOp_ResponseDeleteRange:
			FillResponse(o.ResponseDeleteRange, first)
		case *pb.ResponseOp_ResponseRange:
			FillResponse(o.ResponseRange, first)
		case *pb.ResponseOp_ResponseTxn:
			fillTxnResponse(o.ResponseTxn, first)
		}
	}
}

func fillHeader(h *pb.ResponseHeader, first Revision) {
	if h != nil {
		fill(&h.Revision, first)
	}
}

func fillKVs(kvs []*mvccpb.KeyValue, first Revision) {
	for _, kv := range kvs {
		fillKV(kv, first)
	}
}

func fillKV(kv *mvccpb.KeyValue, first Revision) {
	if kv != nil {
		fill(&kv.CreateRevision, first)
		fill(&kv.ModRevision, first)
	}
}

func fill(rev *int64, first Revision) { *rev = int64(Fill(Revision(*rev), first)) }
