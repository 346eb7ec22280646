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
		t.Run(fmt.Sprintf("seed=%d", s), func(t *testing.T) {
			t.Parallel() // each has servers of its own
			f(t, Run{Seed: s, Requests: *requests})
		})
	}
}

// The oracle of all other tests is held against the real thing.
func TestModelAgainstEtcd(t *testing.T) {
	eachSeed(t, func(t *testing.T, r Run) {
		o, err := newOracle()
		if err != nil {
			t.Fatal(err)
		}
		etcd := newRemote(dial(t, startEtcd(t)))
		r.watch = watch(t, r.Seed, map[string]*remote{"etcd": etcd})
		if err := r.compare(t.Context(), etcd, o); err != nil {
			t.Fatal(err)
		}
		if r.Requests >= 1000 {
			r.watch.sawEverything(t)
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
	r.watch = watch(t, r.Seed, map[string]*remote{"one": a, "other": b})
	if err := r.compare(t.Context(), a, b); err != nil {
		t.Fatal(err)
	}
}

func watch(t *testing.T, seed uint64, servers map[string]*remote) *watching {
	t.Helper()
	w, err := newWatching(t.Context(), seed, servers)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// sawEverything asks for what a run must have met, or it compares little.
func (w *watching) sawEverything(t *testing.T) {
	t.Helper()
	for _, what := range []string{
		"", "events", "canceled", "unknown", "compacted", "mvcc: watcher range is empty",
		"mvcc: duplicate watch ID provided on the WatchStream", "etcdserver: mvcc: required revision has been compacted",
	} {
		if w.seen[what] == 0 {
			t.Errorf("never met: %q; met: %v", what, w.seen)
		}
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
		"lease forgotten by a put": func(_ any, resp proto.Message, err error) (proto.Message, error) {
			if r, ok := resp.(*pb.RangeResponse); ok {
				for _, kv := range r.Kvs {
					kv.Lease = 0
				}
			}
			return resp, err
		},
		"a key of a lease not listed": func(_ any, resp proto.Message, err error) (proto.Message, error) {
			if r, ok := resp.(*pb.LeaseTimeToLiveResponse); ok && len(r.Keys) > 1 {
				r.Keys = r.Keys[1:]
			}
			return resp, err
		},
		"short TTL not raised": func(req any, resp proto.Message, err error) (proto.Message, error) {
			if r, ok := resp.(*pb.LeaseGrantResponse); ok {
				r.TTL = min(r.TTL, req.(*pb.LeaseGrantRequest).TTL)
			}
			return resp, err
		},
		"revoke of an unknown lease let pass": func(req any, resp proto.Message, err error) (proto.Message, error) {
			if _, ok := req.(*pb.LeaseRevokeRequest); ok && err != nil {
				return &pb.LeaseRevokeResponse{}, nil
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
			if err := (Run{Seed: 1, Requests: 6000}).compare(t.Context(), a, b); err == nil {
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
