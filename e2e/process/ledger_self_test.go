package process

import (
	"context"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/flotilladb/flotilla/internal/model"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
)

// memory is a node made of the model, for faults to be planted in.
type memory struct {
	pb.KVClient
	state *model.State
}

func newMemory(t *testing.T) *memory {
	t.Helper()
	s, err := model.New(model.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	return &memory{state: s}
}

func (m *memory) Range(_ context.Context, r *pb.RangeRequest, _ ...grpc.CallOption) (*pb.RangeResponse, error) {
	_, resp, err := model.Step(m.state, r)
	if err != nil {
		return nil, err
	}
	return resp.(*pb.RangeResponse), nil
}

func (m *memory) Put(_ context.Context, r *pb.PutRequest, _ ...grpc.CallOption) (*pb.PutResponse, error) {
	next, resp, err := model.Step(m.state, r)
	m.state = next
	if err != nil {
		return nil, err
	}
	return resp.(*pb.PutResponse), nil
}

func (m *memory) Txn(_ context.Context, r *pb.TxnRequest, _ ...grpc.CallOption) (*pb.TxnResponse, error) {
	next, resp, err := model.Step(m.state, r)
	m.state = next
	if err != nil {
		return nil, err
	}
	return resp.(*pb.TxnResponse), nil
}

// What a broken restart could do to a node, and whether the ledger sees it.
func TestLedgerFindsFaults(t *testing.T) {
	for _, c := range []struct {
		name  string
		fault func(m *memory, before *model.State)
		want  string
	}{
		{"none", func(*memory, *model.State) {}, ""},
		{"the last write is lost", func(m *memory, before *model.State) { m.state = before }, "revision went back"},
		{"the last write is lost, its revision is not", func(m *memory, before *model.State) {
			m.state = before
			put(m, "elsewhere", "")
		}, "was answered"},
		{"half a transaction", func(m *memory, _ *model.State) { put(m, "a/03", "4") }, "half a transaction"},
		{"a number that nobody sent", func(m *memory, _ *model.State) { put(m, "a/03", "99") }, "was sent"},
		{"a key is gone", func(m *memory, _ *model.State) {
			m.state, _, _ = model.Step(m.state, &pb.DeleteRangeRequest{Key: []byte("z/03")})
		}, "for both keys"},
		{"the past is gone", func(m *memory, _ *model.State) {
			*m = memory{state: mustState()}
			for range 60 {
				put(m, "elsewhere", "")
			}
			m.state, _, _ = model.Step(m.state, &pb.TxnRequest{Success: []*pb.RequestOp{
				{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte("a/03"), Value: []byte("4")}}},
				{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte("z/03"), Value: []byte("4")}}},
			}})
		}, "found []"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, l := newMemory(t), newLedger()
			before := m.state
			for range 4 {
				before = m.state
				if !l.write(m, 3) {
					t.Fatal("the model refused a write")
				}
			}
			c.fault(m, before)
			err := l.check(t.Context(), m, rand.New(rand.NewPCG(1, 1)))
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Fatalf("found %v, want %q", err, c.want)
			}
		})
	}
}

// A revision that is given twice is found without any restart.
func TestLedgerFindsReusedRevision(t *testing.T) {
	m, l := newMemory(t), newLedger()
	before := m.state
	l.write(m, 1)
	m.state = before
	l.write(m, 2)
	if err := l.check(t.Context(), m, rand.New(rand.NewPCG(1, 1))); err == nil || !strings.Contains(err.Error(), "was given to") {
		t.Fatalf("found %v", err)
	}
}

func mustState() *model.State {
	s, err := model.New(model.DefaultLimits())
	if err != nil {
		panic(err)
	}
	return s
}

func put(m *memory, key, value string) {
	m.state, _, _ = model.Step(m.state, &pb.PutRequest{Key: []byte(key), Value: []byte(value)})
}
