package router

import (
	"context"
	"errors"
	"fmt"
	"math/rand"
	"slices"
	"testing"
	"testing/synctest"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/mvcc"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/peerpb"
)

// fakeNode is a Local whose ranges, revisions and readiness a test sets. Its
// core answers CloseTickets by making everything ready, and nothing else.
type fakeNode struct {
	t         *testing.T
	mem       *engine.Mem
	current   metapb.Revision
	compacted metapb.Revision
	cuts      []string // addresses; the ranges are between them
	gen       uint64
	ready     bool
	away      bool // no range has a replica here
	tickets   int
	counts    int
	submit    func(*Call) error // nil: as said above
	onValid   func()            // called once, before the next check
}

func newFakeNode(t *testing.T, cuts ...string) *fakeNode {
	mem := engine.NewMem()
	t.Cleanup(func() { mem.Close() })
	return &fakeNode{t: t, mem: mem, current: 1, compacted: -1, cuts: cuts, gen: 1, ready: true}
}

func (n *fakeNode) Current() (current, compacted metapb.Revision) { return n.current, n.compacted }
func (n *fakeNode) Reader() engine.Reader                         { return n.mem }

func (n *fakeNode) Direct() bool { return true }

func (n *fakeNode) Leaderless() bool { return false }

func (n *fakeNode) Pieces(dst []Piece, span metapb.Span, _ metapb.Revision) []Piece {
	cuts := append(append([]string{""}, n.cuts...), "")
	for i := range cuts[1:] {
		d := metapb.Span{Start: []byte(cuts[i]), End: []byte(cuts[i+1])}
		if part, ok := d.Intersect(span); ok {
			piece := Piece{Range: metapb.RangeID(i + 1), Generation: n.gen, Span: part, Ready: n.ready}
			if n.away {
				piece = Piece{Span: part}
			}
			dst = append(dst, piece)
		}
	}
	return dst
}

func (n *fakeNode) Valid(p Piece, rev metapb.Revision) bool {
	if f := n.onValid; f != nil {
		n.onValid = nil
		f()
	}
	held := n.Pieces(nil, metapb.Span{Start: p.Span.Start, End: append(slices.Clone(p.Span.Start), 0)}, rev)
	return held[0].Range == p.Range && p.Generation == n.gen && rev >= n.compacted
}

func (n *fakeNode) Submit(c *Call) error {
	if n.submit != nil {
		return n.submit(c)
	}
	switch c.Req.(type) {
	case *CloseTicket:
		n.tickets++
		n.ready = true
	default:
		c.Err = ErrBadRequest
	}
	c.Done <- struct{}{}
	return nil
}

func (n *fakeNode) Count(start, end []byte, rev metapb.Revision) (count int64, err error) {
	n.counts++
	st := mvcc.NewEngineStateAt(n.mem, nil, nil, rev)
	defer st.Close()
	err = st.Scan(start, end, rev, func(*mvcc.Row) bool {
		count++
		return true
	})
	return count, err
}

// write evaluates and applies a request at the next revision.
func (n *fakeNode) write(req proto.Message) {
	st := mvcc.NewEngineState(n.mem, nil, nil)
	res, err := mvcc.Evaluate(st, mvcc.Env{Revision: n.current + 1, Known: n.current, Compacted: -1}, req)
	if err := errors.Join(err, st.Close()); err != nil {
		n.t.Fatal(err)
	}
	if !res.Changed {
		return
	}
	n.current++
	b := n.mem.NewBatch()
	for _, m := range res.Mutations {
		mvcc.AppendMutation(b, n.current, m)
	}
	if err := n.mem.Commit(b, true); err != nil {
		n.t.Fatal(err)
	}
}

func (n *fakeNode) put(key, value string) {
	n.write(&pb.PutRequest{Key: []byte(key), Value: []byte(value)})
}

func (n *fakeNode) client() *Client {
	c, err := NewClient(ClientConfig{Local: n, ChunkBytes: 300, PageBytesMax: 40, ReadTriesMax: 5})
	if err != nil {
		n.t.Fatal(err)
	}
	return c
}

// twin answers a range request out of one state, counting row by row.
func (n *fakeNode) twin(req *pb.RangeRequest) *pb.RangeResponse {
	st := mvcc.NewEngineStateAt(n.mem, nil, nil, n.current)
	defer st.Close()
	txn := &pb.TxnRequest{Success: []*pb.RequestOp{{Request: &pb.RequestOp_RequestRange{RequestRange: req}}}}
	res, err := mvcc.Evaluate(st, mvcc.Env{Revision: n.current + 1, Known: n.current, Compacted: n.compacted}, txn)
	if err != nil {
		n.t.Fatal(err)
	}
	return res.Response.(*pb.TxnResponse).Responses[0].GetResponseRange()
}

// A transaction's spans are checked together after all of them were read; each
// must still be its own. And a revision that is compacted is never read, so it
// must not make what was read look removed.
func TestReadTxnOverRanges(t *testing.T) {
	n := newFakeNode(t, "l", "ub", "ud", "uf")
	for _, key := range []string{"a", "c", "e", "g"} {
		n.put(key, "v")
	}
	n.compacted = 4
	get := func(key string, rev int64) *pb.RequestOp {
		return &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: []byte(key), Revision: rev}}}
	}
	taken := []*pb.RequestOp{get("g", 0), get("a", 0), get("e", 4), get("c", 0)}
	resp, err := n.client().Txn(t.Context(), &pb.TxnRequest{Success: taken, Failure: []*pb.RequestOp{get("a", 3)}})
	if err != nil {
		t.Fatal(err)
	}
	for i, op := range resp.Responses {
		if got := op.GetResponseRange().Count; got != 1 {
			t.Errorf("operation %d found %d keys", i, got)
		}
	}
	_, err = n.client().Txn(t.Context(), &pb.TxnRequest{Success: append(taken, get("a", 3))})
	if !errors.Is(err, mvcc.ErrCompacted) {
		t.Fatalf("answered %v, want compacted", err)
	}
}

func randomRange(rng *rand.Rand, current metapb.Revision) *pb.RangeRequest {
	req := &pb.RangeRequest{
		Key: randomKey(rng), RangeEnd: randomEnd(rng), KeysOnly: rng.Intn(4) == 0, CountOnly: rng.Intn(6) == 0,
		Limit: max(int64(rng.Intn(12)-4), 0),
	}
	if rng.Intn(2) == 0 {
		req.Key, req.RangeEnd = []byte{0}, []byte{0}
	}
	if rng.Intn(3) == 0 {
		req.Revision = 1 + rng.Int63n(int64(current))
	}
	return req
}

func randomOptions(rng *rand.Rand, req *pb.RangeRequest, current metapb.Revision) {
	if rng.Intn(3) == 0 {
		req.SortOrder = pb.RangeRequest_SortOrder(rng.Intn(3))
		req.SortTarget = []pb.RangeRequest_SortTarget{pb.RangeRequest_KEY, pb.RangeRequest_MOD}[rng.Intn(2)]
	}
	if rng.Intn(4) == 0 {
		req.MinModRevision = rng.Int63n(int64(current))
	}
	if rng.Intn(6) == 0 {
		req.MaxCreateRevision = rng.Int63n(int64(current))
	}
}

// filled is a node over some ranges with some history.
func filled(t *testing.T, rng *rand.Rand) *fakeNode {
	n := newFakeNode(t, "l", "ud", "ug", "uh", "um")
	for i := range 120 {
		key := fmt.Sprintf("%s%d", randomKey(rng), rng.Intn(3))
		if rng.Intn(3) == 0 {
			key = key[:1]
		}
		if rng.Intn(4) == 0 {
			n.write(&pb.DeleteRangeRequest{Key: []byte(key)})
			continue
		}
		n.put(key, fmt.Sprintf("value %d", i))
	}
	return n
}

// A range over pieces, page by page, is what one state says.
func TestRangeAgainstTwin(t *testing.T) {
	rng := rand.New(rand.NewSource(4))
	n := filled(t, rng)
	c := n.client()
	for range 3000 {
		req := randomRange(rng, n.current)
		randomOptions(rng, req, n.current)
		got, err := c.Range(context.Background(), proto.Clone(req).(*pb.RangeRequest))
		if err != nil {
			t.Fatalf("%v: %v", req, err)
		}
		if want := n.twin(req); !proto.Equal(got, want) {
			t.Fatalf("%v:\n got %v\nwant %v", req, got, want)
		}
	}
}

// All chunks together are the answer of a range, and each but the last has rows
// only.
func TestRangeStreamAgainstRange(t *testing.T) {
	rng := rand.New(rand.NewSource(5))
	n := filled(t, rng)
	c := n.client()
	chunked := 0
	for range 1000 {
		req := randomRange(rng, n.current)
		before := proto.Clone(req)
		merged := &pb.RangeResponse{}
		chunks := 0
		err := c.RangeStream(context.Background(), req, func(resp *pb.RangeResponse) error {
			if merged.Header != nil {
				t.Fatalf("%v: a chunk after the last", req)
			}
			if chunks == 0 && len(resp.Kvs) > firstChunkRows {
				t.Fatalf("%v: the first chunk has %d rows", req, len(resp.Kvs))
			}
			chunks++
			proto.Merge(merged, resp)
			return nil
		})
		if err != nil || !proto.Equal(before, req) {
			t.Fatalf("%v: %v (request %v)", before, err, req)
		}
		if want := n.twin(req); !proto.Equal(merged, want) {
			t.Fatalf("%v:\n got %v\nwant %v", req, merged, want)
		}
		if chunks > 1 {
			chunked++
		}
	}
	if chunked == 0 {
		t.Fatal("no answer came in chunks")
	}
}

// A target without an order is an order, as for a range.
func TestRangeStreamSorts(t *testing.T) {
	n := newFakeNode(t, "um")
	for i := range 30 {
		n.put(fmt.Sprintf("k%02d", i), fmt.Sprint(30-i))
	}
	req := &pb.RangeRequest{Key: []byte("k"), RangeEnd: []byte("l"), SortTarget: pb.RangeRequest_VALUE}
	merged := &pb.RangeResponse{}
	err := n.client().RangeStream(context.Background(), req, func(resp *pb.RangeResponse) error {
		proto.Merge(merged, resp)
		return nil
	})
	if want := n.twin(req); err != nil || !proto.Equal(merged, want) {
		t.Fatalf("%v\n got %v\nwant %v", err, merged, want)
	}
}

func TestRangeStreamIsPinned(t *testing.T) {
	n := newFakeNode(t, "um")
	for i := range 30 {
		n.put(fmt.Sprintf("k%02d", i), "v")
	}
	c := n.client()
	all := &pb.RangeRequest{Key: []byte("k"), RangeEnd: []byte("l")}
	before := n.twin(all)
	merged := &pb.RangeResponse{}
	err := c.RangeStream(context.Background(), all, func(resp *pb.RangeResponse) error {
		proto.Merge(merged, resp)
		n.put("k00x", "new")
		n.gen++ // and the ranges move
		return nil
	})
	if err != nil || !proto.Equal(merged, before) {
		t.Fatalf("%v\n got %v\nwant %v", err, merged, before)
	}
	// A compaction ends it: the chunks before were read at a revision that is gone.
	chunks := 0
	err = c.RangeStream(context.Background(), all, func(*pb.RangeResponse) error {
		chunks++
		n.put("k00x", "new")
		n.compacted = n.current
		return nil
	})
	if !errors.Is(err, mvcc.ErrCompacted) || chunks != 1 {
		t.Fatalf("%v after %d chunks", err, chunks)
	}
	stop := errors.New("the client left")
	if err := c.RangeStream(context.Background(), all, func(*pb.RangeResponse) error { return stop }); err != stop {
		t.Fatalf("%v", err)
	}
}

func TestNextChunk(t *testing.T) {
	for _, tc := range []struct {
		rows         int64
		size, target int
		want         int64
	}{
		{10, 499, 1000, 20}, {10, 500, 1000, 10}, {10, 2000, 1000, 10}, {10, 2001, 1000, 5}, {1, 9999, 1000, 1},
	} {
		if got := nextChunk(tc.rows, tc.size, tc.target); got != tc.want {
			t.Errorf("nextChunk(%d, %d, %d) = %d, want %d", tc.rows, tc.size, tc.target, got, tc.want)
		}
	}
}

// The checks of the revision come in etcd's order, before anything is read.
func TestRangeRevisions(t *testing.T) {
	n := newFakeNode(t)
	for range 9 {
		n.put("a", "v")
	}
	n.compacted = 5
	for _, tc := range []struct {
		rev  int64
		end  string
		want error
	}{
		{0, "", nil}, {-3, "", nil}, {10, "", nil}, {5, "", nil},
		{4, "", mvcc.ErrCompacted}, {11, "", mvcc.ErrFutureRevision},
		{4, "A", mvcc.ErrCompacted}, {11, "A", mvcc.ErrFutureRevision}, {10, "A", nil}, // [a, A) is empty
	} {
		req := &pb.RangeRequest{Key: []byte("a"), RangeEnd: []byte(tc.end), Revision: tc.rev}
		resp, err := n.client().Range(context.Background(), req)
		if !errors.Is(err, tc.want) || (err == nil && resp.Header.Revision != 10) {
			t.Errorf("%v: %v %v, want %v", req, resp, err, tc.want)
		}
		err = n.client().RangeStream(context.Background(), req, func(resp *pb.RangeResponse) error {
			if resp.Header.Revision != 10 {
				t.Errorf("%v: streamed %v", req, resp)
			}
			return nil
		})
		if !errors.Is(err, tc.want) {
			t.Errorf("%v: streamed: %v, want %v", req, err, tc.want)
		}
	}
}

// What happens between a read's first look and its last.
func TestReadBeginsAnew(t *testing.T) {
	point := &pb.RangeRequest{Key: []byte("a")}
	t.Run("not closed yet", func(t *testing.T) {
		n := newFakeNode(t)
		n.put("a", "1")
		n.ready = false
		if resp, err := n.client().Range(context.Background(), point); err != nil || resp.Count != 1 || n.tickets != 1 {
			t.Fatalf("%v %v, %d tickets", resp, err, n.tickets)
		}
	})
	t.Run("ranges moved", func(t *testing.T) {
		n := newFakeNode(t)
		n.put("a", "1")
		n.onValid = func() { n.gen++ }
		if resp, err := n.client().Range(context.Background(), point); err != nil || resp.Count != 1 {
			t.Fatalf("%v %v", resp, err)
		}
	})
	t.Run("S was compacted", func(t *testing.T) {
		n := newFakeNode(t)
		n.put("a", "1")
		n.onValid = func() {
			n.put("a", "2")
			n.compacted = n.current
		}
		resp, err := n.client().Range(context.Background(), point)
		if err != nil || string(resp.Kvs[0].Value) != "2" || resp.Header.Revision != 3 {
			t.Fatalf("%v %v", resp, err)
		}
	})
	t.Run("the named revision was compacted", func(t *testing.T) {
		n := newFakeNode(t)
		n.put("a", "1")
		n.put("a", "2")
		n.onValid = func() { n.compacted = n.current }
		old := &pb.RangeRequest{Key: []byte("a"), Revision: 2}
		if resp, err := n.client().Range(context.Background(), old); !errors.Is(err, mvcc.ErrCompacted) {
			t.Fatalf("%v %v", resp, err)
		}
	})
	t.Run("S was compacted, says who reads elsewhere", func(t *testing.T) {
		n := newFakeNode(t)
		n.put("a", "1")
		n.away = true
		pages := 0
		n.submit = func(c *Call) error {
			switch _, page := c.Req.(*PageRequest); {
			case page && pages == 0:
				n.put("a", "2")
				n.compacted = n.current
				c.Err = mvcc.ErrCompacted
				pages++
			case page:
				c.Resp = &peerpb.ReadPage{Count: 1}
			}
			c.Done <- struct{}{}
			return nil
		}
		count := &pb.RangeRequest{Key: []byte("a"), CountOnly: true}
		if resp, err := n.client().Range(context.Background(), count); err != nil || resp.Count != 1 || resp.Header.Revision != 3 {
			t.Fatalf("%v %v", resp, err)
		}
	})
	t.Run("for ever", func(t *testing.T) {
		n := newFakeNode(t)
		n.current, n.compacted = 5, 9 // Current lags behind for ever
		if _, err := n.client().Range(context.Background(), point); !errors.Is(err, ErrRangesMoved) {
			t.Fatal(err)
		}
	})
}

func TestReadTxn(t *testing.T) {
	n := newFakeNode(t, "um")
	n.put("a", "1")
	n.put("z", "2")
	n.ready = false
	req := parseTxn("compare a\nrange a\nrange z\nrange b a\nrange a \x00")
	req.Compare[0].Target, req.Compare[0].Result = pb.Compare_MOD, pb.Compare_EQUAL
	req.Compare[0].TargetUnion = &pb.Compare_ModRevision{ModRevision: 2}
	n.onValid = func() { n.gen++ }
	resp, err := n.client().Txn(context.Background(), req)
	if err != nil || !resp.Succeeded || resp.Header.Revision != 3 {
		t.Fatalf("%v %v", resp, err)
	}
	var counts []int64
	for _, r := range resp.Responses {
		counts = append(counts, r.GetResponseRange().Count)
	}
	if want := []int64{1, 1, 0, 2}; !slices.Equal(counts, want) || n.tickets == 0 {
		t.Fatalf("counts %v, want %v; %d tickets", counts, want, n.tickets)
	}
	// One that may write goes to the core.
	if _, err := n.client().Txn(context.Background(), parseTxn("put a")); !errors.Is(err, ErrBadRequest) {
		t.Fatal(err)
	}
}

// A client whose context ends leaves its call behind: the core answers into a
// call that nobody uses, and the next caller never sees that answer.
func TestCallIsLeftBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newFakeNode(t)
		c := n.client()
		var left *Call
		n.submit = func(call *Call) error {
			left = call
			return nil
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error)
		go func() {
			_, err := c.Put(ctx, &pb.PutRequest{Key: []byte("a")})
			done <- err
		}()
		synctest.Wait()
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		n.submit = func(call *Call) error {
			if call == left {
				t.Fatal("a call that the core still has was used again")
			}
			left.Resp = &pb.PutResponse{Header: &pb.ResponseHeader{Revision: 1}}
			left.Done <- struct{}{}
			call.Resp = &pb.PutResponse{Header: &pb.ResponseHeader{Revision: 2}}
			call.Done <- struct{}{}
			return nil
		}
		resp, err := c.Put(context.Background(), &pb.PutRequest{Key: []byte("b")})
		if err != nil || resp.Header.Revision != 2 {
			t.Fatalf("%v %v", resp, err)
		}
		n.submit = func(*Call) error { return ErrStopping }
		if _, err := c.Put(context.Background(), &pb.PutRequest{Key: []byte("b")}); !errors.Is(err, ErrStopping) {
			t.Fatal(err)
		}
	})
}

func TestSetSpan(t *testing.T) {
	r := &read{}
	for _, tc := range []struct {
		key, end string
		want     metapb.Span
		empty    bool
	}{
		{"a", "", keys.UserKeySpan([]byte("a")), false},
		{"a", "c", keys.UserSpan([]byte("a"), []byte("c")), false},
		{"a", "\x00", keys.UserSpan([]byte("a"), nil), false},
		{"\x00", "\x00", keys.UserSpan([]byte("\x00"), nil), false},
		{"c", "a", metapb.Span{}, true},
		{"c", "c", metapb.Span{}, true},
	} {
		ok := r.setSpan([]byte(tc.key), []byte(tc.end))
		if ok == tc.empty || (ok && (string(r.span.Start) != string(tc.want.Start) || string(r.span.End) != string(tc.want.End))) {
			t.Errorf("[%q, %q): %v [%q, %q), want [%q, %q)", tc.key, tc.end, ok, r.span.Start, r.span.End, tc.want.Start, tc.want.End)
		}
	}
}

// reusingNode spares the benchmark the costs of the fake.
type reusingNode struct {
	*fakeNode
	piece Piece
}

func (n *reusingNode) Pieces(dst []Piece, _ metapb.Span, _ metapb.Revision) []Piece {
	return append(dst, n.piece)
}

func BenchmarkRangePoint(b *testing.B) {
	n := &fakeNode{t: &testing.T{}, mem: engine.NewMem(), current: 1, compacted: -1, gen: 1, ready: true}
	n.put("a", "v")
	c, err := NewClient(ClientConfig{Local: &reusingNode{fakeNode: n, piece: Piece{Range: 1, Generation: 1, Ready: true}}})
	if err != nil {
		b.Fatal(err)
	}
	req := &pb.RangeRequest{Key: []byte("a")}
	ctx := context.Background()
	b.ReportAllocs()
	for b.Loop() {
		if resp, err := c.Range(ctx, req); err != nil || resp.Count != 1 {
			b.Fatal(resp, err)
		}
	}
}

// stoppingNode grants leases and tells nothing of what is current.
type stoppingNode struct{ *fakeNode }

func (stoppingNode) Direct() bool { return false }

func (stoppingNode) Submit(c *Call) error {
	switch req := c.Req.(type) {
	case *pb.LeaseGrantRequest:
		c.Resp = &pb.LeaseGrantResponse{ID: req.ID}
	case *RevokeRequest:
		c.Resp = &pb.DeleteRangeResponse{Header: &pb.ResponseHeader{}}
	default:
		return ErrStopping
	}
	c.Done <- struct{}{}
	return nil
}

// What is done is not refused for want of a header.
func TestDoneWithoutHeader(t *testing.T) {
	c, err := NewClient(ClientConfig{Local: stoppingNode{newFakeNode(t)}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.LeaseGrant(t.Context(), &pb.LeaseGrantRequest{ID: 1}); !errors.Is(err, ErrTimeout) {
		t.Errorf("grant: %v", err)
	}
	if _, err := c.LeaseRevoke(t.Context(), &pb.LeaseRevokeRequest{ID: 1}); !errors.Is(err, ErrTimeout) {
		t.Errorf("revoke: %v", err)
	}
	if _, err := c.LeaseLeases(t.Context(), &pb.LeaseLeasesRequest{}); !errors.Is(err, ErrStopping) {
		t.Errorf("leases: %v", err)
	}
}
