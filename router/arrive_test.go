package router

import (
	"errors"
	"fmt"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"github.com/flotilladb/flotilla/mvcc"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/peerpb"
)

// movingNode is one of several nodes. What it lacks another has, which is asked; a range
// that arrives has nothing before it is closed.
type movingNode struct {
	*fakeNode
	others  *fakeNode
	here    map[metapb.RangeID]bool
	closed  map[metapb.RangeID]bool
	onRead  func() // called once, when what is current is known
	onClose func() // called once, when what is here is closed
	onCount func() // called once, before a count
}

func newMovingNode(t *testing.T, keys int) *movingNode {
	n := &movingNode{
		fakeNode: newFakeNode(t, "um"), others: newFakeNode(t, "um"),
		here: map[metapb.RangeID]bool{}, closed: map[metapb.RangeID]bool{},
	}
	for i := range keys {
		n.others.put(fmt.Sprintf("%c%02d", "kz"[i%2], i), "v")
	}
	n.current = n.others.current
	return n
}

func (*movingNode) Direct() bool { return false }

func once(f *func()) {
	if do := *f; do != nil {
		*f = nil
		do()
	}
}

// arrive puts a range here that was not asked yet how far it is closed.
func (n *movingNode) arrive(id metapb.RangeID) { n.here[id], n.closed[id] = true, false }

// close has what is here come as far as what the others have.
func (n *movingNode) close() {
	for id := range n.here {
		if n.closed[id] {
			continue
		}
		n.closed[id] = true
		n.copyRows(id)
	}
}

func (n *movingNode) copyRows(id metapb.RangeID) {
	span := [][2]string{1: {"", "m"}, 2: {"m", ""}}[id]
	page, err := mvcc.ReadPage(n.others.mem, []byte(span[0]), []byte(span[1]), n.current, mvcc.PageOptions{})
	if err != nil {
		n.t.Fatal(err)
	}
	b := n.mem.NewBatch()
	defer b.Close()
	for _, kv := range page.KVs {
		st := mvcc.NewEngineStateAt(n.others.mem, nil, nil, metapb.Revision(kv.ModRevision)-1)
		res, err := mvcc.Evaluate(st, mvcc.Env{Revision: metapb.Revision(kv.ModRevision), Known: n.current, Compacted: -1},
			&pb.PutRequest{Key: kv.Key, Value: kv.Value})
		if e := st.Close(); err != nil || e != nil {
			n.t.Fatal(err, e)
		}
		for _, m := range res.Mutations {
			mvcc.AppendMutation(b, metapb.Revision(kv.ModRevision), m)
		}
	}
	if err := n.mem.Commit(b, true); err != nil {
		n.t.Fatal(err)
	}
}

// leave takes a range away, and its rows.
func (n *movingNode) leave(id metapb.RangeID) {
	delete(n.here, id)
	n.mem = newFakeNode(n.t).mem
	for id := range n.here {
		n.copyRows(id)
	}
}

func (n *movingNode) Pieces(dst []Piece, span metapb.Span, s metapb.Revision) []Piece {
	first := len(dst)
	dst = n.fakeNode.Pieces(dst, span, s)
	for i := range dst[first:] {
		p := &dst[first+i]
		if p.Ready = n.closed[p.Range]; !n.here[p.Range] {
			*p = Piece{Span: p.Span}
		}
	}
	return dst
}

func (n *movingNode) Valid(p Piece, rev metapb.Revision) bool {
	return n.here[p.Range] && n.fakeNode.Valid(p, rev)
}

func (n *movingNode) Count(start, end []byte, rev metapb.Revision) (int64, error) {
	once(&n.onCount)
	return n.fakeNode.Count(start, end, rev)
}

func (n *movingNode) Submit(c *Call) error {
	switch req := c.Req.(type) {
	case *ReadTicket:
		n.close()
		c.Resp = &ReadReply{S: n.current, Compacted: -1}
		once(&n.onRead)
	case *CloseTicket:
		n.close()
		once(&n.onClose)
	case *PageRequest:
		r := &req.Read
		page, err := mvcc.ReadPage(n.others.mem, r.Start, r.End, r.Revision,
			mvcc.PageOptions{LimitRows: r.LimitRows, BytesMax: r.BytesMax, KeysOnly: r.KeysOnly})
		out := &peerpb.ReadPage{Count: int64(len(page.KVs)), Next: page.Next}
		for _, kv := range page.KVs {
			out.Rows = append(out.Rows, peerpb.Row{
				Key: kv.Key, Value: kv.Value, CreateRevision: kv.CreateRevision, ModRevision: kv.ModRevision, Version: kv.Version,
			})
		}
		c.Resp, c.Err = out, err
	default:
		c.Err = ErrBadRequest
	}
	c.Done <- struct{}{}
	return nil
}

func (n *movingNode) client() *Client {
	c, err := NewClient(ClientConfig{Local: n, ChunkBytes: 300, ReadTriesMax: 5})
	if err != nil {
		n.t.Fatal(err)
	}
	return c
}

// A range that comes to this node while a read is being prepared, or is under way, was not
// closed for it.
func TestRangesComeAndGoUnderReads(t *testing.T) {
	all := &pb.RangeRequest{Key: []byte("k"), RangeEnd: []byte{0}}
	stream := func(n *movingNode, req *pb.RangeRequest, onChunk func()) *pb.RangeResponse {
		t.Helper()
		merged := &pb.RangeResponse{}
		err := n.client().RangeStream(t.Context(), req, func(resp *pb.RangeResponse) error {
			proto.Merge(merged, resp)
			once(&onChunk)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return merged
	}
	t.Run("one after the other", func(t *testing.T) {
		n := newMovingNode(t, 2)
		n.onRead = func() { n.arrive(1) }
		n.onClose = func() { n.arrive(2) }
		resp, err := n.client().Range(t.Context(), all)
		if want := n.others.twin(all); err != nil || !proto.Equal(resp, want) {
			t.Fatalf("%v\n got %v\nwant %v", err, resp, want)
		}
	})
	t.Run("between two chunks", func(t *testing.T) {
		n := newMovingNode(t, 40)
		n.arrive(1)
		got := stream(n, all, func() {
			n.arrive(2)
			n.gen++
		})
		if want := n.others.twin(all); !proto.Equal(got, want) {
			t.Fatalf("\n got %v\nwant %v", got, want)
		}
	})
	t.Run("before the rest is counted", func(t *testing.T) {
		n := newMovingNode(t, 40)
		n.arrive(1)
		n.arrive(2)
		n.onCount = func() { n.leave(2) }
		some := &pb.RangeRequest{Key: []byte("k"), RangeEnd: []byte{0}, Limit: 5}
		if got, want := stream(n, some, nil), n.others.twin(some); !proto.Equal(got, want) {
			t.Fatalf("\n got %v\nwant %v", got, want)
		}
	})
}

// lostNode is a node of several on which one range has not got on for long.
type lostNode struct {
	*fakeNode
	asked int
}

func (*lostNode) Direct() bool { return false }

func (n *lostNode) Submit(c *Call) error {
	n.asked++
	return ErrTooManyRequests // at once, where in a cluster nothing would come
}

func (n *lostNode) Pieces(dst []Piece, span metapb.Span, s metapb.Revision) []Piece {
	dst = n.fakeNode.Pieces(dst, span, s)
	for i := range dst {
		dst[i].Closed = 2
	}
	return dst
}

// A serializable read of what has not got on since before the last compaction is refused
// at once: it could only ask the same again.
func TestSerializableOfWhatIsCompacted(t *testing.T) {
	n := &lostNode{fakeNode: newFakeNode(t)}
	n.put("k", "v")
	c, err := NewClient(ClientConfig{Local: n})
	if err != nil {
		t.Fatal(err)
	}
	one := &pb.RangeRequest{Key: []byte("k"), Serializable: true}
	if resp, err := c.Range(t.Context(), one); err != nil || len(resp.Kvs) != 1 || resp.Header.Revision != 2 {
		t.Fatalf("before: %v, %v", resp, err)
	}
	n.current, n.compacted = 9, 5
	txn := &pb.TxnRequest{Success: []*pb.RequestOp{{Request: &pb.RequestOp_RequestRange{RequestRange: one}}}}
	for name, read := range map[string]func() error{
		"range": func() error { _, err := c.Range(t.Context(), one); return err },
		"txn":   func() error { _, err := c.Txn(t.Context(), txn); return err },
		"stream": func() error {
			return c.RangeStream(t.Context(), one, func(*pb.RangeResponse) error { return nil })
		},
	} {
		n.asked = 0
		if err := read(); !errors.Is(err, ErrTimeout) || n.asked != 1 {
			t.Errorf("%s: %v, asked %d times", name, err, n.asked)
		}
	}
}
