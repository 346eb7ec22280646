package etcdapi

import (
	"fmt"
	"sync/atomic"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	// Registers the codec that rare messages fall back to.
	protocodec "google.golang.org/grpc/encoding/proto"
)

// codec turns messages into bytes and back for the whole server. The messages
// of the KV service and of renewals go through decode.go and encode.go, which know
// their fields by heart; what goes to watches is bytes already; everything else, and every input that these do not expect (unknown
// fields, groups, repeated parts of a oneof), goes through the protobuf library.
// Either way the bytes and the messages are the same: codec_test.go fuzzes the
// one against the other.
type codec struct {
	rare     encoding.CodecV2
	received atomic.Int64 // bytes of requests, as metric
	sent     atomic.Int64 // bytes of responses, as metric
}

func newCodec() *codec {
	return &codec{rare: encoding.GetCodecV2(protocodec.Name)}
}

// Name is the content-subtype.
func (c *codec) Name() string { return protocodec.Name }

// Unmarshal decodes a request. The bytes of the message are copied once, into
// one block that all its keys and values point into: who keeps a key for longer
// than its request keeps the whole request, unless it clones the key.
func (c *codec) Unmarshal(data mem.BufferSlice, v any) error {
	c.received.Add(int64(data.Len()))
	switch m := v.(type) {
	case *pb.PutRequest:
		return unmarshalHot(data, m, decodePut)
	case *pb.RangeRequest:
		return unmarshalHot(data, m, decodeRange)
	case *pb.TxnRequest:
		return unmarshalHot(data, m, decodeTxn)
	case *pb.DeleteRangeRequest:
		return unmarshalHot(data, m, decodeDeleteRange)
	case *pb.LeaseKeepAliveRequest:
		return unmarshalKeepAlive(data, m)
	}
	return c.rare.Unmarshal(data, v)
}

// message is a generated message that can be emptied.
type message interface {
	proto.Message
	Reset()
}

// unmarshalHot decodes with a decoder that says no to what it does not expect,
// after which the protobuf library has the last word.
func unmarshalHot[M message](data mem.BufferSlice, m M, decode func(M, []byte) bool) error {
	own := data.Materialize()
	m.Reset()
	if decode(m, own) {
		return nil
	}
	return proto.Unmarshal(own, m)
}

// unmarshalKeepAlive decodes a renewal, of which nothing is kept: its bytes need
// no copy.
func unmarshalKeepAlive(data mem.BufferSlice, m *pb.LeaseKeepAliveRequest) error {
	m.Reset()
	if len(data) != 1 {
		return proto.Unmarshal(data.Materialize(), m)
	}
	if b := data[0].ReadOnlyData(); !decodeKeepAlive(m, b) {
		return proto.Unmarshal(b, m)
	}
	return nil
}

// Marshal encodes a response into a buffer of exactly its size; a large one
// comes from gRPC's pool and goes back to it when it has been sent.
func (c *codec) Marshal(v any) (mem.BufferSlice, error) {
	if m, ok := v.(*watchMessage); ok {
		c.sent.Add(int64(m.bytes.Len()))
		return m.bytes, nil
	}
	n, ok := sizeHot(v)
	if !ok {
		out, err := c.rare.Marshal(v)
		if err != nil {
			return nil, fmt.Errorf("marshal %T: %w", v, err)
		}
		c.sent.Add(int64(out.Len()))
		return out, nil
	}
	c.sent.Add(int64(n))
	if mem.IsBelowBufferPoolingThreshold(n) {
		b := make([]byte, n)
		writeHot(b, v)
		return mem.BufferSlice{mem.SliceBuffer(b)}, nil
	}
	pool := mem.DefaultBufferPool()
	b := pool.Get(n)
	writeHot(*b, v)
	return mem.BufferSlice{mem.NewBuffer(b, pool)}, nil
}

// sizeHot measures the responses that encode.go knows. It and writeHot are
// switches over direct calls: through a function value the writer would escape
// to the heap.
func sizeHot(v any) (n int, ok bool) {
	switch m := v.(type) {
	case *pb.PutResponse:
		return sizePutResponse(m), true
	case *pb.RangeResponse:
		return sizeRangeResponse(m), true
	case *pb.TxnResponse:
		return sizeTxnResponse(m), true
	case *pb.DeleteRangeResponse:
		return sizeDeleteRangeResponse(m), true
	case *pb.RangeStreamResponse:
		return sizeRangeStreamResponse(m), true
	case *pb.LeaseKeepAliveResponse:
		return sizeKeepAliveResponse(m), true
	}
	return 0, false
}

// writeHot fills b with a response. REQUIRES: len(b) is what sizeHot said.
func writeHot(b []byte, v any) {
	w := backWriter{b: b, at: len(b)}
	switch m := v.(type) {
	case *pb.PutResponse:
		w.putResponse(m)
	case *pb.RangeResponse:
		w.rangeResponse(m)
	case *pb.TxnResponse:
		w.txnResponse(m)
	case *pb.DeleteRangeResponse:
		w.deleteRangeResponse(m)
	case *pb.RangeStreamResponse:
		w.rangeStreamResponse(m)
	case *pb.LeaseKeepAliveResponse:
		w.keepAliveResponse(m)
	}
	w.done()
}
