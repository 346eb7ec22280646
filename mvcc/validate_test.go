package mvcc

import (
	"errors"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
)

func putKey(key string) *pb.RequestOp { return putOp(&pb.PutRequest{Key: []byte(key)}) }

func delKeys(key, end string) *pb.RequestOp {
	r := &pb.DeleteRangeRequest{Key: []byte(key)}
	if end != "" {
		r.RangeEnd = []byte(end)
	}
	return deleteOp(r)
}

func then(ops ...*pb.RequestOp) *pb.TxnRequest { return &pb.TxnRequest{Success: ops} }

func nested(ops ...*pb.RequestOp) *pb.RequestOp { return txnOp(then(ops...)) }

func TestValidate(t *testing.T) {
	key := []byte("k")
	for _, c := range []struct {
		name string
		req  proto.Message
		err  error
	}{
		{"range", &pb.RangeRequest{Key: key}, nil},
		{"range without key", &pb.RangeRequest{}, ErrEmptyKey},
		{"unknown order", &pb.RangeRequest{Key: key, SortOrder: 3}, ErrInvalidSortOption},
		{"unknown target", &pb.RangeRequest{Key: key, SortTarget: -1}, ErrInvalidSortOption},
		{"key before order", &pb.RangeRequest{SortOrder: 3}, ErrEmptyKey},
		{"put", &pb.PutRequest{Key: key}, nil},
		{"put without key", &pb.PutRequest{IgnoreValue: true, Value: key}, ErrEmptyKey},
		{"value ignored and given", &pb.PutRequest{Key: key, IgnoreValue: true, Value: key, IgnoreLease: true, Lease: 1}, ErrValueProvided},
		{"lease ignored and given", &pb.PutRequest{Key: key, IgnoreLease: true, Lease: 1}, ErrLeaseProvided},
		{"delete without key", &pb.DeleteRangeRequest{}, ErrEmptyKey},
		{"not a request", &pb.CompactionRequest{}, ErrUnknownRequest},
		{"empty txn", &pb.TxnRequest{}, nil},
		{"four operations", then(putKey("a"), putKey("b"), putKey("c"), putKey("d")), nil},
		{"five operations", then(putKey("a"), putKey("b"), putKey("c"), putKey("d"), putKey("e")), ErrTooManyOps},
		{"nested ones draw on what is left", then(putKey("a"), nested(putKey("b"), putKey("c"))), nil},
		{"and that ends", then(putKey("a"), nested(putKey("b"), putKey("c"), putKey("d"))), ErrTooManyOps},
		{"compare without key", &pb.TxnRequest{Compare: []*pb.Compare{{}}, Success: []*pb.RequestOp{{}}}, ErrEmptyKey},
		{"empty operation", then(&pb.RequestOp{}), ErrKeyNotFound},
		{"bad operation before a double put", then(putKey("a"), putKey("a"), putKey("")), ErrEmptyKey},
		{"double put", then(putKey("a"), putKey("a")), ErrDuplicateKey},
		{"double put in the failure branch", &pb.TxnRequest{Failure: []*pb.RequestOp{putKey("a"), putKey("a")}}, ErrDuplicateKey},
		{"one put in each branch", &pb.TxnRequest{Success: []*pb.RequestOp{putKey("a")}, Failure: []*pb.RequestOp{putKey("a")}}, nil},
		{"put and delete", then(putKey("a"), delKeys("a", "")), ErrDuplicateKey},
		{"put in a deleted span", then(delKeys("a", "c"), putKey("b")), ErrDuplicateKey},
		{"put after a deleted span", then(delKeys("a", "c"), putKey("c")), nil},
		{"delete to the end is not seen", then(delKeys("a", "\x00"), putKey("b")), nil},
		{"double delete", then(delKeys("a", "c"), delKeys("b", "d")), nil},
		{"put and nested put", then(putKey("a"), nested(putKey("a"))), ErrDuplicateKey},
		{"nested put and delete around it", then(nested(putKey("a")), delKeys("a", "")), ErrDuplicateKey},
		{"nested put and earlier nested delete", then(nested(delKeys("a", "")), nested(putKey("a"))), ErrDuplicateKey},
		{"nested put and later nested delete", then(nested(putKey("a")), nested(delKeys("a", ""))), nil},
		{"both branches of a nested one", then(txnOp(&pb.TxnRequest{Success: []*pb.RequestOp{putKey("a")}, Failure: []*pb.RequestOp{putKey("a")}})), nil},
		{"a branch and a sibling", then(txnOp(&pb.TxnRequest{Failure: []*pb.RequestOp{putKey("a")}}), nested(putKey("a"))), ErrDuplicateKey},
	} {
		if err := Validate(c.req, 4); !errors.Is(err, c.err) {
			t.Errorf("%s: %v, want %v", c.name, err, c.err)
		}
	}
}

func TestValidateRangeStream(t *testing.T) {
	key := []byte("k")
	for _, c := range []struct {
		req *pb.RangeRequest
		err error
	}{
		{&pb.RangeRequest{}, ErrEmptyKey},
		{&pb.RangeRequest{Key: key}, nil},
		{&pb.RangeRequest{Key: key, SortOrder: pb.RangeRequest_ASCEND}, nil},
		{&pb.RangeRequest{Key: key, SortOrder: pb.RangeRequest_DESCEND, MinModRevision: 1}, ErrStreamSort},
		{&pb.RangeRequest{Key: key, SortTarget: pb.RangeRequest_MOD}, nil},
		{&pb.RangeRequest{Key: key, MaxCreateRevision: 1}, ErrStreamFilter},
	} {
		if err := ValidateRangeStream(c.req); !errors.Is(err, c.err) {
			t.Errorf("%v: %v, want %v", c.req, err, c.err)
		}
	}
}

func TestFootprint(t *testing.T) {
	req := &pb.TxnRequest{
		Compare: []*pb.Compare{{Key: []byte("a"), Target: pb.Compare_VALUE}, {Key: []byte("b"), RangeEnd: []byte("c")}},
		Success: []*pb.RequestOp{
			putKey("d"), putOp(&pb.PutRequest{Key: []byte("e"), PrevKv: true}), delKeys("f", "\x00"),
			rangeOp(&pb.RangeRequest{Key: []byte("g"), Revision: 7}),
		},
		Failure: []*pb.RequestOp{nested(rangeOp(&pb.RangeRequest{Key: []byte("h"), KeysOnly: true, Revision: -1}))},
	}
	want := []Access{
		{Start: []byte("a"), End: []byte("a\x00"), NeedValues: true},
		{Start: []byte("b"), End: []byte("c")},
		{Start: []byte("d"), End: []byte("d\x00"), Write: true},
		{Start: []byte("e"), End: []byte("e\x00"), Write: true, NeedValues: true},
		{Start: []byte("f"), Write: true},
		{Start: []byte("g"), End: []byte("g\x00"), NeedValues: true, Revision: 7},
		{Start: []byte("h"), End: []byte("h\x00")},
	}
	got := Footprint(req)
	if len(got) != len(want) {
		t.Fatalf("%d accesses, want %d", len(got), len(want))
	}
	for i := range want {
		g, w := got[i], want[i]
		if string(g.Start) != string(w.Start) || string(g.End) != string(w.End) ||
			g.Write != w.Write || g.NeedValues != w.NeedValues || g.Revision != w.Revision {
			t.Errorf("access %d: %+v, want %+v", i, g, w)
		}
	}
	if IsReadOnly(req) || !IsReadOnly(then(rangeOp(&pb.RangeRequest{}), nested())) || IsReadOnly(then(nested(delKeys("a", "")))) {
		t.Error("IsReadOnly is wrong")
	}
	stale := rangeOp(&pb.RangeRequest{Serializable: true})
	if !IsSerializable(then(stale)) || IsSerializable(then(stale, rangeOp(&pb.RangeRequest{}))) || IsSerializable(then(stale, nested())) {
		t.Error("IsSerializable is wrong")
	}
}
