package mvcc

import (
	"bytes"
	"cmp"
	"errors"
	"math/rand"
	"slices"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"

	"github.com/flotilladb/flotilla/proto/peerpb"
	"github.com/flotilladb/flotilla/proto/txnpb"
)

// A batch with open revisions, filled in, is what its requests give one by one
// with known revisions. So is an evaluation over rows that were collected for
// the request, as a cross-range transaction makes it.
func TestEvaluateIsTheSameOverEachState(t *testing.T) {
	waits := 0
	for seed := range int64(80) {
		rng := rand.New(rand.NewSource(seed))
		g := &generator{rng: rng}
		w := newWorld(t)
		for range 40 {
			first := w.rev + 1
			st, o, open := NewEngineState(w.eng, nil, nil), NewOverlay(), OpenRevision
			must(t, st.Open())
			type result struct {
				Result
				at   Revision
				want Result
			}
			var batch []result
			for range 1 + rng.Intn(4) {
				g.rev = int64(w.rev)
				req := g.write()
				if Validate(req, 128) != nil {
					continue
				}
				env := Env{Revision: open, Known: first - 1, Compacted: -1, Lease: leaseState}
				got, err := Evaluate(o.Over(st), env, proto.Clone(req))
				checkOverRows(t, w, req)
				if errors.Is(err, ErrWait) {
					waits++
					continue
				}
				want, werr := w.do(proto.Clone(req))
				if !errors.Is(err, werr) {
					t.Fatalf("seed %d: %v, want %v\n%s", seed, err, werr, prototext.Format(req))
				}
				if err != nil {
					continue
				}
				batch = append(batch, result{got, open, want})
				if got.Changed {
					o.Add(1, open, got.Mutations)
					open++
				}
			}
			for _, r := range batch {
				FillMutations(r.Mutations, first)
				FillResponse(r.Response, first)
				checkResult(t, r.Result, r.want)
			}
			must(t, st.Close())
		}
	}
	if waits == 0 {
		t.Error("no request ever had to wait")
	}
}

// checkOverRows compares an evaluation over the engine with one over rows.
func checkOverRows(t *testing.T, w *world, req proto.Message) {
	t.Helper()
	st := NewEngineState(w.eng, nil, nil)
	defer func() { must(t, st.Close()) }()
	// Two ranges, cut at "b": each sends the rows of its part.
	rows := NewRowsState()
	accesses := TxnFootprint(req)
	budget := Budget{RowsMax: 1 + len(w.versions)%3, BytesMax: 1 + len(w.versions)%50}
	for _, side := range []UserSpan{{nil, []byte("b")}, {[]byte("b"), nil}} {
		var clipped []Access
		for _, a := range accesses {
			if bytes.Compare(a.Start, side.Start) < 0 {
				a.Start = side.Start
			}
			if len(side.End) != 0 && (len(a.End) == 0 || bytes.Compare(a.End, side.End) > 0) {
				a.End = side.End
			}
			if !emptySpan(a.Start, a.End) {
				clipped = append(clipped, a)
			}
		}
		st.DeadMax = len(w.versions) % 3
		for next := (&peerpb.Cursor{}); next != nil; {
			page, err := CollectRows(st, clipped, *next, budget)
			must(t, err)
			rows.Add(clipped, page.Rows, page.Counts)
			if next = page.Next; next != nil && page.Read == 0 && st.Dead() == 0 {
				t.Fatalf("a page of nothing, next at %v", next)
			}
		}
		st.DeadMax = 0
	}
	rows.Seal()
	want, werr := Evaluate(st, w.env(), req)
	got, err := Evaluate(rows, w.env(), req)
	if !errors.Is(err, werr) {
		t.Fatalf("over rows: %v, want %v\n%s", err, werr, prototext.Format(req))
	}
	if err == nil {
		expandDeletes(t, st, &got)
		checkResult(t, got, want)
	}
}

// expandDeletes names the keys of a result's deletes of spans, as the ranges do
// when the transaction is over.
func expandDeletes(t *testing.T, st State, res *Result) {
	t.Helper()
	for _, d := range res.Deletes {
		sub := d.Sub
		must(t, st.Scan(d.Start, d.End, Latest, func(row *Row) bool {
			res.Mutations = append(res.Mutations, &txnpb.Mutation{
				Key: bytes.Clone(row.Key), Sub: sub, Tombstone: true, Existed: true, PrevLease: row.Lease,
			})
			sub++
			return true
		}))
		if d.Count == 0 || sub != d.Sub+d.Count {
			t.Fatalf("%d keys from %q to %q, the result says %d", sub-d.Sub, d.Start, d.End, d.Count)
		}
	}
	slices.SortFunc(res.Mutations, func(a, b *txnpb.Mutation) int { return cmp.Compare(a.Sub, b.Sub) })
}

func checkResult(t *testing.T, got, want Result) {
	t.Helper()
	if got.Changed != want.Changed || !proto.Equal(got.Response, want.Response) {
		t.Fatalf("response\n%v\nwant\n%v", got.Response, want.Response)
	}
	if !slices.EqualFunc(got.Mutations, want.Mutations, func(a, b *txnpb.Mutation) bool { return proto.Equal(a, b) }) {
		t.Fatalf("mutations\n%v\nwant\n%v", got.Mutations, want.Mutations)
	}
}

func rangeOp(r *pb.RangeRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: r}}
}

func putOp(r *pb.PutRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: r}}
}

func deleteOp(r *pb.DeleteRangeRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: r}}
}

func txnOp(r *pb.TxnRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: r}}
}

// Corners of etcd that clients can see.
func TestCorners(t *testing.T) {
	k := []byte("k")
	zero := []byte{0}
	mod := func(result pb.Compare_CompareResult, rev int64) *pb.Compare {
		return &pb.Compare{Result: result, Target: pb.Compare_MOD, Key: k, TargetUnion: &pb.Compare_ModRevision{ModRevision: rev}}
	}
	for _, c := range []struct {
		name string
		req  proto.Message
		err  error
		want string // of the response
	}{
		{"a put is a revision even if nothing changes", &pb.PutRequest{Key: k, Value: []byte("old")}, nil, `header:{revision:3}`},
		{"a delete of nothing is not", &pb.DeleteRangeRequest{Key: []byte("x")}, nil, `header:{revision:2}`},
		{"an unknown lease before a missing key", &pb.PutRequest{Key: []byte("x"), Lease: 9, IgnoreValue: true}, ErrLeaseNotFound, ""},
		{"ignore_value of a missing key", &pb.PutRequest{Key: []byte("x"), IgnoreValue: true}, ErrKeyNotFound, ""},
		{"a missing value is not even different", &pb.TxnRequest{Compare: []*pb.Compare{{
			Result: pb.Compare_NOT_EQUAL, Target: pb.Compare_VALUE, Key: []byte("x"), TargetUnion: &pb.Compare_Value{Value: []byte("v")},
		}}}, nil, `header:{revision:2}`},
		{"put and delete of one key in one revision",
			&pb.TxnRequest{Success: []*pb.RequestOp{
				putOp(&pb.PutRequest{Key: k, PrevKv: true}), deleteOp(&pb.DeleteRangeRequest{Key: k, RangeEnd: zero}), rangeOp(&pb.RangeRequest{Key: k}),
			}}, nil, `header:{revision:3} succeeded:true
				responses:{response_put:{header:{revision:3} prev_kv:{key:"k" create_revision:2 mod_revision:2 version:1 value:"old" lease:1}}}
				responses:{response_delete_range:{header:{revision:3} deleted:1}}
				responses:{response_range:{header:{revision:3}}}`},
		{"a nested header is empty, and nested compares see the state before",
			&pb.TxnRequest{Success: []*pb.RequestOp{
				putOp(&pb.PutRequest{Key: k}),
				txnOp(&pb.TxnRequest{Compare: []*pb.Compare{mod(pb.Compare_EQUAL, 2)}, Success: []*pb.RequestOp{
					rangeOp(&pb.RangeRequest{Key: k, Revision: 2, KeysOnly: true}),
				}}),
			}}, nil, `header:{revision:3} succeeded:true
				responses:{response_put:{header:{revision:3}}}
				responses:{response_txn:{header:{} succeeded:true responses:{response_range:{header:{revision:3}
					kvs:{key:"k" create_revision:2 mod_revision:2 version:1} count:1}}}}`},
		{"a range at the revision of its own transaction is in the future",
			&pb.TxnRequest{Success: []*pb.RequestOp{putOp(&pb.PutRequest{Key: k}), rangeOp(&pb.RangeRequest{Key: k, Revision: 3})}}, ErrFutureRevision, ""},
		{"below -1 is compacted inside a transaction",
			&pb.TxnRequest{Success: []*pb.RequestOp{rangeOp(&pb.RangeRequest{Key: k, Revision: -2})}}, ErrCompacted, ""},
		{"but only in the branch that runs",
			&pb.TxnRequest{Failure: []*pb.RequestOp{rangeOp(&pb.RangeRequest{Key: k, Revision: -2})}}, nil, `header:{revision:2} succeeded:true`},
		{"ignore_value under an earlier delete of the transaction",
			&pb.TxnRequest{Success: []*pb.RequestOp{
				deleteOp(&pb.DeleteRangeRequest{Key: k, RangeEnd: zero}), putOp(&pb.PutRequest{Key: k, IgnoreValue: true}),
			}}, ErrKeyNotFound, ""},
		{"not a request", &pb.CompactionRequest{}, ErrUnknownRequest, ""},
	} {
		w := newWorld(t)
		_, err := w.do(&pb.PutRequest{Key: k, Value: []byte("old"), Lease: 1})
		must(t, err)
		res, err := w.do(c.req)
		if !errors.Is(err, c.err) {
			t.Errorf("%s: error %v, want %v", c.name, err, c.err)
			continue
		}
		if err != nil {
			continue
		}
		want := res.Response.ProtoReflect().New().Interface()
		must(t, prototext.Unmarshal([]byte(c.want), want))
		if !proto.Equal(res.Response, want) {
			t.Errorf("%s:\ngot  %v\nwant %v", c.name, res.Response, want)
		}
	}
}

// While a revision is open, what depends on it waits.
func TestWait(t *testing.T) {
	o := NewOverlay()
	base := NewRowsState()
	env := Env{Revision: OpenRevision, Known: 10, Compacted: -1}
	res, err := Evaluate(o.Over(base), env, &pb.PutRequest{Key: []byte("k")})
	must(t, err)
	o.Add(1, env.Revision, res.Mutations)
	env.Revision++
	compare := func(rev int64) *pb.TxnRequest {
		return &pb.TxnRequest{Compare: []*pb.Compare{{
			Result: pb.Compare_GREATER, Target: pb.Compare_CREATE, Key: []byte("k"), TargetUnion: &pb.Compare_CreateRevision{CreateRevision: rev},
		}}}
	}
	ranged := func(r *pb.RangeRequest) *pb.TxnRequest {
		r.Key = []byte("k")
		return &pb.TxnRequest{Success: []*pb.RequestOp{rangeOp(r)}}
	}
	for _, c := range []struct {
		name string
		req  *pb.TxnRequest
		err  error
		then bool
	}{
		{"known constant", compare(10), nil, true},
		{"unknown constant", compare(11), ErrWait, false},
		{"filter by a known constant", ranged(&pb.RangeRequest{MinModRevision: 10}), nil, true},
		{"filter by an unknown constant", ranged(&pb.RangeRequest{MaxModRevision: 11}), ErrWait, false},
		{"known revision", ranged(&pb.RangeRequest{Revision: 10}), nil, true},
		{"unknown revision", ranged(&pb.RangeRequest{Revision: 11}), ErrWait, false},
		{"revision that nobody reaches", ranged(&pb.RangeRequest{Revision: int64(OpenRevision)}), ErrFutureRevision, false},
	} {
		res, err := Evaluate(o.Over(base), env, c.req)
		if !errors.Is(err, c.err) {
			t.Errorf("%s: %v, want %v", c.name, err, c.err)
		} else if err == nil && res.Response.(*pb.TxnResponse).Succeeded != c.then {
			t.Errorf("%s: wrong branch", c.name)
		}
	}
	if o.Touched() != 1 {
		t.Errorf("touched %d", o.Touched())
	}
}
