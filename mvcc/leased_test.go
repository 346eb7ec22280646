package mvcc

import (
	"encoding/binary"
	"errors"
	"math/rand"
	"testing"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/internal/keys"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// The leased rows are those of the live keys with a lease, whatever was done.
func TestLeasedRows(t *testing.T) {
	for seed := range int64(40) {
		w := randomWorld(t, rand.New(rand.NewSource(seed)), 120)
		want := make(map[string]int64)
		for _, row := range w.live(nil, nil, Latest) {
			if row.Lease != 0 {
				want[string(row.Key)] = row.Lease
			}
		}
		span := keys.LeasedSpan(keys.UserSpan(nil, nil))
		it, err := w.eng.NewIter(engine.IterOptions{Lower: span.Start, Upper: span.End})
		must(t, err)
		for ok := it.First(); ok; ok = it.Next() {
			key, err := keys.DecodeLeased(it.Key())
			must(t, err)
			value, err := it.Value()
			must(t, err)
			if got := int64(binary.BigEndian.Uint64(value)); got != want[string(key)] {
				t.Errorf("seed %d: %q has a row of lease %d, want %d", seed, key, got, want[string(key)])
			}
			delete(want, string(key))
		}
		must(t, it.Close())
		if len(want) != 0 {
			t.Errorf("seed %d: no row for %v", seed, want)
		}
	}
}

// A lease that is not known stops an evaluation where it is met, in etcd's order.
func TestUnknownLease(t *testing.T) {
	w := newWorld(t)
	st := NewEngineState(w.eng, nil, nil)
	defer func() { must(t, st.Close()) }()
	env := w.env()
	env.Lease = func(id int64, _ []byte) LeaseState { return LeaseState(id) }
	absent := putOp(&pb.PutRequest{Key: []byte("a"), Lease: int64(LeaseAbsent) + 10})
	unknown := putOp(&pb.PutRequest{Key: []byte("b"), Lease: int64(LeaseUnknown)})
	future := rangeOp(&pb.RangeRequest{Key: []byte("c"), Revision: 99})
	for _, tc := range []struct {
		ops  []*pb.RequestOp
		want error
	}{
		{[]*pb.RequestOp{unknown, absent}, ErrLeaseUnknown},
		{[]*pb.RequestOp{absent, unknown}, ErrLeaseNotFound},
		{[]*pb.RequestOp{future, unknown}, ErrFutureRevision},
	} {
		if _, err := Evaluate(st, env, &pb.TxnRequest{Success: tc.ops}); !errors.Is(err, tc.want) {
			t.Errorf("%v: %v, want %v", tc.ops, err, tc.want)
		}
	}
	got := Leases(&pb.TxnRequest{Success: []*pb.RequestOp{unknown}, Failure: []*pb.RequestOp{txnOp(&pb.TxnRequest{Success: []*pb.RequestOp{absent}})}})
	if len(got) != 2 || got[0].Lease != int64(LeaseUnknown) || string(got[1].Key) != "a" {
		t.Errorf("leases %v", got)
	}
}
