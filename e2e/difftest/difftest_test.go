package difftest

import (
	"context"
	"flag"
	"fmt"
	"strings"
	"testing"

	"github.com/flotilladb/flotilla/internal/model"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

var (
	seeds    = flag.Int("seeds", 2, "number of seeds")
	seed     = flag.Uint64("seed", 0, "run this seed alone")
	requests = flag.Int("requests", 2000, "requests of each seed")
)

// eachSeed runs a test for every seed that was asked for.
func eachSeed(t *testing.T, f func(t *testing.T, r Run)) {
	from, to := uint64(1), uint64(*seeds)
	if *seed != 0 {
		from, to = *seed, *seed
	}
	for s := from; s <= to; s++ {
		t.Run(fmt.Sprintf("seed=%d", s), func(t *testing.T) { f(t, Run{Seed: s, Requests: *requests}) })
	}
}

// The oracle of all other tests is held against the real thing.
func TestModelAgainstEtcd(t *testing.T) {
	eachSeed(t, func(t *testing.T, r Run) {
		o, err := newOracle()
		if err != nil {
			t.Fatal(err)
		}
		if err := r.compare(t.Context(), newRemote(dial(t, startEtcd(t))), o); err != nil {
			t.Fatal(err)
		}
	})
}

// Two etcds must not differ, or the comparison asks for what etcd leaves open.
func TestEtcdAgainstEtcd(t *testing.T) {
	r := Run{Seed: 1000, Requests: min(*requests, 2000)}
	a, b := newRemote(dial(t, startEtcd(t))), newRemote(dial(t, startEtcd(t)))
	for i, req := range corners() {
		if err := r.step(t.Context(), i, req, a, b); err != nil {
			t.Fatal(err)
		}
	}
	r.Seed++
	a, b = newRemote(dial(t, startEtcd(t))), newRemote(dial(t, startEtcd(t)))
	if err := r.compare(t.Context(), a, b); err != nil {
		t.Fatal(err)
	}
}

// spoiled is the model with one fault.
type spoiled struct {
	oracle
	fault func(req any, resp proto.Message, err error) (proto.Message, error)
}

func (s *spoiled) do(ctx context.Context, req any) (proto.Message, error) {
	resp, err := s.oracle.do(ctx, req)
	return s.fault(req, proto.Clone(resp), err)
}

// A comparison that finds nothing must be able to find something: small faults
// of the kind that a server could have.
func TestPlantedDifferenceIsFound(t *testing.T) {
	faults := map[string]func(req any, resp proto.Message, err error) (proto.Message, error){
		"count after the limit": func(req any, resp proto.Message, err error) (proto.Message, error) {
			if r, ok := resp.(*pb.RangeResponse); ok && r.More {
				r.Count = int64(len(r.Kvs))
			}
			return resp, err
		},
		"header of a read at the read's revision": func(req any, resp proto.Message, err error) (proto.Message, error) {
			if r, ok := resp.(*pb.RangeResponse); ok && req.(interface{ GetRevision() int64 }).GetRevision() > 0 {
				r.Header.Revision = req.(interface{ GetRevision() int64 }).GetRevision()
			}
			return resp, err
		},
		"previous pair forgotten in a transaction": func(req any, resp proto.Message, err error) (proto.Message, error) {
			if r, ok := resp.(*pb.TxnResponse); ok {
				for _, op := range r.Responses {
					if p := op.GetResponsePut(); p != nil {
						p.PrevKv = nil
					}
				}
			}
			return resp, err
		},
		"message of an error": func(req any, resp proto.Message, err error) (proto.Message, error) {
			if status.Code(err) == codes.OutOfRange {
				err = status.Error(codes.OutOfRange, strings.TrimPrefix(status.Convert(err).Message(), "etcdserver: "))
			}
			return resp, err
		},
		"nested header filled": func(req any, resp proto.Message, err error) (proto.Message, error) {
			if r, ok := resp.(*pb.TxnResponse); ok {
				for _, op := range r.Responses {
					if n := op.GetResponseTxn(); n != nil {
						n.Header = r.Header
					}
				}
			}
			return resp, err
		},
		"delete of nothing takes a revision": func(req any, resp proto.Message, err error) (proto.Message, error) {
			if r, ok := resp.(*pb.DeleteRangeResponse); ok && r.Deleted == 0 {
				r.Header.Revision++
			}
			return resp, err
		},
	}
	for name, fault := range faults {
		t.Run(name, func(t *testing.T) {
			a, err := newOracle()
			if err != nil {
				t.Fatal(err)
			}
			b := &spoiled{fault: withStream(fault)}
			b.state = a.state
			if err := (Run{Seed: 1, Requests: 2000}).compare(t.Context(), a, b); err == nil {
				t.Fatal("the fault was not found")
			} else {
				t.Log(err)
			}
		})
	}
}

// withStream shows a fault the plain request of a stream.
func withStream(fault func(any, proto.Message, error) (proto.Message, error)) func(any, proto.Message, error) (proto.Message, error) {
	return func(req any, resp proto.Message, err error) (proto.Message, error) {
		if s, ok := req.(model.Stream); ok {
			req = s.Range
		}
		if err != nil {
			resp = nil
		}
		return fault(req, resp, err)
	}
}
