package router

import (
	"context"
	"errors"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/flotilladb/flotilla/mvcc"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/peerpb"
)

// ClientConfig sets a Client up.
type ClientConfig struct {
	// Local is the node.
	Local Local
	// ChunkBytes is the size that chunks of RangeStream approach. 0: 1.5 MiB.
	ChunkBytes int
	// PageBytesMax bounds what a read takes from the engine before it looks
	// whether the client is still there. 0: 4 MiB.
	PageBytesMax int
	// ReadTriesMax bounds how often a read begins anew because ranges moved or
	// were compacted under it. 0: 100.
	ReadTriesMax int
	// SerializableWait is how long a serializable read waits for what is current.
	// 0: 250 ms.
	SerializableWait time.Duration
}

// Validate fills in the defaults and reports what cannot work.
func (c *ClientConfig) Validate() error {
	setDefault(&c.ChunkBytes, 3<<19)
	setDefault(&c.PageBytesMax, 4<<20)
	setDefault(&c.ReadTriesMax, 100)
	if c.SerializableWait == 0 {
		c.SerializableWait = 250 * time.Millisecond
	}
	switch {
	case c.Local == nil:
		return errors.New("client config: no node")
	case c.ChunkBytes < 0 || c.PageBytesMax < 0 || c.ReadTriesMax < 0 || c.SerializableWait < 0:
		return errors.New("client config: negative bound")
	}
	return nil
}

// Client is the KV service for the goroutines of one node's API: it blocks, and
// everything that decides is in the node's core, or, for reads, in what the
// node published. Requests must be of valid shape (mvcc.Validate…). Responses
// have the revision in their header and nothing else.
//
// It is safe for concurrent use and starts no goroutine.
type Client struct {
	cfg   ClientConfig
	calls sync.Pool // *Call
	reads sync.Pool // *read
}

// NewClient returns a client of a node.
func NewClient(cfg ClientConfig) (*Client, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return &Client{cfg: cfg}, nil
}

// Put stores a key. The outcome is unknown after an error of the context,
// ErrTimeout or peerpb.ErrUnknown.
func (c *Client) Put(ctx context.Context, req *pb.PutRequest) (*pb.PutResponse, error) {
	return do[*pb.PutResponse](c, ctx, req)
}

// DeleteRange deletes keys, at one revision. Errors are as Put's.
func (c *Client) DeleteRange(ctx context.Context, req *pb.DeleteRangeRequest) (*pb.DeleteRangeResponse, error) {
	return do[*pb.DeleteRangeResponse](c, ctx, req)
}

// Txn compares and then acts, at one revision. A transaction that cannot write
// is a read. Errors are as Put's.
func (c *Client) Txn(ctx context.Context, req *pb.TxnRequest) (*pb.TxnResponse, error) {
	if mvcc.IsReadOnly(req) {
		return c.readTxn(ctx, req)
	}
	return do[*pb.TxnResponse](c, ctx, req)
}

// Compact makes the states before a revision unreadable. With physical it
// returns when the node has removed them.
func (c *Client) Compact(ctx context.Context, req *pb.CompactionRequest) (*pb.CompactionResponse, error) {
	return do[*pb.CompactionResponse](c, ctx, req)
}

// Split cuts the range that holds a key just before the key.
func (c *Client) Split(ctx context.Context, key []byte) (*peerpb.SplitDone, error) {
	return do[*peerpb.SplitDone](c, ctx, &SplitRequest{Key: key})
}

// Transfer hands the leadership of a range to a store.
func (c *Client) Transfer(ctx context.Context, d *metapb.Descriptor, to metapb.StoreID) (*peerpb.Transferred, error) {
	return do[*peerpb.Transferred](c, ctx, &AddressRequest{Address: d.Start, Body: &peerpb.Transfer{To: to}})
}

// CheckRange has the replicas of a range compare what they have.
func (c *Client) CheckRange(ctx context.Context, d *metapb.Descriptor) (*peerpb.RangeChecked, error) {
	return do[*peerpb.RangeChecked](c, ctx, &AddressRequest{Address: d.Start, Body: &peerpb.CheckRange{}})
}

// System has the system range carry out an operation of package placement.
func (c *Client) System(ctx context.Context, op any) (any, error) {
	return c.call(ctx, &SystemRequest{Op: op})
}

// do is call for a response of type T.
func do[T any](c *Client, ctx context.Context, req any) (T, error) {
	resp, err := c.call(ctx, req)
	if err != nil {
		var none T
		return none, err
	}
	return resp.(T), nil
}

// call hands a request to the node's core and waits. When the context ends
// first, the call is left to the core, which signals it to nobody: only a call
// whose signal was taken may be used again.
func (c *Client) call(ctx context.Context, req any) (any, error) {
	call, _ := c.calls.Get().(*Call)
	if call == nil {
		call = &Call{Done: make(chan struct{}, 1)}
	}
	call.Req = req
	if err := c.cfg.Local.Submit(call); err != nil {
		call.Req = nil
		c.calls.Put(call)
		return nil, err
	}
	select {
	case <-call.Done:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	resp, err := call.Resp, call.Err
	call.Req, call.Resp, call.Err = nil, nil, nil
	c.calls.Put(call)
	return resp, err
}

// Closed returns when every range over a span of addresses is closed at s there:
// a read at s of the node's engine misses nothing.
func (c *Client) Closed(ctx context.Context, s metapb.Revision, span metapb.Span) error {
	// The ticket may outlive the span.
	_, err := c.call(ctx, &CloseTicket{S: s, Span: cloneSpan(span)})
	return err
}
