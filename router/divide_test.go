package router

import (
	"bytes"
	"errors"
	"math/rand"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/mvcc"
	"github.com/flotilladb/flotilla/proto/metapb"
)

// randomCache is a cache of ranges that tile the keyspace, with a gap if asked.
func randomCache(rng *rand.Rand, gap bool) *Cache {
	c := newCache()
	cuts := []string{""}
	for b := 'a'; b <= 'p'; b++ {
		if rng.Intn(2) == 0 {
			cuts = append(cuts, string(b))
		}
	}
	cuts = append(cuts, "")
	hole := -1
	if gap {
		hole = rng.Intn(len(cuts) - 1)
	}
	for i := range cuts[1:] {
		if i != hole {
			c.Insert(desc(uint64(i+1), 1, cuts[i], cuts[i+1]))
		}
	}
	return c
}

// The pieces of a span tile it: each inside its range, without gap or overlap,
// from end to end. With a gap in the cache it is an error, never a piece less.
func TestDivideTiles(t *testing.T) {
	rng := rand.New(rand.NewSource(2))
	gaps := 0
	for range 3000 {
		c := randomCache(rng, rng.Intn(4) == 0)
		s, e := randomSpan(rng)
		span := metapb.Span{Start: []byte(s), End: []byte(e)}
		pieces, err := divide(c, nil, span)
		at := span.Start
		for _, p := range pieces {
			if !bytes.Equal(p.span.Start, at) || !p.desc.Span().ContainsSpan(p.span) {
				t.Fatalf("span [%q,%q): piece [%q,%q) of range [%q,%q) after %q", s, e,
					p.span.Start, p.span.End, p.desc.Start, p.desc.End, at)
			}
			at = p.span.End
		}
		if err != nil {
			if gaps++; !errors.Is(err, ErrNoRange) || c.Lookup(at) != nil {
				t.Fatalf("span [%q,%q): %v at %q, which the cache knows", s, e, err, at)
			}
			continue
		}
		if !bytes.Equal(at, span.End) {
			t.Fatalf("span [%q,%q): the pieces end at %q", s, e, at)
		}
	}
	if gaps == 0 {
		t.Fatal("no gap was ever met")
	}
}

func randomKey(rng *rand.Rand) []byte { return []byte{byte('a' + rng.Intn(16))} }

func randomEnd(rng *rand.Rand) []byte {
	switch rng.Intn(4) {
	case 0, 1:
		return nil
	case 2:
		return []byte{0}
	}
	return randomKey(rng)
}

func randomOps(rng *rand.Rand, depth int) (ops []*pb.RequestOp) {
	for range rng.Intn(3) {
		key, end := randomKey(rng), randomEnd(rng)
		op := &pb.RequestOp{}
		switch rng.Intn(5) {
		case 0:
			op.Request = &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: key, RangeEnd: end}}
		case 1:
			op.Request = &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: &pb.DeleteRangeRequest{Key: key, RangeEnd: end}}
		case 2:
			if depth > 0 {
				op.Request = &pb.RequestOp_RequestTxn{RequestTxn: randomTxn(rng, depth-1)}
			}
		default:
			op.Request = &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: key}}
		}
		ops = append(ops, op)
	}
	return ops
}

func randomTxn(rng *rand.Rand, depth int) *pb.TxnRequest {
	req := &pb.TxnRequest{Success: randomOps(rng, depth), Failure: randomOps(rng, depth)}
	for range rng.Intn(2) {
		req.Compare = append(req.Compare, &pb.Compare{Key: randomKey(rng), RangeEnd: randomEnd(rng)})
	}
	return req
}

// oneRange finds what its twin finds by cutting the footprint of the request.
func TestOneRangeAgainstFootprint(t *testing.T) {
	rng := rand.New(rand.NewSource(3))
	one, several := 0, 0
	for range 5000 {
		r, _ := New(Config{Store: 1})
		cut := string(keys.User(randomKey(rng)))
		r.Descriptors([]*metapb.Descriptor{desc(1, 1, "", cut), desc(2, 1, cut, "")})
		var req proto.Message = randomTxn(rng, 2)
		if rng.Intn(4) == 0 {
			req = &pb.DeleteRangeRequest{Key: randomKey(rng), RangeEnd: randomEnd(rng)}
		}
		want := make(map[uint64]bool)
		for _, a := range mvcc.Footprint(req) {
			span := keys.UserSpan(a.Start, a.End)
			if len(a.End) != 0 && bytes.Compare(a.Start, a.End) >= 0 {
				continue
			}
			pieces, err := divide(r.cache, nil, span)
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range pieces {
				want[p.desc.RangeId] = true
			}
		}
		got, err := r.oneRange(req)
		switch {
		case err != nil:
			t.Fatal(err)
		case got == nil && len(want) < 2, got != nil && len(want) > 1,
			got != nil && len(want) == 1 && !want[got.RangeId]:
			t.Fatalf("cut at %q: %v: range %v, want one of %v", cut, req, got, want)
		case got == nil:
			several++
		default:
			one++
		}
	}
	if one == 0 || several == 0 {
		t.Fatalf("%d requests for one range, %d for several", one, several)
	}
}
