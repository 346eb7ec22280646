package difftest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/flotilladb/flotilla/internal/model"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
)

// requestTimeout is far above what any request takes: reaching it is a hang.
const requestTimeout = 30 * time.Second

// Run is one sequence of requests.
type Run struct {
	Seed     uint64
	Requests int
	// between is called before every request with numbers of its own, so that
	// what it does leaves the requests of a seed as they are.
	between func(ctx context.Context, rng *rand.Rand, g *model.Generator) error
	// watch, if not nil, watches beside the requests.
	watch *watching
}

// shortTTL is a TTL, in seconds, that may run out before the run is over. Such a
// lease is revoked at once, as nobody knows when it would go.
const shortTTL = 600

// generatorConfig draws leases too, but none that run out.
func generatorConfig() model.GeneratorConfig {
	cfg := model.DefaultGeneratorConfig()
	cfg.LeasePercent, cfg.LeaseTTLLow, cfg.LeaseTTLHigh = 12, shortTTL, 100_000
	return cfg
}

// compare sends the requests of a seed to both targets and returns the first
// difference, or nil. Every hundredth request, and at the end, all that either
// target holds is compared.
func (r Run) compare(ctx context.Context, a, b target) error {
	g, err := model.NewGenerator(generatorConfig(), rand.New(rand.NewPCG(r.Seed, 1)))
	if err != nil {
		return err
	}
	side := rand.New(rand.NewPCG(r.Seed, 2))
	known, err := newOracle()
	if err != nil {
		return err
	}
	for i := range r.Requests {
		if r.between != nil {
			if err := r.between(ctx, side, g); err != nil {
				return fmt.Errorf("seed %d, before request %d: %w", r.Seed, i, err)
			}
		}
		req := g.Next(known.state)
		if err := r.watched(ctx, i, req, g, known, a, b); err != nil {
			return err
		}
		if l, ok := req.(*pb.LeaseGrantRequest); ok && l.ID != 0 && l.TTL < shortTTL {
			if err := r.watched(ctx, i, &pb.LeaseRevokeRequest{ID: l.ID}, g, known, a, b); err != nil {
				return err
			}
		}
		if i%100 == 99 || i == r.Requests-1 {
			all := &pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}}
			if err := r.step(ctx, i, all, a, b); err != nil {
				return err
			}
		}
	}
	if r.watch != nil {
		return r.watch.end(ctx, known.state)
	}
	return nil
}

// watched makes one step, and lets the watches see it.
func (r Run) watched(ctx context.Context, i int, req any, g *model.Generator, known *oracle, a, b target) error {
	if r.watch != nil {
		if err := r.watch.before(ctx, req, g, known.state); err != nil {
			return fmt.Errorf("seed %d, before request %d: %w", r.Seed, i, err)
		}
	}
	if err := r.step(ctx, i, req, a, b); err != nil {
		return err
	}
	// The state that the generator draws from; its answers are not used.
	_, _ = known.do(ctx, req)
	if r.watch != nil {
		r.watch.after(known.state)
	}
	return nil
}

// step sends one request to both at the same time.
func (r Run) step(ctx context.Context, i int, req any, a, b target) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	type answer struct {
		resp proto.Message
		err  error
	}
	first := make(chan answer, 1)
	go func() {
		resp, err := a.do(ctx, copied(req))
		first <- answer{resp, err}
	}()
	respB, errB := b.do(ctx, copied(req))
	ans := <-first
	if diff := model.Equal(req, ans.resp, respB, ans.err, errB); diff != "" {
		return fmt.Errorf("seed %d, request %d: %T %s\n%s", r.Seed, i, req, text(req), diff)
	}
	return nil
}

// copied keeps what an in-process target may keep or change apart.
func copied(req any) any {
	if s, ok := req.(model.Stream); ok {
		return model.Stream{Range: proto.CloneOf(s.Range)}
	}
	return proto.Clone(req.(proto.Message))
}

func text(req any) string {
	if s, ok := req.(model.Stream); ok {
		req = s.Range
	}
	out := prototext.MarshalOptions{}.Format(req.(proto.Message))
	if len(out) > 4000 {
		return out[:4000] + "..."
	}
	return out
}
