package mvcc

import (
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
)

// Puts reports whether a request may put a key, in any branch: such requests are
// refused when there is no space, while deletes go on.
func Puts(req proto.Message) bool {
	switch r := req.(type) {
	case *pb.PutRequest:
		return true
	case *pb.TxnRequest:
		return opsPut(r.Success) || opsPut(r.Failure)
	}
	return false
}

func opsPut(ops []*pb.RequestOp) bool {
	for _, op := range ops {
		if op.GetRequestPut() != nil {
			return true
		}
		if t := op.GetRequestTxn(); t != nil && Puts(t) {
			return true
		}
	}
	return false
}
