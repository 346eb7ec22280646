package model

import (
	"bytes"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// check is what a server refuses before it looks at its data, in etcd's order:
// a request with two faults gets the first one's error.
func (s *State) check(req any) error {
	switch r := req.(type) {
	case *pb.RangeRequest:
		return checkRange(r)
	case Stream:
		return checkStream(r.Range)
	case *pb.PutRequest:
		if err := checkPutShape(r); err != nil {
			return err
		}
		return s.checkSize(r)
	case *pb.DeleteRangeRequest:
		if len(r.Key) == 0 {
			return rpctypes.ErrGRPCEmptyKey
		}
		return s.checkSize(r)
	case *pb.TxnRequest:
		return s.checkTxn(r)
	case *pb.CompactionRequest, Expire, *pb.LeaseGrantRequest, *pb.LeaseRevokeRequest,
		*pb.LeaseKeepAliveRequest, *pb.LeaseTimeToLiveRequest, *pb.LeaseLeasesRequest:
		return nil
	default:
		panic("model: no request of the KV or Lease service")
	}
}

// checkSize leaves out the few bytes of a server's own wrapping.
func (s *State) checkSize(m proto.Message) error {
	if proto.Size(m) > s.limits.RequestBytesMax {
		return rpctypes.ErrGRPCRequestTooLarge
	}
	return nil
}

func checkRange(r *pb.RangeRequest) error {
	if len(r.Key) == 0 {
		return rpctypes.ErrGRPCEmptyKey
	}
	_, order := pb.RangeRequest_SortOrder_name[int32(r.SortOrder)]
	_, target := pb.RangeRequest_SortTarget_name[int32(r.SortTarget)]
	if !order || !target {
		return rpctypes.ErrGRPCInvalidSortOption
	}
	return nil
}

func checkStream(r *pb.RangeRequest) error {
	if err := checkRange(r); err != nil {
		return err
	}
	byKey := r.SortOrder == pb.RangeRequest_ASCEND && r.SortTarget == pb.RangeRequest_KEY
	if r.SortOrder != pb.RangeRequest_NONE && !byKey {
		return status.Error(codes.Unimplemented, "RangeStream does not support custom sort orders")
	}
	if filtered(r) {
		return status.Error(codes.Unimplemented, "RangeStream does not support revision filters")
	}
	return nil
}

func checkPutShape(r *pb.PutRequest) error {
	switch {
	case len(r.Key) == 0:
		return rpctypes.ErrGRPCEmptyKey
	case r.IgnoreValue && len(r.Value) != 0:
		return rpctypes.ErrGRPCValueProvided
	case r.IgnoreLease && r.Lease != 0:
		return rpctypes.ErrGRPCLeaseProvided
	default:
		return nil
	}
}

func (s *State) checkTxn(r *pb.TxnRequest) error {
	if err := checkTxnShape(r, s.limits.TxnOpsMax); err != nil {
		return err
	}
	for _, ops := range [][]*pb.RequestOp{r.Success, r.Failure} {
		if _, err := collectWrites(ops); err != nil {
			return err
		}
	}
	if readOnly(r) {
		return nil // such a transaction is never proposed, so nothing bounds its size
	}
	return s.checkSize(r)
}

func readOnly(r *pb.TxnRequest) bool {
	for _, ops := range [][]*pb.RequestOp{r.Success, r.Failure} {
		for _, op := range ops {
			if op.GetRequestRange() == nil {
				return false
			}
		}
	}
	return true
}

// checkTxnShape counts operations and checks each alone. A nested transaction
// has what its parent's longest list leaves.
func checkTxnShape(r *pb.TxnRequest, opsMax int) error {
	longest := max(len(r.Compare), len(r.Success), len(r.Failure))
	if longest > opsMax {
		return rpctypes.ErrGRPCTooManyOps
	}
	for _, c := range r.Compare {
		if len(c.Key) == 0 {
			return rpctypes.ErrGRPCEmptyKey
		}
	}
	for _, ops := range [][]*pb.RequestOp{r.Success, r.Failure} {
		for _, op := range ops {
			if err := checkOpShape(op, opsMax-longest); err != nil {
				return err
			}
		}
	}
	return nil
}

func checkOpShape(op *pb.RequestOp, opsMax int) error {
	switch r := op.Request.(type) {
	case *pb.RequestOp_RequestRange:
		return checkRange(r.RequestRange)
	case *pb.RequestOp_RequestPut:
		return checkPutShape(r.RequestPut)
	case *pb.RequestOp_RequestDeleteRange:
		if len(r.RequestDeleteRange.Key) == 0 {
			return rpctypes.ErrGRPCEmptyKey
		}
		return nil
	case *pb.RequestOp_RequestTxn:
		return checkTxnShape(r.RequestTxn, opsMax)
	default:
		return rpctypes.ErrGRPCKeyNotFound
	}
}

// writes are the keys that a list of operations may put and the spans that it
// may delete.
type writes struct {
	puts map[string]bool
	dels []*pb.DeleteRangeRequest
}

// deletes reports whether a key lies in a deleted span. A span without upper
// bound never counts: etcd takes it as [key, "\0"), which holds nothing.
func (w *writes) deletes(key string) bool {
	for _, d := range w.dels {
		end := d.RangeEnd
		if len(end) == 0 {
			end = append(bytes.Clone(d.Key), 0)
		}
		if key >= string(d.Key) && key < string(end) {
			return true
		}
	}
	return false
}

// collectWrites refuses lists that put a key twice, or that put a key which
// they delete. Nested transactions come first, in order, and each is held
// against this level's deletes and the siblings before it only; this level's
// own puts come last. So the order of two siblings matters, as it does in
// etcd. The two branches of one transaction may put the same key.
func collectWrites(ops []*pb.RequestOp) (*writes, error) {
	w := &writes{puts: make(map[string]bool)}
	for _, op := range ops {
		if r := op.GetRequestDeleteRange(); r != nil {
			w.dels = append(w.dels, r)
		}
	}
	for _, op := range ops {
		if r := op.GetRequestTxn(); r != nil {
			if err := w.addNested(r); err != nil {
				return nil, err
			}
		}
	}
	for _, op := range ops {
		r := op.GetRequestPut()
		if r == nil {
			continue
		}
		key := string(r.Key)
		if w.puts[key] || w.deletes(key) {
			return nil, rpctypes.ErrGRPCDuplicateKey
		}
		w.puts[key] = true
	}
	return w, nil
}

func (w *writes) addNested(r *pb.TxnRequest) error {
	success, err := collectWrites(r.Success)
	if err != nil {
		return err
	}
	failure, err := collectWrites(r.Failure)
	if err != nil {
		return err
	}
	for key := range success.puts {
		if w.puts[key] || w.deletes(key) {
			return rpctypes.ErrGRPCDuplicateKey
		}
	}
	for key := range failure.puts {
		if w.puts[key] || w.deletes(key) {
			return rpctypes.ErrGRPCDuplicateKey
		}
	}
	for key := range success.puts {
		w.puts[key] = true
	}
	for key := range failure.puts {
		w.puts[key] = true
	}
	w.dels = append(w.dels, success.dels...)
	w.dels = append(w.dels, failure.dels...)
	return nil
}
