package router

import (
	"math/rand"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/flotilladb/flotilla/internal/clock"
	"github.com/flotilladb/flotilla/placement"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/peerpb"
)

// randomReply is what a range might say, or nothing at all.
func randomReply(rng *rand.Rand, req *peerpb.Request) (peerpb.Reply, bool) {
	rep := peerpb.Reply{ID: req.ID}
	switch rng.Intn(8) {
	case 0:
		return rep, false
	case 1:
		errs := []error{peerpb.ErrUnknown, peerpb.ErrNotLeader, peerpb.ErrRefused, peerpb.ErrDiskFull, peerpb.ErrRangeNotFound}
		rep.Err = errs[rng.Intn(len(errs))]
		return rep, true
	case 2:
		cut := string(rune('b' + rng.Intn(10)))
		gen := req.Generation + uint64(rng.Intn(2))
		rep.Err = &peerpb.MovedError{Newer: []*metapb.Descriptor{desc(2, gen, "l", "u"+cut), desc(3, gen, "u"+cut, "")}}
		return rep, true
	}
	switch b := req.Body.(type) {
	case *peerpb.Write:
		rep.Body = &pb.PutResponse{}
	case *peerpb.Split:
		rep.Body = &peerpb.SplitDone{}
	case *peerpb.System:
		rep.Body = &peerpb.Done{}
		if _, ok := b.Op.(*placement.AllocIDsOp); ok {
			rep.Body = &placement.AllocIDsReply{First: 9}
		}
	default:
		rep.Body = &peerpb.Done{}
	}
	return rep, true
}

// Whatever ranges answer, late, twice or never, every client gets exactly one
// result, a write whose outcome is unknown is sent no more, and nothing is left
// behind.
func TestEveryRequestHasOneResult(t *testing.T) {
	for seed := range int64(60) {
		rng := rand.New(rand.NewSource(seed))
		r, _ := New(Config{Store: 1, RequestTimeout: time.Second})
		r.Descriptors([]*metapb.Descriptor{desc(1, 1, "", "l"), desc(2, 1, "l", "")})
		results := make(map[uint64]int)
		var now clock.Time
		var next uint64
		var pending, seen []peerpb.Reply
		unknown := make(map[*pb.PutRequest]bool)
		drain := func() {
			rd := r.Ready()
			for _, req := range rd.Sends {
				put, _ := req.Body.(*peerpb.Write)
				if put != nil && unknown[put.Req.(*pb.PutRequest)] {
					t.Fatalf("seed %d: a put of unknown outcome was sent again", seed)
				}
				rep, ok := randomReply(rng, req)
				if ok {
					pending = append(pending, rep)
				}
				if put != nil && (!ok || rep.Err == peerpb.ErrUnknown) {
					unknown[put.Req.(*pb.PutRequest)] = true
				}
			}
			for _, ask := range rd.Asks {
				if rng.Intn(4) > 0 {
					r.Granted(placement.Answer{Name: ask.Name, First: 7}, now)
				}
			}
			for _, res := range rd.Results {
				results[res.ID]++
			}
		}
		for range 300 {
			switch rng.Intn(4) {
			case 0, 1:
				next++
				reqs := []any{
					&pb.PutRequest{Key: randomKey(rng)}, &pb.PutRequest{Key: randomKey(rng)},
					&CloseTicket{S: 5, Span: metapb.Span{Start: []byte("u")}}, &SplitRequest{Key: randomKey(rng)},
					&pb.CompactionRequest{}, &SystemRequest{Op: &placement.AlarmOp{}},
					&AddressRequest{Address: []byte("ua"), Body: &peerpb.Push{}}, "nonsense",
				}
				r.Request(next, reqs[rng.Intn(len(reqs))], now)
			case 2:
				if len(pending) > 0 {
					i := rng.Intn(len(pending))
					rep := pending[i]
					pending = append(pending[:i], pending[i+1:]...)
					seen = append(seen, rep)
					r.Reply(rep, now)
				}
				if len(seen) > 0 && rng.Intn(3) == 0 {
					r.Reply(seen[rng.Intn(len(seen))], now) // a second time
				}
			default:
				now = now.Add(time.Duration(rng.Intn(50)) * time.Millisecond)
				r.Tick(now)
			}
			drain()
		}
		for r.Len() > 0 {
			if r.NextTick() == 0 {
				t.Fatalf("seed %d: %d operations wait for nothing", seed, r.Len())
			}
			now = max(now, r.NextTick())
			r.Tick(now)
			drain()
		}
		for id := uint64(1); id <= next; id++ {
			if results[id] != 1 {
				t.Fatalf("seed %d: request %d has %d results", seed, id, results[id])
			}
		}
		if len(r.slots) != len(r.free) {
			t.Fatalf("seed %d: %d slots are left", seed, len(r.slots)-len(r.free))
		}
	}
}

// A put costs the request that the range gets, and nothing else.
func TestPutAllocatesOnce(t *testing.T) {
	r, _ := New(Config{Store: 1})
	r.Descriptors([]*metapb.Descriptor{desc(2, 1, "l", "um"), desc(3, 1, "um", "")})
	var reqs [2]any = [2]any{&pb.PutRequest{Key: []byte("a")}, &pb.PutRequest{Key: []byte("z")}}
	var resp any = &pb.PutResponse{}
	i := 0
	if n := testing.AllocsPerRun(1000, func() {
		i++
		r.Request(1, reqs[i%2], 1)
		r.Reply(peerpb.Reply{ID: r.Ready().Sends[0].ID, Body: resp}, 1)
		r.Ready()
	}); n > 1 {
		t.Fatalf("%v allocations", n)
	}
}
