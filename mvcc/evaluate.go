package mvcc

import (
	"bytes"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"

	"github.com/flotilladb/flotilla/proto/txnpb"
)

// Env is what an evaluation knows besides the state.
type Env struct {
	// Revision is what a change gets, known or open. The state is that of
	// Revision-1.
	Revision Revision
	// Known is the highest revision that is known to be issued. With a known
	// Revision it is Revision-1.
	Known Revision
	// Compacted is the compacted revision, -1 if there never was a compaction.
	Compacted Revision
	// Stale says that more may be compacted, and clients may know: to read at a
	// revision that is not, one has to wait for who knows.
	Stale bool
	// Lease says whether a put may attach a key to a lease. It is not called for
	// lease 0. Nil: no lease exists.
	Lease func(id int64, key []byte) LeaseState
	// DeletesMax and DeleteBytesMax bound the keys that a request's deletes of
	// spans name one by one, and their bytes with those of the values that it
	// shows; a request over one of them gets ErrTooLarge. 0: no limit.
	DeletesMax, DeleteBytesMax int
}

// LeaseState is what an evaluation knows of a lease.
type LeaseState int

const (
	// LeaseAbsent: there is no such lease.
	LeaseAbsent LeaseState = iota
	// LeaseExists: there is, and the key may be attached to it.
	LeaseExists
	// LeaseUnknown: others have to be asked, and the request is to be evaluated
	// again then (ErrLeaseUnknown).
	LeaseUnknown
)

// Result is the outcome of a request.
type Result struct {
	// Mutations are the new versions, Sub counting from 0. They share keys and
	// values with the request.
	Mutations []*txnpb.Mutation
	// Deletes are deletes of spans of which a RowsState knows only the number of
	// their keys. Their positions and those of Mutations do not overlap.
	Deletes []*txnpb.SpanDelete
	// Response is complete but for the header's ids: the header's revision is
	// Env.Revision if something changed, else the one before.
	Response proto.Message
	// Changed says that the request takes its revision.
	Changed bool
	// Named is how many keys its deletes of spans named one by one, NamedBytes are
	// those of the keys and of the values that it shows.
	Named, NamedBytes int
}

// Evaluate runs a *PutRequest, *DeleteRangeRequest or *TxnRequest of valid
// shape against a state, in etcd's order of checks. An error means that nothing
// changed: one of this package's, or one of the state's. ErrWait asks for
// another evaluation with a known revision.
func Evaluate(st State, env Env, req proto.Message) (Result, error) {
	switch r := req.(type) {
	case *pb.PutRequest:
		return evaluatePut(st, &env, r)
	case *pb.DeleteRangeRequest:
		return tooLargeIfPaused(evaluateDelete(st, &env, r))
	case *pb.TxnRequest:
		kept := env // so that a put's env stays on the stack
		return tooLargeIfPaused(evaluateTxn(st, &kept, r))
	}
	return Result{}, ErrUnknownRequest
}

func tooLargeIfPaused(res Result, err error) (Result, error) {
	if PauseOf(err) != nil {
		return Result{}, ErrTooLarge
	}
	return res, err
}

// putBlock is what a put leaves, in one allocation.
type putBlock struct {
	resp   pb.PutResponse
	header pb.ResponseHeader
	mut    txnpb.Mutation
	muts   [1]*txnpb.Mutation
}

func evaluatePut(st State, env *Env, r *pb.PutRequest) (Result, error) {
	if err := checkLease(env, r); err != nil {
		return Result{}, err
	}
	b := &putBlock{}
	if err := put(st, env, r, b, 0); err != nil {
		return Result{}, err
	}
	return Result{Mutations: b.muts[:], Response: &b.resp, Changed: true}, nil
}

func checkLease(env *Env, r *pb.PutRequest) error {
	if r.Lease == 0 {
		return nil
	}
	if env.Lease == nil {
		return ErrLeaseNotFound
	}
	switch env.Lease(r.Lease, r.Key) {
	case LeaseExists:
		return nil
	case LeaseUnknown:
		return ErrLeaseUnknown
	}
	return ErrLeaseNotFound
}

// put fills b with what a put does to a state.
func put(st State, env *Env, r *pb.PutRequest, b *putBlock, sub int) error {
	row, ok, err := st.Get(r.Key, Latest)
	if err != nil {
		return err
	}
	if !ok && (r.IgnoreValue || r.IgnoreLease) {
		return ErrKeyNotFound
	}
	m := &b.mut
	m.Key, m.Value, m.Lease, m.Sub = r.Key, r.Value, r.Lease, uint32(sub)
	m.CreateRevision, m.Version, m.Existed = int64(env.Revision), 1, ok
	if ok {
		m.CreateRevision, m.Version, m.PrevLease = row.CreateRevision, row.Version+1, row.Lease
		if r.IgnoreValue {
			m.Value = bytes.Clone(row.Value)
		}
		if r.IgnoreLease {
			m.Lease = row.Lease
		}
		if r.PrevKv {
			b.resp.PrevKv = rowKV(&row)
		}
	}
	b.header.Revision = int64(env.Revision)
	b.resp.Header = &b.header
	b.muts[0] = m
	return nil
}

func evaluateDelete(st State, env *Env, r *pb.DeleteRangeRequest) (Result, error) {
	var done effects
	resp, err := done.deleteRange(st, env, r)
	if err != nil {
		return Result{}, err
	}
	resp.Header = headerAt(env, done.sub != 0)
	return Result{Mutations: done.muts, Deletes: done.deletes, Response: resp, Changed: done.sub != 0,
		Named: done.keys, NamedBytes: done.bytes}, nil
}

// effects are what a request has changed so far.
type effects struct {
	muts    []*txnpb.Mutation
	deletes []*txnpb.SpanDelete
	sub     int // the position of the next change
	// keys and bytes are of what deletes of spans named one by one.
	keys, bytes int
}

// deleteRange deletes the live keys of a request's span. The response has no
// header yet.
func (e *effects) deleteRange(st State, env *Env, r *pb.DeleteRangeRequest) (*pb.DeleteRangeResponse, error) {
	if spans := deletedSpans(st, r); spans != nil {
		return e.deleteSpans(spans), nil
	}
	resp := &pb.DeleteRangeResponse{}
	large := false
	err := scanOp(st, r.Key, r.RangeEnd, Latest, func(row *Row) bool {
		if len(r.RangeEnd) != 0 {
			e.keys++
			e.bytes += len(row.Key)
			if r.PrevKv {
				e.bytes += len(row.Value)
			}
			if large = env.deletesTooMuch(e); large {
				return false
			}
		}
		e.muts = append(e.muts, &txnpb.Mutation{
			Key: bytes.Clone(row.Key), Sub: uint32(e.sub), Tombstone: true, Existed: true, PrevLease: row.Lease,
		})
		e.sub++
		resp.Deleted++
		if r.PrevKv {
			resp.PrevKvs = append(resp.PrevKvs, rowKV(row))
		}
		return true
	})
	if err == nil && large {
		err = ErrTooLarge
	}
	return resp, err
}

func (env *Env) deletesTooMuch(e *effects) bool {
	return env.DeletesMax > 0 && e.keys > env.DeletesMax || env.DeleteBytesMax > 0 && e.bytes > env.DeleteBytesMax
}

// scanOp calls fn for the live keys that an operation names with key and
// range_end, in key order.
func scanOp(st State, key, rangeEnd []byte, at Revision, fn func(row *Row) bool) error {
	if len(rangeEnd) == 0 {
		row, ok, err := st.Get(key, at)
		if err == nil && ok {
			fn(&row)
		}
		return err
	}
	start, end := opSpan(key, rangeEnd)
	return st.Scan(start, end, at, fn)
}

// opSpan returns the span of user keys that an operation names: range_end empty
// is the one key, a zero byte is the end of the keyspace (an empty end here).
func opSpan(key, rangeEnd []byte) (start, end []byte) {
	switch {
	case len(rangeEnd) == 0:
		return key, append(append(make([]byte, 0, len(key)+1), key...), 0)
	case len(rangeEnd) == 1 && rangeEnd[0] == 0:
		return key, nil
	}
	return key, rangeEnd
}

// headerAt is the header of a request that changed something, or not.
func headerAt(env *Env, changed bool) *pb.ResponseHeader {
	rev := env.Revision
	if !changed {
		rev--
	}
	return &pb.ResponseHeader{Revision: int64(rev)}
}

// rowKV copies a row.
func rowKV(row *Row) *mvccpb.KeyValue {
	kv := &mvccpb.KeyValue{
		CreateRevision: row.CreateRevision, ModRevision: row.ModRevision,
		Version: row.Version, Lease: row.Lease,
	}
	both := make([]byte, 0, len(row.Key)+len(row.Value))
	both = append(append(both, row.Key...), row.Value...)
	kv.Key = both[:len(row.Key):len(row.Key)]
	if len(row.Value) != 0 {
		kv.Value = both[len(row.Key):]
	}
	return kv
}
