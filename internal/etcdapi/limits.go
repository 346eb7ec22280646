package etcdapi

import (
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
)

// etcd refuses a modifying request by the size of the log entry that it would
// write: the request as a field, and a header with a number of 64 bits. The
// same requests must be refused here, to the byte, though our entries differ.

// entryOverheadBytes is the header of such an entry: its tag (2), its length
// (1), and the request's number (1 + 9; in etcd the number begins with bits of
// the member's id, so that one member in two has 10).
const entryOverheadBytes = 13

// fieldBytesMax bounds what one operation takes beside its keys and values.
const fieldBytesMax = 128

// tooLarge reports whether etcd's entry for a request would exceed the limit.
// About is at least the request's size; only if that is too much, the exact
// size is worked out.
func tooLarge(m proto.Message, about, limit int) bool {
	if about+entryOverheadBytes <= limit {
		return false
	}
	return sizeNested(proto.Size(m))+entryOverheadBytes > limit
}

func aboutPut(r *pb.PutRequest) int { return len(r.Key) + len(r.Value) + fieldBytesMax }

func aboutDelete(r *pb.DeleteRangeRequest) int {
	return len(r.Key) + len(r.RangeEnd) + fieldBytesMax
}

func aboutTxn(r *pb.TxnRequest) int {
	n := fieldBytesMax
	for _, c := range r.Compare {
		n += len(c.Key) + len(c.RangeEnd) + len(c.GetValue()) + fieldBytesMax
	}
	for _, branch := range [2][]*pb.RequestOp{r.Success, r.Failure} {
		for _, op := range branch {
			switch op := op.GetRequest().(type) {
			case *pb.RequestOp_RequestRange:
				n += len(op.RequestRange.GetKey()) + len(op.RequestRange.GetRangeEnd()) + fieldBytesMax
			case *pb.RequestOp_RequestPut:
				n += aboutPut(op.RequestPut)
			case *pb.RequestOp_RequestDeleteRange:
				n += aboutDelete(op.RequestDeleteRange)
			case *pb.RequestOp_RequestTxn:
				n += aboutTxn(op.RequestTxn)
			}
		}
	}
	return n
}

// readOnly reports whether etcd would not log the transaction: nothing but
// ranges in both branches. A nested transaction counts as a write.
func readOnly(r *pb.TxnRequest) bool {
	for _, branch := range [2][]*pb.RequestOp{r.Success, r.Failure} {
		for _, op := range branch {
			if op.GetRequestRange() == nil {
				return false
			}
		}
	}
	return true
}

// kvOverheadBytes is what etcd reckons a version costs beside key and value.
const kvOverheadBytes = 256

// putCost is the space that a put needs, as etcd reckons it for the quota.
func putCost(r *pb.PutRequest) int64 {
	return int64(kvOverheadBytes + len(r.GetKey()) + len(r.GetValue()))
}

// txnCost is the space that the more costly branch needs; deletes are free, so
// that a full store can be emptied.
func txnCost(r *pb.TxnRequest) int64 {
	var costs [2]int64
	for i, branch := range [2][]*pb.RequestOp{r.GetSuccess(), r.GetFailure()} {
		for _, op := range branch {
			if put := op.GetRequestPut(); put != nil {
				costs[i] += putCost(put)
			} else if txn := op.GetRequestTxn(); txn != nil {
				costs[i] += txnCost(txn)
			}
		}
	}
	return max(costs[0], costs[1])
}
