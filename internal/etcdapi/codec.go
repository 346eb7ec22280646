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
// of the KV service go through decode.go and encode.go, which know their fields
// by heart; everything else, and every input that these do not expect (unknown
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

// Marshal encodes a response.
func (c *codec) Marshal(v any) (mem.BufferSlice, error) {
	var out mem.BufferSlice
	switch m := v.(type) {
	case *pb.PutResponse:
		out = marshalHot(m, sizePutResponse, (*backWriter).putResponse)
	case *pb.RangeResponse:
		out = marshalHot(m, sizeRangeResponse, (*backWriter).rangeResponse)
	case *pb.TxnResponse:
		out = marshalHot(m, sizeTxnResponse, (*backWriter).txnResponse)
	case *pb.DeleteRangeResponse:
		out = marshalHot(m, sizeDeleteRangeResponse, (*backWriter).deleteRangeResponse)
	case *pb.RangeStreamResponse:
		out = marshalHot(m, sizeRangeStreamResponse, (*backWriter).rangeStreamResponse)
	default:
		var err error
		if out, err = c.rare.Marshal(v); err != nil {
			return nil, fmt.Errorf("marshal %T: %w", v, err)
		}
	}
	c.sent.Add(int64(out.Len()))
	return out, nil
}

// marshalHot encodes into a buffer of exactly the message's size; large ones
// come from gRPC's pool and go back to it when they have been sent.
func marshalHot[M any](m M, size func(M) int, write func(*backWriter, M)) mem.BufferSlice {
	n := size(m)
	if mem.IsBelowBufferPoolingThreshold(n) {
		w := backWriter{b: make([]byte, n), at: n}
		write(&w, m)
		w.done()
		return mem.BufferSlice{mem.SliceBuffer(w.b)}
	}
	pool := mem.DefaultBufferPool()
	buf := pool.Get(n)
	w := backWriter{b: *buf, at: n}
	write(&w, m)
	w.done()
	return mem.BufferSlice{mem.NewBuffer(buf, pool)}
}
