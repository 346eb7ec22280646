package node

import (
	"fmt"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/range"
	"github.com/flotilladb/flotilla/router"
)

// countingReader counts the moves of its iterators.
type countingReader struct {
	engine.Reader
	moves *int
}

type countingIterator struct {
	engine.Iterator
	moves *int
}

func (r countingReader) NewIter(opts engine.IterOptions) (engine.Iterator, error) {
	it, err := r.Reader.NewIter(opts)
	return countingIterator{it, r.moves}, err
}

func (it countingIterator) SeekGE(key []byte) bool { *it.moves++; return it.Iterator.SeekGE(key) }
func (it countingIterator) NextPrefix() bool       { *it.moves++; return it.Iterator.NextPrefix() }
func (it countingIterator) Next() bool             { *it.moves++; return it.Iterator.Next() }

// largeRun drives a core that deletes many keys, and notes the largest turn.
type largeRun struct {
	*coreRun
	moves   int // of iterators
	largest int // sum of both
}

// turn is one of the loop; the disk ends what it has to do meanwhile.
func (r *largeRun) turn() {
	if r.eng.PendingSyncs() > 0 {
		r.eng.CompleteSync(1)
	}
	r.moves, r.applied = 0, 0
	r.step()
	r.largest = max(r.largest, r.moves+r.applied)
}

// A delete of many keys, in one range or over two, with what it shows or without,
// in a transaction or alone, is done in turns of bounded work. Other writes go on
// meanwhile.
func TestLargeDeleteInSmallTurns(t *testing.T) {
	const keys, keysMax = 3000, 50
	span := pb.DeleteRangeRequest{Key: []byte("k"), RangeEnd: []byte("l")}
	prev := pb.DeleteRangeRequest{Key: span.Key, RangeEnd: span.RangeEnd, PrevKv: true}
	txn := &pb.TxnRequest{Success: []*pb.RequestOp{
		{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte("x")}}},
		{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: &span}},
	}}
	for _, req := range []any{&span, &prev, txn} {
		for _, splits := range []bool{false, true} {
			t.Run(fmt.Sprintf("%T split=%v", req, splits), func(t *testing.T) {
				r := &largeRun{}
				r.coreRun = newCoreRunOn(t, CoreConfig{Ranges: ranges.Config{EntryKeysMax: keysMax}},
					func(e engine.Reader) engine.Reader { return countingReader{e, &r.moves} })
				r.fill(keys)
				if splits {
					r.request(&router.SplitRequest{Key: []byte("k1500")})
					r.run()
				}
				r.delete(t, req, keys)
				// A page, a piece, and what is applied of the one before.
				if r.largest > 4*keysMax {
					t.Errorf("the largest turn has %d moves and changes, want at most %d", r.largest, 4*keysMax)
				}
				if r.largest < keysMax {
					t.Errorf("the largest turn has %d moves and changes: nothing was counted", r.largest)
				}
				// Now all keys are dead: to look at these takes turns as well.
				r.largest = 0
				id := r.request(&span)
				for r.results[id].Resp == nil {
					r.turn()
				}
				if got := r.results[id].Resp.(*pb.DeleteRangeResponse).Deleted; got != 0 || r.largest > 20*keysMax {
					t.Errorf("deletes %d keys once more, the largest turn has %d moves", got, r.largest)
				}
			})
		}
	}
}

func (r *largeRun) fill(n int) {
	for i := range n {
		r.request(&pb.PutRequest{Key: fmt.Appendf(nil, "k%04d", i), Value: []byte("value")})
	}
	r.run()
}

// delete runs a request, with a put of another key under way at any time.
func (r *largeRun) delete(t *testing.T, req any, keys int) {
	first := r.core.Current()
	id := r.request(req)
	put, turns, longest, puts := uint64(0), 0, 0, 0
	for round := 0; ; round++ {
		if round > 10000 {
			t.Fatal("the delete does not end")
		}
		if _, ok := r.results[put]; ok || put == 0 {
			longest, turns = max(longest, turns), 0
			if r.results[id].Resp != nil && r.core.router.Len() == 0 {
				break
			}
			put = r.request(&pb.PutRequest{Key: []byte("other")})
			puts++
		}
		r.turn()
		turns++
	}
	res := r.results[id]
	resp, _ := res.Resp.(*pb.DeleteRangeResponse)
	if txn, ok := res.Resp.(*pb.TxnResponse); ok {
		resp = txn.Responses[1].GetResponseDeleteRange()
	}
	if resp == nil || resp.Deleted != int64(keys) {
		t.Fatalf("%v, %v", res.Resp, res.Err)
	}
	if del, ok := req.(*pb.DeleteRangeRequest); ok && del.PrevKv && (len(resp.PrevKvs) != keys || string(resp.PrevKvs[7].Value) != "value") {
		t.Fatalf("%d previous keys", len(resp.PrevKvs))
	}
	if longest > 8 || puts < 10 {
		t.Errorf("%d puts meanwhile, the longest took %d turns", puts, longest)
	}
	if got := r.core.Current() - first; int(got) != puts+1 {
		t.Errorf("%d revisions for %d writes", got, puts+1)
	}
}
