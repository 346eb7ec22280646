package router

import (
	"bytes"
	"context"
	"math"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"

	"github.com/flotilladb/flotilla/mvcc"
	"github.com/flotilladb/flotilla/proto/metapb"
)

// firstChunkRows is how many keys the first chunk has: the client sees something
// soon, and its rows say how many fit the next.
const firstChunkRows = 10

// stream is one RangeStream under way.
type stream struct {
	c    *Client
	ctx  context.Context
	req  *pb.RangeRequest // the client's; not changed
	send func(*pb.RangeResponse) error
	r    *read

	header metapb.Revision // the S of the beginning
	rev    metapb.Revision // read at, by every chunk
	left   int64           // rows that the client still wants
	sent   int64
	chunk  int64 // rows of the next chunk
}

// RangeStream is Range in chunks, all of one revision, so that neither side
// holds the whole answer. Chunks have rows only; the last also has the header,
// the count and more. An error of send is returned as it is. Rows that are sorted
// by something else than the key are one chunk: the first of them may be the last
// that is read.
//
// A compaction above the revision ends the stream with mvcc.ErrCompacted, also
// if the client asked for the newest: the revision is what the chunks before
// were read at.
func (c *Client) RangeStream(ctx context.Context, req *pb.RangeRequest, send func(*pb.RangeResponse) error) error {
	if req.CountOnly || req.SortTarget != pb.RangeRequest_KEY {
		resp, err := c.Range(ctx, req)
		if err != nil {
			return err
		}
		return send(resp)
	}
	st := &stream{c: c, ctx: ctx, req: req, send: send, r: c.getRead(), left: req.Limit, chunk: firstChunkRows}
	defer c.putRead(st.r)
	if req.Limit <= 0 {
		st.left = math.MaxInt64
	}
	if !st.r.setSpan(req.Key, req.RangeEnd) {
		resp, err := c.Range(ctx, req) // nothing, but the revision is checked
		if err != nil {
			return err
		}
		return send(resp)
	}
	if err := st.begin(); err != nil {
		return err
	}
	start, _, _ := bounds(req.Key, req.RangeEnd)
	for start != nil {
		next, err := st.next(start)
		if err != nil {
			return err
		}
		start = next
	}
	return nil
}

// begin pins the revision and has the whole span closed there.
func (st *stream) begin() error {
	for range st.c.cfg.ReadTriesMax {
		s, compacted, err := st.c.currentRange(st.ctx, st.r, &st.r.span, st.req)
		if err != nil {
			return err
		}
		rev, again, err := revisionOf(st.req.Revision, s, compacted)
		if err != nil {
			return err
		}
		if again {
			continue
		}
		st.header, st.rev = s, rev
		return st.c.prepare(st.ctx, st.r, rev)
	}
	return ErrRangesMoved
}

// next reads and sends one chunk, and returns where the next begins, nil after
// the last.
func (st *stream) next(start []byte) ([]byte, error) {
	limit := min(st.chunk, st.left)
	kvs, cut, err := st.read(start, limit)
	if err != nil {
		return nil, err
	}
	var next []byte
	switch n := int64(len(kvs)); {
	case n > limit:
		next = kvs[limit].Key
		kvs = kvs[:limit]
	case cut && len(st.req.RangeEnd) > 0: // one key has nothing behind it
		next = append(bytes.Clone(kvs[n-1].Key), 0)
	}
	st.sent += int64(len(kvs))
	st.left -= int64(len(kvs))
	out := &pb.RangeResponse{Kvs: kvs}
	if next == nil || st.left == 0 {
		if err := st.finish(out, next); err != nil {
			return nil, err
		}
		next = nil
	}
	size := proto.Size(out)
	if err := st.send(out); err != nil {
		return nil, err
	}
	st.chunk = nextChunk(limit, size, st.c.cfg.ChunkBytes)
	return next, nil
}

// finish makes a chunk the last: header, more, and the count of what was sent
// and of what would follow at next.
func (st *stream) finish(out *pb.RangeResponse, next []byte) error {
	out.Header = &pb.ResponseHeader{Revision: int64(st.header)}
	out.Count = st.sent
	if next == nil {
		return nil
	}
	_, end, _ := bounds(st.req.Key, st.req.RangeEnd)
	for range st.c.cfg.ReadTriesMax {
		rest, err := st.c.count(st.ctx, st.r.pieces, next, end, st.rev)
		if st.c.valid(st.r.pieces, st.rev) {
			out.Count += rest
			out.More = rest > 0
			return err
		}
		if err := st.again(); err != nil {
			return err
		}
	}
	return ErrRangesMoved
}

// again looks up the pieces anew, since they are not what they were.
func (st *stream) again() error {
	if st.compacted() {
		return mvcc.ErrCompacted
	}
	if err := st.ctx.Err(); err != nil {
		return err
	}
	return st.c.prepare(st.ctx, st.r, st.rev)
}

// compacted reports whether the revision of the stream may no longer be read.
func (st *stream) compacted() bool {
	_, compacted := st.c.cfg.Local.Current()
	return st.rev < compacted
}

// read reads up to limit rows and, if there is one, the row after them. cut says
// that it stopped before, since the rows are large.
func (st *stream) read(start []byte, limit int64) (kvs []*mvccpb.KeyValue, cut bool, err error) {
	opts := mvcc.PageOptions{
		LimitRows: limit,
		BytesMax:  2 * st.c.cfg.ChunkBytes,
		KeysOnly:  mvcc.PlanRange(st.req).KeysOnly,
	}
	if limit < math.MaxInt64 {
		opts.LimitRows++
	}
	for range st.c.cfg.ReadTriesMax {
		kvs, cut, err = st.c.rows(st.ctx, st.r.pieces, start, st.rev, opts)
		if st.c.valid(st.r.pieces, st.rev) {
			return kvs, cut, err
		}
		if err := st.again(); err != nil {
			return nil, false, err
		}
	}
	return nil, false, ErrRangesMoved
}

// nextChunk steers the size of chunks to a target: rows double below half of it
// and halve above twice of it, and stay in between, so that they do not swing.
func nextChunk(rows int64, size, target int) int64 {
	switch {
	case size < target/2 && rows <= math.MaxInt64/2:
		return rows * 2
	case size > target*2:
		return max(rows/2, 1)
	}
	return rows
}
