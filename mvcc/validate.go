package mvcc

import (
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/pkg/v3/adt"
	"google.golang.org/protobuf/proto"
)

// Validate checks the shape of a request of the KV service; see the functions
// below. maxOps is for transactions.
func Validate(req proto.Message, maxOps int) error {
	switch r := req.(type) {
	case *pb.RangeRequest:
		return ValidateRange(r)
	case *pb.PutRequest:
		return ValidatePut(r)
	case *pb.DeleteRangeRequest:
		return ValidateDelete(r)
	case *pb.TxnRequest:
		return ValidateTxn(r, maxOps)
	}
	return ErrUnknownRequest
}

// ValidateRange checks the shape of a range request.
func ValidateRange(r *pb.RangeRequest) error {
	if len(r.GetKey()) == 0 {
		return ErrEmptyKey
	}
	if r.SortOrder < pb.RangeRequest_NONE || r.SortOrder > pb.RangeRequest_DESCEND {
		return ErrInvalidSortOption
	}
	if r.SortTarget < pb.RangeRequest_KEY || r.SortTarget > pb.RangeRequest_VALUE {
		return ErrInvalidSortOption
	}
	return nil
}

// ValidateRangeStream checks the shape of a request to RangeStream.
func ValidateRangeStream(r *pb.RangeRequest) error {
	if err := ValidateRange(r); err != nil {
		return err
	}
	if !isKeyOrder(r) {
		return ErrStreamSort
	}
	if hasFilters(r) {
		return ErrStreamFilter
	}
	return nil
}

// ValidatePut checks the shape of a put.
func ValidatePut(r *pb.PutRequest) error {
	switch {
	case len(r.GetKey()) == 0:
		return ErrEmptyKey
	case r.IgnoreValue && len(r.Value) != 0:
		return ErrValueProvided
	case r.IgnoreLease && r.Lease != 0:
		return ErrLeaseProvided
	}
	return nil
}

// ValidateDelete checks the shape of a delete.
func ValidateDelete(r *pb.DeleteRangeRequest) error {
	if len(r.GetKey()) == 0 {
		return ErrEmptyKey
	}
	return nil
}

// ValidateTxn checks the shape of a transaction: first of all operations, then
// that no key is written twice. A nested transaction may have as many
// operations as the one around it left.
func ValidateTxn(r *pb.TxnRequest, maxOps int) error {
	if err := validateOps(r, maxOps); err != nil {
		return err
	}
	// Only after the count, for this may take quadratic time.
	for _, branch := range [][]*pb.RequestOp{r.Success, r.Failure} {
		if len(branch) == 1 && branch[0].GetRequestTxn() == nil {
			continue // one operation writes nothing twice
		}
		if _, err := writesOf(branch); err != nil {
			return err
		}
	}
	return nil
}

func validateOps(r *pb.TxnRequest, maxOps int) error {
	ops := max(len(r.GetCompare()), len(r.GetSuccess()), len(r.GetFailure()))
	if ops > maxOps {
		return ErrTooManyOps
	}
	for _, c := range r.GetCompare() {
		if len(c.Key) == 0 {
			return ErrEmptyKey
		}
	}
	for _, branch := range [][]*pb.RequestOp{r.GetSuccess(), r.GetFailure()} {
		for _, op := range branch {
			if err := validateOp(op, maxOps-ops); err != nil {
				return err
			}
		}
	}
	return nil
}

func validateOp(op *pb.RequestOp, maxOps int) error {
	switch o := op.GetRequest().(type) {
	case *pb.RequestOp_RequestRange:
		return ValidateRange(o.RequestRange)
	case *pb.RequestOp_RequestPut:
		return ValidatePut(o.RequestPut)
	case *pb.RequestOp_RequestDeleteRange:
		return ValidateDelete(o.RequestDeleteRange)
	case *pb.RequestOp_RequestTxn:
		return validateOps(o.RequestTxn, maxOps)
	}
	return ErrKeyNotFound // etcd's answer to an empty operation
}

// writes is what a list of operations may write.
type writes struct {
	puts map[string]struct{}
	dels adt.IntervalTree // nil: none
}

// writesOf collects what a list of operations may write, or says that a key is
// put twice or put and deleted. Clients see its blind spots, which are etcd's:
// a delete to the end of the keyspace meets no put (its interval is empty in
// the tree), and puts of a nested transaction are held against the deletes of
// this level and of earlier siblings only.
func writesOf(ops []*pb.RequestOp) (w writes, err error) {
	for _, op := range ops {
		if d := op.GetRequestDeleteRange(); d != nil {
			w.del(d)
		}
	}
	for _, op := range ops {
		if t := op.GetRequestTxn(); t != nil {
			if err := w.nest(t); err != nil {
				return w, err
			}
		}
	}
	for _, op := range ops {
		if p := op.GetRequestPut(); p != nil {
			key := string(p.Key)
			if w.has(key) || w.deletes(key) {
				return w, ErrDuplicateKey
			}
			w.put(key)
		}
	}
	return w, nil
}

// nest adds a nested transaction. Its two branches exclude each other, so they
// may write the same keys.
func (w *writes) nest(t *pb.TxnRequest) error {
	success, err := writesOf(t.Success)
	if err != nil {
		return err
	}
	failure, err := writesOf(t.Failure)
	if err != nil {
		return err
	}
	for key := range success.puts {
		if w.has(key) || w.deletes(key) {
			return ErrDuplicateKey
		}
	}
	for key := range failure.puts {
		if w.has(key) || w.deletes(key) {
			return ErrDuplicateKey
		}
	}
	for _, branch := range []writes{success, failure} {
		for key := range branch.puts {
			w.put(key)
		}
		if branch.dels != nil {
			w.tree().Union(branch.dels, adt.NewStringAffineInterval("\x00", ""))
		}
	}
	return nil
}

func (w *writes) has(key string) bool {
	_, ok := w.puts[key]
	return ok
}

func (w *writes) put(key string) {
	if w.puts == nil {
		w.puts = make(map[string]struct{})
	}
	w.puts[key] = struct{}{}
}

func (w *writes) tree() adt.IntervalTree {
	if w.dels == nil {
		w.dels = adt.NewIntervalTree()
	}
	return w.dels
}

func (w *writes) del(d *pb.DeleteRangeRequest) {
	iv := adt.NewStringAffinePoint(string(d.Key))
	if len(d.RangeEnd) != 0 {
		iv = adt.NewStringAffineInterval(string(d.Key), string(d.RangeEnd))
	}
	w.tree().Insert(iv, struct{}{})
}

func (w *writes) deletes(key string) bool {
	return w.dels != nil && w.dels.Intersects(adt.NewStringAffinePoint(key))
}
